"""Shape comments that are executed: compare each trailing `# (B, T, D)` with the tensor that its line
assigned.

A capital name binds to a size the first time it is seen in a call and must agree afterwards; numbers must
match; `...` is any prefix; products such as `H*Dh` are computed; any other comment is ignored. It uses
sys.settrace, so it cannot run under a coverage tool, and a loop over things of different sizes needs its
body in a function of its own.
"""

import ast
import re
import sys
from pathlib import Path

SHAPE = re.compile(r"#\s*\(([^()]*)\)\s*$")
LETTER = re.compile(r"[A-Z][A-Za-z0-9]*")
DIM = re.compile(r"\.\.\.|[A-Z][A-Za-z0-9]*|\d+|[A-Z\d][A-Za-z\d]*([*/+-][A-Z\d][A-Za-z\d]*)+")


def claims(path):
    """{first line of an assignment: (names it assigns, dims its comment claims, last line)} for one file."""
    lines = Path(path).read_text().splitlines()
    found = {}
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            match = SHAPE.search(lines[node.end_lineno - 1])
            dims = [dim.strip() for dim in match.group(1).split(",") if dim.strip()] if match else []
            if not dims or not all(DIM.fullmatch(dim) for dim in dims):
                continue
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
            found[node.lineno] = (names, dims, node.end_lineno)
    return found


class ShapeChecker:
    """Context manager: trace the given files and raise at the first shape comment that is not true."""

    def __init__(self, *paths):
        self.claims = {str(Path(path).resolve()): claims(path) for path in paths}
        self.names = {}  # co_filename -> resolved path
        self.sizes = {}  # frame id -> {letter: size}
        self.pending = {}  # frame id -> line of the claim now being executed
        self.checked = 0

    def __enter__(self):
        self.previous = sys.gettrace()
        sys.settrace(self._on_call)
        return self

    def __exit__(self, *exc):
        sys.settrace(self.previous)

    def _file(self, frame):
        name = frame.f_code.co_filename
        if name not in self.names:
            self.names[name] = str(Path(name).resolve())
        return self.names[name]

    def _on_call(self, frame, event, arg):
        if self._file(frame) not in self.claims:
            return None
        self.sizes[id(frame)] = {}
        self.pending[id(frame)] = None
        return self._on_line

    def _on_line(self, frame, event, arg):
        here = self.claims[self._file(frame)]
        line = self.pending.get(id(frame))
        if line is not None and event in ("line", "return"):
            names, dims, last = here[line]
            still_inside = event == "line" and line <= frame.f_lineno <= last
            if not still_inside:
                self._check(frame, line, names, dims)
                self.pending[id(frame)] = None
        if event == "line" and frame.f_lineno in here:
            self.pending[id(frame)] = frame.f_lineno
        if event == "return":
            self.sizes.pop(id(frame), None)
            self.pending.pop(id(frame), None)
        return self._on_line

    def _check(self, frame, line, names, dims):
        sizes = self.sizes[id(frame)]
        for name in names:
            shape = getattr(frame.f_locals.get(name), "shape", None)
            if shape is None:
                continue
            want, have = list(dims), list(shape)
            if want[0] == "...":
                want = want[1:]
                have = have[len(have) - len(want) :]
            where = f"{Path(frame.f_code.co_filename).name}:{line}: {name} is {tuple(shape)}"
            said = f"but its comment says ({', '.join(dims)})"
            if len(want) != len(have):
                raise AssertionError(f"{where}, {said}")
            for dim, size in zip(want, have, strict=True):
                if LETTER.fullmatch(dim) and dim not in sizes:
                    sizes[dim] = size
                    continue
                try:
                    expected = eval(dim.replace("/", "//"), {"__builtins__": {}}, sizes)
                except NameError:  # a product of letters not bound yet: nothing to hold it to
                    continue
                if expected != size:
                    raise AssertionError(f"{where}, {said} with {dim}={expected}")
            self.checked += 1
