"""The rules of the house as functions over the package's syntax trees; each yields what breaks it."""

import ast
from pathlib import Path

# A room may import itself, every room below it and the root files. Rooms of one level never meet.
STAIRS = (
    ("kernels", "tokenizer"),
    ("data", "model"),
    ("parallel", "quant"),
    ("plan",),
    ("train", "engine"),
    ("eval",),
    ("safety",),
    ("tune", "serve", "release"),
    ("recipes", "cli"),
)
LEVEL = {room: level for level, rooms in enumerate(STAIRS) for room in rooms}
TORCH_FREE = (
    "kernels",
    "data",
    "tokenizer",
    "plan",
    "serve",
    "model.config",
    "parallel.layout",
    "parallel.stages",
    "engine.request",
    "engine.step",
    "engine.pages",
    "engine.scheduler",
    "engine.sample",
    "engine.grammar",
)  # and the root files
FILE_LINES, FUNCTION_LINES, ARGUMENTS, COLUMNS = 400, 60, 8, 110
RADIUS = {
    "model.transformer": 900,
    "train.run": 5_500,
    "data.filters": 600,
}  # the last one for each file below it


class Package:
    """Every module of the package at `root`, parsed once: {dotted name: (path, tree, lines)}."""

    def __init__(self, root):
        self.root, self.name, self.modules = Path(root), Path(root).name, {}
        for path in sorted(self.root.rglob("*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text()
            self.modules[dotted] = path, ast.parse(text), text.splitlines()

    def room(self, dotted):
        return dotted.split(".")[0] if dotted.split(".")[0] in LEVEL else "root"

    def imports(self, dotted, at_import_time=False):
        """(absolute module name, line) of every import; relative ones come as ("relative", line)."""
        todo = [self.modules[dotted][1]]
        while todo:
            node = todo.pop()
            if at_import_time and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if at_import_time and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                continue
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level:
                yield "relative", node.lineno
            elif isinstance(node, ast.ImportFrom):
                yield node.module, node.lineno
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
            todo.extend(ast.iter_child_nodes(node))

    def reach(self, dotted):
        """Modules of the package reached by importing `dotted` (and itself), and what they import from
        outside.

        Files `__init__.py` on the way count, because Python runs them.
        """
        seen, outside, todo = set(), set(), [dotted]
        while todo:
            module = todo.pop()
            for depth in range(len(module.split(".")) + 1):
                here = ".".join(module.split(".")[:depth])
                if here not in self.modules or here in seen:
                    continue
                seen.add(here)
                for name, _ in self.imports(here, at_import_time=True):
                    head, _, rest = name.partition(".")
                    todo.append(rest) if head == self.name else outside.add(head)
        return seen, outside

    def where(self, dotted, line=None):
        return str(self.modules[dotted][0].relative_to(self.root)) + (f":{line}" if line else "")


def rooms_import_only_downstairs(package):
    for dotted in package.modules:
        room = package.room(dotted)
        for name, line in package.imports(dotted):
            head, _, rest = name.partition(".")
            if head == "relative":
                yield f"{package.where(dotted, line)} imports relatively: write the full name"
            other = package.room(rest) if head == package.name and rest else "root"
            if other in ("root", room):
                continue
            if room == "root" or LEVEL[other] >= LEVEL[room]:
                yield f"{package.where(dotted, line)} imports {name}: {other} does not stand below {room}"


def torch_free_means_at_second_hand_too(package):
    for dotted in package.modules:
        free = package.room(dotted) == "root" or any(
            f"{dotted}.".startswith(f"{name}.") for name in TORCH_FREE
        )
        if free and "torch" in package.reach(dotted)[1]:
            yield f"{package.where(dotted)} reaches torch"


def nothing_grows_out_of_sight(package):
    for dotted, (_, tree, lines) in package.modules.items():
        if len(lines) > FILE_LINES:
            yield f"{package.where(dotted)} has {len(lines)} lines (at most {FILE_LINES})"
        if tree.body and not ast.get_docstring(tree):
            yield f"{package.where(dotted)} does not say what it is: add a module docstring"
        for node in ast.walk(tree):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            where, length = (
                f"{package.where(dotted, node.lineno)} {node.name}",
                node.end_lineno - node.lineno + 1,
            )
            if length > FUNCTION_LINES:
                yield f"{where} has {length} lines (at most {FUNCTION_LINES})"
            if len(node.args.args) + len(node.args.kwonlyargs) > ARGUMENTS:
                yield f"{where} takes too many arguments: pass a config"


def rooms_have_empty_inits_and_only_the_cli_prints(package):
    for dotted, (path, tree, lines) in package.modules.items():
        if path.name == "__init__.py" and path.parent != package.root and tree.body:
            yield f"{package.where(dotted)} is not empty: import from the file that owns the name"
        for number, line in enumerate(lines, 1):
            if len(line) > COLUMNS:
                yield f"{package.where(dotted, number)} is {len(line)} columns wide (at most {COLUMNS})"
        for node in ast.walk(tree):
            called = isinstance(node, ast.Call) and getattr(node.func, "id", "")
            if called == "print" and package.room(dotted) != "cli":
                yield f"{package.where(dotted, node.lineno)} prints: call log.event"


def a_reader_can_hold_it(package):
    for dotted in package.modules:
        for entry, most in RADIUS.items():
            if f"{dotted}.".startswith(f"{entry}."):
                radius = sum(len(package.modules[name][2]) for name in package.reach(dotted)[0])
                if radius > most:
                    yield f"{package.where(dotted)} drags in {radius} lines (at most {most})"


RULES = (
    rooms_import_only_downstairs,
    torch_free_means_at_second_hand_too,
    nothing_grows_out_of_sight,
    rooms_have_empty_inits_and_only_the_cli_prints,
    a_reader_can_hold_it,
)
