"""What the assistant wrote, read back as text and tool calls. What is not a call is text; nothing here ever
raises.

The forms, all of which models of this family write:
    <|python_tag|>brave_search.call(query="...")        a built-in tool
    <|python_tag|>print(1)                              code
    <function=NAME>{"a": 1}</function>                  function tags, several, text around them
    <tool_call>{"name": NAME, "arguments": {}}</tool_call>
    {"name": NAME, "parameters": {"a": 1}}              JSON, alone or several with ; or a line break between
    [f(a=1), g(b='x')]                                  a Python list of calls with literal arguments
"""

import ast
import json
import re
from collections.abc import Collection
from typing import Any

from puna.messages import Call

PYTHON_TAG = "<|python_tag|>"
CODE = "code_interpreter"
LONGEST = 1 << 16  # characters of a Python list or object that are still read; more is text
PATIENCE = 16  # tags that open no call, before the rest is text

_DECODER = json.JSONDecoder()
_FUNCTION = re.compile(r"<function=([^<>={}\s]+)>\s*")
_FUNCTION_END = re.compile(r"\s*</?function/?>")
_TOOL_CALL = re.compile(r"<tool_call>\s*")
_TOOL_CALL_END = re.compile(r"\s*</tool_call>")
_TAGS = ("<function=", "<tool_call>")
_LIST = re.compile(r"\[\s*[A-Za-z_][\w.]*\s*\(")
_BUILTIN = re.compile(r'\s*(\w+)\.call\((\w+)="')
_NEXT = re.compile(r'", (\w+)="')
_BEGINNING = re.compile(  # of a message that may be a call from its first letter
    r"<\|python_tag\|>"
    r"|\{\s*(\Z|['\"])"
    r"|\[\s*(\Z|[A-Za-z_][\w.]*\s*(\(|\Z))"
    r"|\w+(\Z|\.\Z|\.c\Z|\.ca\Z|\.cal\Z|\.call\Z|\.call\()"
)
_BETWEEN = re.compile(r"[\s;,]*")
_BAD_ESCAPE = re.compile(r"(\\\\)|\\(?![\n'\"abfnrtvxNuU0-3]|[4-7](?![0-7]{2}))")
_NO_CALL: tuple[int, tuple[Call, ...]] = (0, ())

Found = tuple[str, tuple[Call, ...]]


def read_calls(text: str, names: Collection[str] | None = None) -> Found:
    """(what is text, the calls in it). With `names`, only calls of these tools are calls; () means none ever
    is.
    """
    if names is not None and not names:
        return text, ()
    if text.lstrip().startswith(PYTHON_TAG):
        content, calls = _tagged(text.lstrip().removeprefix(PYTHON_TAG))
    else:
        content, calls = _plain(text)
    if not calls or (names is not None and any(call.name not in names for call in calls)):
        return text, ()
    return content, calls


def _plain(text: str) -> Found:
    if any(tag in text for tag in _TAGS):
        content, calls = _between_tags(text)
        if calls:
            return content, calls
    body = text.lstrip()
    if body.startswith("{"):
        length, calls = _objects(body)
    elif body.startswith("["):
        length, calls = _python_list(body)
    else:
        length, calls = _builtin(body)
    return body[length:].strip(), calls


def _tagged(body: str) -> Found:
    """After <|python_tag|> all is for a tool: a call in one of the forms, and otherwise code."""
    content, calls = _plain(body)
    if calls and not content:
        return "", calls
    return "", (Call(name=CODE, arguments={"code": body}),)


def _between_tags(text: str) -> Found:
    """Every tagged call; the content is what stands before, between and after."""
    kept, calls, at, failed = [], [], 0, 0
    for tag in re.finditer("|".join(_TAGS), text):
        if tag.start() < at or failed > PATIENCE:
            continue
        call, end = _one_tagged(text, tag.start())
        if call:
            kept.append(text[at : tag.start()])
            calls.append(call)
            at = end
        failed += call is None
    content = "".join([*kept, text[at:]]).rstrip()
    return content if kept and kept[0].strip() else content.lstrip(), tuple(calls)


def _one_tagged(text: str, start: int) -> tuple[Call | None, int]:
    if opened := _FUNCTION.match(text, start):
        arguments, end = _object(text, opened.end())
        call = Call(name=opened[1], arguments=arguments) if arguments is not None else None
        closing = _FUNCTION_END
    elif opened := _TOOL_CALL.match(text, start):
        said, end = _object(text, opened.end())
        call, closing = _as_call(said), _TOOL_CALL_END
    else:
        return None, start
    closed = closing.match(text, end)
    return call, closed.end() if closed else end


def _object(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    """The object that begins at `start`, in JSON or in Python (single quotes), and where it ends."""
    if not text.startswith("{", start):
        return None, start
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        end = _closing(text, start)
        value = _literal(text[start:end])
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return value, end
    return None, start


def _objects(body: str) -> tuple[int, tuple[Call, ...]]:
    """Call objects from the beginning of `body`, and how far they reach."""
    calls: list[Call] = []
    end = 0
    while True:
        between = _BETWEEN.match(body, end)
        assert between is not None  # the pattern matches the empty string
        start = between.end()
        if not body.startswith("{", start):
            return end, tuple(calls)
        said, stop = _object(body, start)
        call = _as_call(said)
        if call is None:
            return end, tuple(calls)
        calls.append(call)
        end = stop


def _as_call(said: Any) -> Call | None:
    """The call that an object describes: a name, and parameters or arguments that are an object."""
    if not isinstance(said, dict):
        return None
    if said.get("type") == "function" and isinstance(said.get("function"), dict):
        said = said["function"]
    name, arguments = said.get("name"), said.get("parameters", said.get("arguments"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    if not isinstance(name, str) or not isinstance(arguments, dict) or not name:
        return None
    return Call(name=name, arguments=arguments)


def _builtin(body: str) -> tuple[int, tuple[Call, ...]]:
    """`name.call(query="...")`, written without escapes: the last `")` closes it."""
    opened = _BUILTIN.match(body)
    end = body.rfind('")')
    if not opened or end < opened.end():
        return _NO_CALL
    pieces = _NEXT.split(body[opened.end() : end])
    names, values = [opened[2], *pieces[1::2]], pieces[0::2]
    if len(set(names)) < len(names):  # the query itself looked like a further argument
        names, values = names[:1], [body[opened.end() : end]]
    return end + 2, (Call(name=opened[1], arguments=dict(zip(names, values, strict=True))),)


def _python_list(body: str) -> tuple[int, tuple[Call, ...]]:
    """`[f(a=1), g()]` at the beginning of `body`, and how far it reaches; literal keyword arguments only."""
    if not _LIST.match(body):
        return _NO_CALL
    end = _closing(body, 0)
    tree = _parsed(body[:end])
    if not isinstance(tree, ast.List) or not tree.elts:
        return _NO_CALL
    calls = []
    for item in tree.elts:
        name = ast.unparse(item.func) if isinstance(item, ast.Call) and _is_name(item.func) else None
        if name is None or not isinstance(item, ast.Call) or item.args:
            return _NO_CALL
        try:
            arguments = {word.arg: ast.literal_eval(word.value) for word in item.keywords if word.arg}
        except (ValueError, TypeError, RecursionError, MemoryError):
            return _NO_CALL
        if len(arguments) < len(item.keywords):  # two of one name, or **more
            return _NO_CALL
        calls.append(Call(name=name, arguments=arguments))
    return end, tuple(calls)


def _is_name(node: ast.expr) -> bool:
    depth = 0
    while isinstance(node, ast.Attribute) and depth < 8:
        node, depth = node.value, depth + 1
    return isinstance(node, ast.Name)


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes, brackets in quotes not counted; `start` where it does
    not.
    """
    depth, quote, at, stop = 0, "", start, min(len(text), start + LONGEST)
    while at < stop:
        letter = text[at]
        if quote:
            if letter == "\\":
                at += 1
            elif letter == quote:
                quote = ""
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return start


def _literal(text: str) -> Any:
    tree = _parsed(text)
    try:
        return ast.literal_eval(tree) if tree is not None else None
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None


def _parsed(text: str) -> ast.expr | None:
    """Python's own reading of an expression. Escapes that Python only warns about are taken as written."""
    if not text or len(text) > LONGEST:
        return None
    try:
        return ast.parse(_BAD_ESCAPE.sub(lambda bad: bad[1] or "\\\\", text), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


class CallStream:
    """Text as it comes, held back while it may still be a call.

    `feed` gives what is surely content. `finish` gives the rest, and the calls. Whatever the pieces,
    together they give what `read_calls` finds in the whole text.
    """

    def __init__(self, names: Collection[str] | None = None):
        self._names = names
        self._held = ""
        self._begun = False  # something was released, so that only a tag can still begin a call
        self._closed = False  # a call has begun: all the rest waits for the end

    def feed(self, text: str) -> str:
        self._held += text
        if self._names is not None and not self._names:
            return self._release(len(self._held))
        if self._closed or (not self._begun and self._may_begin()):
            return ""
        tags = [at for at in map(self._held.find, _TAGS) if at >= 0]
        self._closed = bool(tags)
        safe = self._held[: min(tags) if tags else len(self._held) - self._tail()]
        return self._release(len(safe.rstrip()))

    def finish(self) -> Found:
        held, self._held = self._held, ""
        if not self._begun:
            return read_calls(held, self._names)
        content, calls = read_calls("\0" + held, self._names)  # \0: not at the beginning of the message
        return content.removeprefix("\0"), calls

    def _release(self, length: int) -> str:
        released, self._held = self._held[:length], self._held[length:]
        self._begun = self._begun or bool(released)
        return released

    def _may_begin(self) -> bool:
        """Whether what is held may grow into a message that is a call from its first letter."""
        body = self._held.lstrip()
        return PYTHON_TAG.startswith(body) or bool(_BEGINNING.match(body))

    def _tail(self) -> int:
        """How many of the last letters may be the beginning of a tag."""
        longest = max(map(len, _TAGS)) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(tag.startswith(self._held[-length:]) for tag in _TAGS):
                return length
        return 0
