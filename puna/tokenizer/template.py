"""The one renderer: a conversation becomes token ids that know who said what, and ids become a message again.

template = template_for(tokenizer)
    rendered = template.render(messages, tools)   # ids to continue, and spans for masks
    template.parse(ids)                           # what the model wrote: text and tool calls

Training masks, the chat, the server and evaluation all come from here. A file's own template is written by
our native code where that is known to write the same, and otherwise rendered as Jinja in a sandbox.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any

from puna.errors import TokenizerError, need
from puna.messages import Call, Message, Tool
from puna.tokenizer.chatml import SMOLLM, ChatML
from puna.tokenizer.dialect import Dialect, check
from puna.tokenizer.jinja import OURS, JinjaFile
from puna.tokenizer.llama import LlamaFile, LlamaMeta
from puna.tokenizer.spans import Part, Rendered, Span, Vocabulary, encode, text_of
from puna.tokenizer.tools import PYTHON_TAG, read_calls

NATIVE: dict[str, Dialect] = {
    "llama3": LlamaFile("llama3"),
    "llama3.1": LlamaFile("llama3.1"),  # and 3.3: the same file
    "llama3.2": LlamaFile("llama3.2"),
    "meta": LlamaMeta(),
    "meta-tag": LlamaMeta("function_tag"),
    "meta-python": LlamaMeta("python_list"),
    "chatml": ChatML(),
    "smollm2": ChatML("smollm2", SMOLLM),
}
KNOWN = {  # sha256 of a template file, stripped: the native code that a test holds equal to it
    "ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122": "llama3",
    "93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7": "llama3.1",  # and 3.3
    "d82792f95932f1c9cef5c4bd992f171225e3bf8c7b609b4557c9e1ec96be819f": "llama3.2",
    "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788": "smollm2",
}
EXPORTED = ("llama3", "llama3.1", "llama3.2", "meta", "chatml", "smollm2")


@dataclass(frozen=True)
class Template:
    """One chat format over one vocabulary. `own` is the Jinja text that came with the model and says all of
    it.
    """

    vocabulary: Vocabulary
    dialect: Dialect
    own: str | None = None

    @property
    def name(self) -> str:
        return self.dialect.name

    @property
    def jinja(self) -> str:
        """The format as a Jinja template, to write into files for other programs."""
        return self.own or self.dialect.jinja

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end what the assistant writes."""
        known = self.vocabulary.specials
        named = {known[stop] for stop in self.dialect.stops if stop in known}
        return frozenset(self.vocabulary.stop_ids) | named

    def render(
        self, messages: Sequence[Message], tools: Sequence[Tool] = (), *, reply: bool = True, **options: Any
    ) -> Rendered:
        """The conversation as ids and spans; `reply` opens the assistant's turn at the end."""
        parts, exact = self._parts(messages, tools, reply, options)
        rendered = encode(self.vocabulary, parts, self.dialect.apart)
        return Rendered(rendered.ids, rendered.spans, exact and rendered.exact_spans)

    def text(
        self, messages: Sequence[Message], tools: Sequence[Tool] = (), *, reply: bool = True, **options: Any
    ) -> str:
        """The conversation as it reads, to look at; only `render` knows which specials are real."""
        return text_of(self._parts(messages, tools, reply, options)[0])

    def parse(self, ids: Sequence[int], names: Collection[str] | None = None) -> Message:
        """What the assistant wrote. With `names`, only calls of these tools count as calls; () means none
        does.
        """
        written = list(takewhile(lambda id: id not in self.stop_ids, self._without_header(list(ids))))
        tag = self.vocabulary.specials.get(PYTHON_TAG)
        tagged = tag is not None and tag in written[:1]
        text = self.vocabulary.decode(written[1:] if tagged else written, special=False)
        content, calls = read_calls((PYTHON_TAG if tagged else "") + text, names)
        content = content.removeprefix(PYTHON_TAG) if tagged else content
        return Message(role="assistant", content=content, calls=calls)

    def _parts(
        self, messages: Sequence[Message], tools: Sequence[Tool], reply: bool, options: dict[str, Any]
    ) -> tuple[list[Part], bool]:
        check(self.dialect, messages, options)
        parts, exact = self.dialect.parts(messages, tools, reply, options)
        absent = sorted({part.text for part in parts if part.special} - set(self.vocabulary.specials))
        need(
            not absent,
            f"the chat format {self.name} needs {', '.join(absent)}, which this tokenizer does not have",
            f"another chat format: {', '.join(NATIVE)}",
            TokenizerError,
        )
        return parts, exact

    def _without_header(self, ids: list[int]) -> list[int]:
        """Ids after an assistant header at their beginning, which a model that was not given one writes
        itself.
        """
        header = [part for part in self._opened if part.kind == "header"]
        opening = encode(self.vocabulary, header, self.dialect.apart).ids
        return ids[len(opening) :] if opening and ids[: len(opening)] == opening else ids

    @cached_property
    def _opened(self) -> list[Part]:
        """What opens the assistant's turn."""
        if isinstance(self.dialect, JinjaFile):
            return []
        ask = [Message(role="user", content="?")]
        without = self.dialect.parts(ask, (), False, {})[0]
        return self.dialect.parts(ask, (), True, {})[0][len(without) :]


def template_for(tokenizer: Vocabulary, override: str | None = None) -> Template:
    """The template of a tokenizer: the one named, or given as Jinja, by `override`; the file's own; or one
    that fits.
    """
    if override is not None and "{%" not in override and "{{" not in override:
        need(
            override in NATIVE,
            f"{override}: no such chat format",
            f"{', '.join(NATIVE)}, or the text of a Jinja template",
            TokenizerError,
        )
        return Template(tokenizer, NATIVE[override])
    jinja = override or tokenizer.chat_template
    if jinja:
        return _from_file(tokenizer, jinja)
    for name, marks in {
        "meta": ("<|start_header_id|>", "<|eot_id|>"),
        "chatml": ("<|im_start|>", "<|im_end|>"),
    }.items():
        if all(mark in tokenizer.specials for mark in marks):
            return Template(tokenizer, NATIVE[name])
    raise TokenizerError(
        "this model carries no chat template, and its tokenizer has the special tokens of none that I know\n"
        f"  try: naming one of {', '.join(NATIVE)}; a base model is not made for chat"
    )


def _from_file(tokenizer: Vocabulary, jinja: str) -> Template:
    known = KNOWN.get(hashlib.sha256(jinja.strip().encode("utf-8", "surrogatepass")).hexdigest())
    exported = (name for name in EXPORTED if NATIVE[name].jinja.strip() == jinja.strip())
    known = known or next(exported, None)
    native = NATIVE[known] if known else None
    if native is None:
        names = {id: name for name, id in tokenizer.specials.items()}
        stops = tuple(names[id] for id in tokenizer.stop_ids if id in names)
        bos, eos = (
            names.get(id, "") if id is not None else "" for id in (tokenizer.bos_id, tokenizer.eos_id)
        )
        file = JinjaFile(jinja, tuple(tokenizer.specials), stops, bos, eos)
        alike = (NATIVE[name] for name in ("llama3", "chatml", "smollm2"))
        native = next((dialect for dialect in alike if writes_the_same(dialect, file)), file)
    # Ours says more than a ChatML file that knows no tools, so ours is what should be written into new files.
    return Template(tokenizer, native, None if isinstance(native, ChatML) else jinja)


def writes_the_same(native: Dialect, file: JinjaFile) -> bool:
    """Whether native code may stand for a file: the same text and special tokens for every probe, and no
    statement or choice in the file that the probes did not reach.
    """
    if not set(native.stops[:1]) <= set(file.specials) or file.compiled.reads - OURS - native.options:
        return False
    reached: set[int] = set()
    for messages, tools, reply in _probes("tools" in file.compiled.reads):
        try:
            ours = native.parts(messages, tools, reply, {})[0]
        except TokenizerError:
            return False
        theirs = file.probe(messages, tools, reply, reached)
        if theirs != [(part.text, part.special) for part in _joined(ours)]:
            return False
    return file.compiled.branches <= reached


def _joined(parts: Sequence[Part]) -> list[Part]:
    """Parts with neighbouring texts in one."""
    joined: list[Part] = []
    for part in parts:
        if joined and not part.special and not joined[-1].special:
            joined[-1] = Part("format", joined[-1].text + part.text)
        elif part.text:
            joined.append(Part("format", part.text, special=part.special))
    return joined


def _probes(with_tools: bool) -> list[tuple[list[Message], list[Tool], bool]]:
    """Conversations of every shape: with and without a system message, spaces at the borders, many turns,
    tools.
    """
    system = Message(role="system", content=" Be brief. \n")
    ask = Message(role="user", content="\n What is 'this'? ")
    answer = Message(role="assistant", content=' A "thing".\n\n')
    again = Message(role="user", content="Ünd <b>?</b>")
    result = Message(role="tool", content=' {"t": 21} ')
    empty = Message(role="user")
    shapes = [
        [ask],
        [system, ask],
        [ask, answer, again],
        [system, ask, answer, again, answer],
        [system],
        [empty],
        [replace(system, content="")],
    ]
    shapes += [
        [ask, system, again],
        [answer, ask],
        [ask, ask, answer, answer],
        [ask, answer, result],
        [system, system],
    ]
    probes: list[tuple[list[Message], list[Tool], bool]] = [
        (shape, [], reply) for shape in shapes for reply in (True, False)
    ]
    if with_tools:
        schema = {"type": "object", "properties": {"of": {"type": "string"}}, "required": ["of"]}
        tools = [Tool(name="look", description="Look it up", parameters=schema), Tool(name="nap")]
        call = Message(role="assistant", content="So: ", calls=(Call(name="look", arguments={"of": "é'"}),))
        two = Message(role="assistant", calls=(*call.calls, Call(name="nap")))
        probes += [(shape, tools, True) for shape in shapes]
        probes += [([ask, one, result, result, answer, again], tools, True) for one in (call, two)]
    return probes


__all__ = ["NATIVE", "Rendered", "Span", "Template", "template_for"]
