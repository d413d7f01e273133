"""A model's own Jinja template as a dialect: rendered in the sandbox, with a barrier and with spans.

The template gives one string, so two things must be found again in it. Which special tokens did the
template write? Before rendering, a mark (a private-use character that occurs nowhere else) is put inside
every special token's name that people, tools or options wrote; what still reads as a special token
afterwards is the template's. And where is what people said? Two more marks stand around each content.
Marks leave no trace: they are taken out, and a render that differs without them is not believed.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from puna.errors import TokenizerError, need
from puna.messages import Message, Tool
from puna.tokenizer.compiled import Compiled
from puna.tokenizer.spans import Kind, Part

SUPPLIED = frozenset(("messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"))
OURS = SUPPLIED | {"raise_exception", "strftime_now", "namespace", "range", "dict", "loop"}
FIRST, LAST = (
    0xF0000,
    0x10FFFD,
)  # private use, so that no text should hold them; those that do occur are passed over
PATIENCE = (
    16  # strings that may touch a special token, tried one by one where marking all of them changes the text
)
OWN = frozenset(("bos_token", "eos_token"))  # the values that the vocabulary gives
SHAPE = frozenset(  # strings that templates look for in messages and tools
    [
        "role",
        "content",
        "tool_calls",
        "tool_call_id",
        "id",
        "type",
        "function",
        "name",
        "arguments",
        "parameters",
        "description",
        "properties",
        "required",
        "items",
        "enum",
        "object",
        "string",
        "user",
        "assistant",
        "system",
        "tool",
    ]
)
Values = dict[str, Any]


@dataclass(frozen=True)
class JinjaFile:
    """The template `jinja`, for a vocabulary whose special tokens are `specials`."""

    jinja: str
    specials: tuple[str, ...]
    stops: tuple[str, ...]
    bos: str = ""
    eos: str = ""
    name: str = "jinja"
    apart = False
    compiled: Compiled = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "compiled", Compiled(self.jinja))

    @property
    def options(self) -> frozenset[str]:
        return self.compiled.reads - OURS

    def parts(
        self, messages: Sequence[Message], tools: Sequence[Tool], reply: bool, options: Mapping[str, Any]
    ) -> tuple[list[Part], bool]:
        reads = self.compiled.reads
        need(
            not tools or "tools" in reads,
            "this model's chat template has no place for tools",
            "a model that was taught to use tools, or another chat format",
            TokenizerError,
        )
        values = self._values(messages, tools, reply, options)
        marks = _marks(self.jinja, values)
        mark, borders = next(marks), [(next(marks), next(marks)) for _ in messages]
        barrier = Barrier(self.specials, mark)
        guarded = self._guarded(values, barrier)
        both = zip(guarded["messages"], borders, strict=True)
        said = [{**one, "content": _bordered(one["content"], *two)} for one, two in both]
        marked = self.compiled.render({**guarded, "messages": said})
        plain = self.compiled.render(guarded)
        if marked.translate({ord(c): None for two in borders for c in two}) == plain:
            parts = self._split(marked, barrier, borders, messages)
            if parts is not None:
                return self._with_ends(parts), not any(message.calls for message in messages)
        return list(self._pieces(plain, barrier, Part("format", ""))), False

    def probe(
        self, messages: Sequence[Message], tools: Sequence[Tool], reply: bool, reached: set[int]
    ) -> list[tuple[str, bool]] | None:
        """What the template writes for harmless messages, and which branches that went through; None if it
        refuses.
        """
        try:
            text = self.compiled.render(self._values(messages, tools, reply, {}), reached)
        except TokenizerError:
            return None
        barrier = Barrier(self.specials, "\0")
        return [(part.text, part.special) for part in self._pieces(text, barrier, Part("format", ""))]

    def _values(
        self, messages: Sequence[Message], tools: Sequence[Tool], reply: bool, options: Mapping[str, Any]
    ) -> Values:
        return {
            **options,
            "messages": [as_dict(message) for message in messages],
            "tools": [tool.to_openai() for tool in tools] or None,
            "documents": None,
            "add_generation_prompt": reply,
            "bos_token": self.bos,
            "eos_token": self.eos,
        }

    def _guarded(self, values: Values, barrier: "Barrier") -> Values:
        """The values with marks inside special tokens, and at borders of strings that could complete one."""
        safe = barrier.guard(values)
        theirs = [item for name, item in values.items() if name not in OWN]
        touching = sorted({text for text in _strings(theirs) if text not in SHAPE and barrier.touches(text)})
        if not touching:
            return safe
        without = self.compiled.render(safe).replace(barrier.mark, "")

        def unchanged(texts: Iterable[str]) -> bool:
            return self.compiled.render(barrier.guard(values, texts)).replace(barrier.mark, "") == without

        if not unchanged(
            touching
        ):  # a template may look for a string, such as the key of a schema: leave that one
            need(
                len(touching) <= PATIENCE,
                "this conversation holds many texts that look like parts of special tokens",
                "rename arguments of tools that are called as parts of special tokens",
                TokenizerError,
            )
            touching = [text for text in touching if unchanged((text,))]
            need(
                unchanged(touching),
                "this conversation cannot be kept apart from special tokens",
                error=TokenizerError,
            )
        return barrier.guard(values, touching)

    def _split(
        self, marked: str, barrier: "Barrier", borders: list[tuple[str, str]], messages: Sequence[Message]
    ) -> list[Part] | None:
        """Parts of the marked text; None where its borders do not stand as they should."""
        index_of = {mark: index for index, two in enumerate(borders) for mark in two}
        opened: int | None = None
        parts: list[Part] = []
        written = set()
        pattern = f"([{re.escape(''.join(index_of))}])"
        for piece in re.split(pattern, marked):
            index = index_of.get(piece)
            if index is None:
                kind: Kind = "format" if opened is None else "content"
                parts += self._pieces(piece, barrier, Part(kind, "", opened))
            elif opened is None and piece == borders[index][0] and index not in written:
                opened = index
                written.add(index)
            elif opened == index and piece == borders[index][1]:
                opened = None
            else:
                return None
        whole = all(i in written or not message.content.strip() for i, message in enumerate(messages))
        return parts if opened is None and whole else None

    def _pieces(self, text: str, barrier: "Barrier", like: Part) -> Iterator[Part]:
        """The text cut at the special tokens in it, marks taken out."""
        for number, piece in enumerate(barrier.cut(text)):
            if piece:
                yield Part(like.kind, piece.replace(barrier.mark, ""), like.message, special=number % 2 == 1)

    def _with_ends(self, parts: list[Part]) -> list[Part]:
        """A stopping token after a content ends its message; the white space between them is said too."""
        for at, part in enumerate(parts):
            if not part.special or part.text not in self.stops:
                continue
            after = at - 2 if at > 1 and not parts[at - 1].text.strip() else at - 1
            if after >= 0 and parts[after].kind == "content":
                said = parts[after].message
                parts[after + 1 : at] = [
                    replace(space, kind="content", message=said) for space in parts[after + 1 : at]
                ]
                parts[at] = replace(part, kind="end", message=said)
        return parts


class Barrier:
    """Keeps what people write from being read as special tokens, by a mark put inside their names.

    A name of one character has no inside; such tokens are never taken for special.
    """

    def __init__(self, specials: Iterable[str], mark: str):
        names = sorted((name for name in specials if len(name) > 1), key=len, reverse=True)
        names = names or ["\0\0"]
        alternatives = "|".join(map(re.escape, names))
        self.mark = mark
        self._anywhere = re.compile(f"(?=(?:{alternatives}))")
        self._name = re.compile(f"({alternatives})")
        self._all = "\0".join(names)
        self._heads = frozenset(name[:length] for name in names for length in range(1, len(name)))
        self._tails = frozenset(name[-length:] for name in names for length in range(1, len(name)))
        self._longest = len(names[0])

    def cut(self, text: str) -> list[str]:
        """Plain text and special tokens in turn."""
        return self._name.split(text)

    def touches(self, text: str) -> bool:
        """Whether text around it could complete a special token with a part of this one, at its border or as
        a whole.
        """
        core = text.strip()
        near = range(1, min(self._longest, len(core)) + 1)
        return bool(core) and (
            (len(core) < self._longest and core in self._all)
            or any(core[-length:] in self._heads or core[:length] in self._tails for length in near)
        )

    def guard(self, values: Values, borders: Iterable[str] = ()) -> Values:
        """A copy of the values with marks inside the names, and at both ends of the strings in `borders`."""
        at_borders = frozenset(borders)
        return _theirs(values, lambda text: self._guarded(text, text in at_borders))

    def _guarded(self, text: str, at_borders: bool) -> str:
        starts = [found.start() for found in self._anywhere.finditer(text)]
        if starts:
            cuts = [0, *(start + 1 for start in starts), len(text)]
            text = self.mark.join(text[a:b] for a, b in pairwise(cuts))
        return _bordered(text, self.mark, self.mark) if at_borders else text


def as_dict(message: Message) -> Values:
    """A message as chat templates expect it: arguments of calls are objects, content is always text."""
    said: Values = {"role": message.role, "content": message.content}
    if message.calls:
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.calls
        ]
    if message.call_id:
        said["tool_call_id"] = message.call_id
    if message.name:
        said["name"] = message.name
    return said


def _theirs(values: Values, change: Callable[[str], str]) -> Values:
    """The values with every string changed that comes from people, tools or options."""
    changed = {name: value if name in OWN else _changed(value, change) for name, value in values.items()}
    for message, before in zip(changed["messages"], values["messages"], strict=True):
        message["role"] = before["role"]
    return changed


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {
            name if name in SHAPE else change(name): _changed(item, change) for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_changed(item, change) for item in value]
    return value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)


def _bordered(text: str, before: str, after: str) -> str:
    core = text.strip()
    start = text.find(core)
    return text[:start] + before + core + after + text[start + len(core) :] if core else text


def _marks(source: str, values: Values) -> Iterator[str]:
    """Characters that occur nowhere in the template or in its values."""
    used = set(source).union(*_strings(values))
    free = (chr(number) for number in range(FIRST, LAST + 1) if chr(number) not in used)
    yield from free
    raise TokenizerError("a conversation of this many messages is more than a chat template can be given")
