"""Jinja with a meter: a chat template from a file may be hostile, and still ends in bounded time and memory.

A thread cannot be killed, so the bound is inside. Every loop turn, macro call, operator, filter and method
pays before it works: one unit, and one for each 16 characters or each element that it reads or makes. What
the template may spend grows only with its input. Statements that chat templates have no use for (include,
extends, block) are refused. The settings, `tojson` and the names a template finds are those of
transformers, so that good templates mean the same.
"""

import datetime
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2 import TemplateError, nodes, pass_context
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from puna.errors import TokenizerError, need
from puna.tokenizer.meter import CHARACTERS, WIDEST, Exhausted, Meter, attributes_of

LONGEST_SOURCE = 1 << 18  # characters; the longest template in use that I know has 17,000
MOST_NODES = 20_000
DEEPEST = 40  # statements inside statements
ALLOWANCE = 400_000  # units for a template without input: about a second at worst
PER_ITEM, PER_CHARACTER = 1_000, 4

STATEMENTS = (
    nodes.Template, nodes.Output, nodes.For, nodes.If, nodes.Macro, nodes.CallBlock, nodes.FilterBlock,
    nodes.With, nodes.Assign, nodes.AssignBlock, nodes.ExprStmt, nodes.Break, nodes.Continue, nodes.Scope,
)  # fmt: skip
FILTERS = frozenset(
    [
        "abs",
        "batch",
        "capitalize",
        "center",
        "count",
        "d",
        "default",
        "dictsort",
        "e",
        "escape",
        "first",
        "float",
        "format",
        "groupby",
        "indent",
        "int",
        "items",
        "join",
        "last",
        "length",
        "list",
        "lower",
        "map",
        "max",
        "min",
        "reject",
        "rejectattr",
        "replace",
        "reverse",
        "round",
        "safe",
        "select",
        "selectattr",
        "slice",
        "sort",
        "string",
        "title",
        "tojson",
        "trim",
        "truncate",
        "unique",
        "upper",
        "wordcount",
    ]
)
METHODS = {
    str: frozenset(
        [
            "capitalize",
            "casefold",
            "center",
            "count",
            "endswith",
            "find",
            "format",
            "index",
            "isalnum",
            "isalpha",
            "isascii",
            "isdecimal",
            "isdigit",
            "islower",
            "isnumeric",
            "isspace",
            "istitle",
            "isupper",
            "join",
            "ljust",
            "lower",
            "lstrip",
            "partition",
            "removeprefix",
            "removesuffix",
            "replace",
            "rfind",
            "rindex",
            "rjust",
            "rpartition",
            "rsplit",
            "rstrip",
            "split",
            "splitlines",
            "startswith",
            "strip",
            "swapcase",
            "title",
            "upper",
            "zfill",
        ]
    ),
    dict: frozenset(("copy", "get", "items", "keys", "values")),
    list: frozenset(("copy", "count", "index")),
    tuple: frozenset(("count", "index")),
    LoopContext: frozenset(
        [
            "changed",
            "cycle",
            "depth",
            "depth0",
            "first",
            "index",
            "index0",
            "last",
            "length",
            "nextitem",
            "previtem",
            "revindex",
            "revindex0",
        ]
    ),
}
FAILURES = (  # what evaluating a wrong template may raise
    TemplateError, ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NameError,
    RuntimeError, SyntaxError, TypeError, ValueError,
)  # fmt: skip
_WIDE = re.compile(r"%[^a-zA-Z%]*(\d{4}|\*)|[{:][^{}]*\d{4}|:[^{}]*\{")  # a format that pads, or is computed


class Sandbox(ImmutableSandboxedEnvironment):
    """One template's environment; `compile_` and `render` raise TokenizerError and nothing else."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, LoopControlExtension])
        self.meter = Meter()
        self.finalize = self._printed
        kept = {"range": self.globals["range"], "dict": dict, "namespace": SafeNamespace}
        self.globals.clear()
        self.globals.update(kept, raise_exception=_raise, strftime_now=_now)
        self.filters = {name: self._filter(name, self.filters[name]) for name in FILTERS}
        self.filters["tojson"] = self._filter("tojson", _json)
        tests: Mapping[str, Any] = self.tests
        self.tests = {name: self._test(test) for name, test in tests.items()}
        self.filters.update(
            {"(pay)": self._pay, "(weigh)": self._weigh, "(size)": self._size, "(concat)": self._concat}
        )

    # ---- what a template may touch

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, Namespace):
            return not attr.startswith("_")
        return any(isinstance(obj, kind) and attr in names for kind, names in METHODS.items())

    def getitem(self, obj: Any, argument: Any) -> Any:
        if not isinstance(argument, (str, int)):
            self.meter.weigh(argument)  # it will be hashed
        return super().getitem(obj, argument)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        meter = __self.meter
        meter.pay(1)
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps str.format
        owner = getattr(method, "__self__", None)
        if isinstance(owner, (str, dict, list, tuple)):
            __self._pay_for_method(owner, method.__name__, (*args, *kwargs.values()))
        elif not isinstance(__obj, Macro):
            for argument in (*args, *kwargs.values()):
                meter.weigh(argument)
        return meter.size(super().call(__context, __obj, *args, **kwargs))

    def _pay_for_method(self, owner: Any, name: str, args: tuple[Any, ...]) -> None:
        weight = self.meter.weigh(owner) if isinstance(owner, (str, list, tuple)) else 0
        weight += sum(map(self.meter.weigh, args))
        if not isinstance(owner, str):
            return
        if name == "replace" and len(args) > 1:
            self._pay_for_replace(owner, args[0], args[1])
        elif name == "join" and args:
            self._pay_for_join(args[0], owner)
        elif name == "format":
            _refuse_wide(owner)
            self.meter.pay(owner.count("{") * weight)
        elif name in ("center", "ljust", "rjust", "zfill"):
            self.meter.pay(max((arg for arg in args if isinstance(arg, int)), default=0) / CHARACTERS)
        elif "split" in name or name == "partition":
            self.meter.pay(len(owner) / 4)

    def _pay_for_replace(self, text: Any, old: Any, new: Any) -> None:
        self.meter.pay(str(text).count(str(old)) * len(str(new)) / CHARACTERS)

    def _pay_for_join(self, items: Any, by: Any) -> None:
        if hasattr(items, "__len__"):
            self.meter.pay(len(items) * len(str(by)) / CHARACTERS)

    # ---- operators

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        meter = self.meter
        meter.size(left)
        meter.size(right)
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, int) and isinstance(other, (str, list, tuple)):
                    meter.pay(max(one, 0) * (1 + len(other)) / CHARACTERS)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            need(
                left.bit_length() * right <= WIDEST,
                "the chat template makes a power too large",
                error=Exhausted,
            )
        elif operator == "%" and isinstance(left, str):
            _refuse_wide(left)
            meter.pay((1 + left.count("%")) * meter.weigh(right))
        return meter.size(super().call_binop(context, operator, left, right))

    # ---- filters and tests

    def _filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        wants = getattr(getattr(function, "jinja_pass_arg", None), "name", "")

        @pass_context  # also keeps Jinja from working constants out when it compiles
        def metered(context: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
            self._pay_for_filter(name, value, (*args, *kwargs.values()))
            if isinstance(value, Iterator):
                value = self.meter.each(value)
            first = {"context": [context], "eval_context": [context.eval_ctx], "environment": [self]}.get(
                wants, []
            )
            return self.meter.size(function(*first, value, *args, **kwargs))

        return metered

    def _pay_for_filter(self, name: str, value: Any, args: tuple[Any, ...]) -> None:
        weight = self.meter.weigh(value) + sum(map(self.meter.weigh, args))
        if name in ("batch", "center", "round", "slice", "truncate"):
            self.meter.pay(sum(abs(argument) for argument in args if isinstance(argument, int)))
        elif name in ("indent", "tojson"):  # for each line or element, as much as the arguments say
            numbers = sum(abs(argument) for argument in args if isinstance(argument, int))
            self.meter.pay(weight * (numbers + sum(map(self.meter.weigh, args))))
        elif name == "replace" and len(args) > 1:
            self._pay_for_replace(value, args[0], args[1])
        elif name == "join" and args:
            self._pay_for_join(value, args[0])
        elif name == "format":
            _refuse_wide(str(value))
            self.meter.pay(str(value).count("%") * weight)

    def _test(self, function: Callable[..., Any]) -> Callable[..., Any]:
        wants = getattr(getattr(function, "jinja_pass_arg", None), "name", None)

        @pass_context
        def metered(context: Any, value: Any, *args: Any) -> Any:
            if args:
                for argument in (value, *args):
                    self.meter.weigh(argument)
            return function(*([self] if wants == "environment" else []), value, *args)

        return metered

    # ---- what `metered` puts into the template

    @pass_context
    def _pay(self, context: Any, value: Any, units: float, branch: int = -1) -> Any:
        self.meter.pay(units)
        self.meter.reached.add(branch)
        return value

    @pass_context
    def _weigh(self, context: Any, value: Any) -> Any:
        self.meter.weigh(value)
        return value

    @pass_context
    def _size(self, context: Any, value: Any) -> Any:
        return self.meter.size(value)

    @pass_context
    def _concat(self, context: Any, values: list[Any]) -> str:
        self.meter.weigh(values)
        return "".join(map(str, values))

    def _printed(self, value: Any) -> Any:
        self.meter.weigh(value)
        return value


class Generation(Extension):
    """`{% generation %}`: transformers marks with it what the assistant wrote. Here it only groups."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(
            line
        )


class SafeNamespace(Namespace):
    """`namespace()` without underscored names."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        Namespace.__init__(*args, **kwargs)
        for name in attributes_of(args[0]):
            _allow_name(name)

    def __setitem__(self, name: str, value: Any) -> None:
        _allow_name(name)
        super().__setitem__(name, value)


def _allow_name(name: Any) -> None:
    need(
        not str(name).startswith("_"),
        f"the chat template names something {name!r} in a namespace",
        error=TokenizerError,
    )


def _refuse_wide(text: str) -> None:
    need(not _WIDE.search(text), "the chat template pads text with a width of thousands", error=Exhausted)


def _raise(message: Any) -> None:
    raise TokenizerError(f"the chat template refuses this conversation: {str(message)[:500]}")


def _now(form: str) -> str:
    need(len(form) <= 100, "the chat template asks for a date of an odd form", error=Exhausted)
    return datetime.datetime.now().strftime(form)


def _json(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
