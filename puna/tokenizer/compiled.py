"""A template's text made ready to render under the meter of `sandbox.py`.

Jinja's own parser reads it. Then each loop body, macro body and operand that can grow is given a filter
that pays; their names, such as `(pay)`, are none that a template can write, so it can neither call nor
replace them.
"""

from typing import Any

from jinja2 import meta, nodes
from jinja2.visitor import NodeTransformer

from puna.errors import TokenizerError, need
from puna.tokenizer.meter import CHARACTERS
from puna.tokenizer.sandbox import (
    ALLOWANCE,
    DEEPEST,
    FAILURES,
    LONGEST_SOURCE,
    MOST_NODES,
    PER_CHARACTER,
    PER_ITEM,
    STATEMENTS,
    Sandbox,
)


class Compiled:
    """`render(**names)`; `reads`, the names the template looks for; `branches`, numbered for `reached`."""

    def __init__(self, source: str):
        need(
            len(source) <= LONGEST_SOURCE,
            f"the chat template is {len(source):,} characters long; at most {LONGEST_SOURCE:,} are read",
            error=TokenizerError,
        )
        self._sandbox = Sandbox()
        self._sandbox.meter.left = ALLOWANCE
        try:
            tree = self._sandbox.parse(source)
            _check(tree)
            self.reads = frozenset(meta.find_undeclared_variables(tree))
            metering = _Metering()
            tree = metering.visit(tree)
            tree.set_environment(self._sandbox)
            self._template = self._sandbox.from_string(tree)  # type: ignore[arg-type]
        except FAILURES as problem:
            raise TokenizerError(f"the chat template is not valid Jinja: {_said(problem)}") from None
        self.branches = frozenset(range(metering.branches)) - metering.refusals

    def render(self, names: dict[str, Any], reached: set[int] | None = None) -> str:
        meter = self._sandbox.meter
        meter.left = ALLOWANCE + _allowed(names)
        meter.reached = set() if reached is None else reached
        try:
            return self._template.render(names)
        except FAILURES as problem:
            raise TokenizerError(f"the chat template fails on this conversation: {_said(problem)}") from None


def _said(problem: BaseException) -> str:
    if isinstance(problem, RecursionError):
        return "it calls itself without end"
    return f"{type(problem).__name__}: {str(problem)[:300]}"


def _allowed(value: Any) -> float:
    """What a template may spend on this input."""
    if isinstance(value, str):
        return PER_ITEM + PER_CHARACTER * len(value)
    if isinstance(value, dict):
        return PER_ITEM + sum(map(_allowed, value.keys())) + sum(map(_allowed, value.values()))
    if isinstance(value, (list, tuple)):
        return PER_ITEM + sum(map(_allowed, value))
    return PER_ITEM


def _check(tree: nodes.Template) -> None:
    """Refuse statements that chat templates do not use, and sizes that none has."""
    waiting: list[tuple[nodes.Node, int]] = [(tree, 0)]
    seen = 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if isinstance(node, nodes.Stmt):
            known = isinstance(node, STATEMENTS)
            need(known, f"{type(node).__name__} has no place in a chat template", error=TokenizerError)
            depth += 1
        need(
            depth <= DEEPEST and seen <= MOST_NODES,
            "the chat template is nested too deep or too large",
            error=TokenizerError,
        )
        waiting += [(child, depth) for child in node.iter_child_nodes()]


class _Metering(NodeTransformer):
    """Puts the paying filters in. A branch is a body, or an operand that may be skipped."""

    def __init__(self) -> None:
        self.branches = 0
        self.refusals: set[int] = set()  # branches that only raise an exception: a probe need not reach them

    def _body(self, statements: list[nodes.Node], line: int) -> list[nodes.Node]:
        """The statements, after one that pays for a turn and marks the branch as reached."""
        units = 1 + sum(map(_weight, statements))
        if any(_refuses(statement) for statement in statements):
            self.refusals.add(self.branches)
        paying = nodes.ExprStmt(self._paid(nodes.Const(True), units))
        return [paying.set_lineno(line), *statements]

    def _paid(self, node: nodes.Expr, units: float) -> nodes.Expr:
        self.branches += 1
        return _filtered(node, "(pay)", nodes.Const(units), nodes.Const(self.branches - 1))

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if isinstance(node, (nodes.For, nodes.If, nodes.Macro, nodes.CallBlock)):
            node.body = self._body(node.body, node.lineno)
        if isinstance(node, (nodes.For, nodes.If)) and node.else_:
            node.else_ = self._body(node.else_, node.lineno)
        super().generic_visit(node, *args, **kwargs)
        if isinstance(node, nodes.For) and node.test:
            node.test = nodes.And(_filtered(nodes.Const(True), "(pay)", nodes.Const(1)), node.test)
        elif isinstance(node, nodes.Compare):
            node.expr = _filtered(node.expr, "(weigh)")
            for operand in node.ops:
                operand.expr = _filtered(operand.expr, "(weigh)")
        elif isinstance(node, nodes.Concat):
            return _filtered(nodes.List(node.nodes), "(concat)")
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            return _filtered(node, "(size)")
        elif isinstance(node, nodes.Pair) and not isinstance(node.key, nodes.Const):
            node.key = _filtered(node.key, "(weigh)")  # it will be hashed
        elif isinstance(node, nodes.CondExpr):
            node.expr1 = self._paid(node.expr1, 1)
            node.expr2 = self._paid(node.expr2, 1) if node.expr2 else None
        elif isinstance(node, (nodes.And, nodes.Or)):
            node.right = self._paid(node.right, 1)
        return node


def _filtered(node: nodes.Expr, name: str, *args: nodes.Expr) -> nodes.Filter:
    made = nodes.Filter(node, name, list(args), [], None, None)
    made.set_lineno(node.lineno or 1)
    return made


def _weight(node: nodes.Node) -> float:
    """What one turn through a body costs: its nodes, and the text that it writes."""
    inside = [node, *node.find_all(nodes.Node)]
    written = sum(len(part.data) for part in inside if isinstance(part, nodes.TemplateData))
    return len(inside) / 8 + written / CHARACTERS


def _refuses(statement: nodes.Node) -> bool:
    return isinstance(statement, nodes.Output) and any(
        isinstance(node, nodes.Call)
        and isinstance(node.node, nodes.Name)
        and node.node.name == "raise_exception"
        for node in statement.nodes
    )
