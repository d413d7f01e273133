"""Structured output: at each token, which ids leave the answer something that its grammar allows.

llguidance follows the grammar and gives a mask, a bit for each id: set where the text so far and this token
begin an allowed text, and for what ends an answer where the text is one already. Special tokens are no text.
Nothing more is forced: how the model divides an allowed text into tokens is its own choice.

A grammar comes from whoever asks. It is compiled where it is asked for, not on the engine's thread, and
within limits: rules may follow each other thousands deep, and llguidance follows them by recursion, so on a
thread with a large stack; a text too long, and a mask that takes too long, end the request that brought it.
"""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from puna.engine.request import Grammar
from puna.errors import RequestError, need

LONGEST = 2**16  # characters of one grammar
KEPT = 2**17  # characters of compiled grammars that are kept for who asks again
STACK = 2**28  # bytes of address space; what 2**16 characters of rules can need, and more
LIMITS: dict[str, Any] = {"step_max_items": 10_000, "max_lexer_states": 50_000, "verbose_errors": False}
PATIENCE_S = 1.0  # for one mask; most take microseconds
SPACE = {"whitespace_pattern": r" |\n[ \t]{0,40}"}  # between the parts of JSON: it must not go on for ever
NAMES = {"json": "the JSON schema", "regex": "the regex", "grammar": "the grammar"}
HINTS = {
    "json": "type, properties, required, items, enum, const, anyOf, $ref, formats, patterns and bounds",
    "regex": "Rust's syntax, without look-around and backreferences",
    "grammar": "Lark as llguidance writes it, or GBNF",
}


class Words(Protocol):
    """What is wanted of a tokenizer."""

    @property
    def size(self) -> int: ...

    @property
    def specials(self) -> Mapping[str, int]: ...

    @property
    def stop_ids(self) -> Collection[int]: ...

    def bytes_of(self, id: int) -> bytes: ...


class Guide:
    """One answer's way through its grammar."""

    def __init__(self, matcher: Any, size: int):
        self.matcher = matcher
        self.bits = np.zeros((1, (size + 31) // 32), np.int32)

    def allowed(self) -> np.ndarray:
        """The ids that may follow: bit id % 32 of word id // 32; good until the next call."""
        from llguidance.numpy import fill_next_token_bitmask

        begun = time.monotonic()
        fill_next_token_bitmask(self.matcher, self.bits)
        if self.matcher.is_stopped():
            raise _impossible(self.matcher)
        took = time.monotonic() - begun
        need(took < PATIENCE_S, f"too complex: one mask took {took:.1f} s", "a simpler one", RequestError)
        return self.bits[0]

    def take(self, id: int) -> None:
        """This one follows."""
        if not self.matcher.consume_token(id):
            raise _impossible(self.matcher)

    @property
    def is_over(self) -> bool:
        """Whether nothing more may follow."""
        return self.matcher.is_stopped()


class Guides:
    """One vocabulary's grammars. What takes a while happens on the thread that asks, once."""

    def __init__(self, words: Words):
        self.words = words
        self._vocabulary: Any = None
        self._compiled: OrderedDict[Grammar, Any] = OrderedDict()  # what was asked for last comes last
        self._lock = threading.Lock()

    def guide(self, grammar: Grammar) -> Guide:
        """A new answer's guide. RequestError says what is wrong with the grammar, and where."""
        with self._lock:
            if grammar not in self._compiled:
                try:
                    self._compiled[grammar] = _with_a_large_stack(lambda: self._compile(grammar))
                except RequestError as problem:
                    raise RequestError(str(problem), code="invalid_grammar", param="grammar") from None
            self._compiled.move_to_end(grammar)
            while sum(len(known.text) for known in self._compiled) > KEPT:
                self._compiled.popitem(last=False)
            return Guide(self._compiled[grammar].deep_copy(), self.words.size)

    def _compile(self, grammar: Grammar) -> Any:
        from llguidance import LLMatcher, LLParserLimits

        name, hint = NAMES[grammar.kind], HINTS[grammar.kind]
        fits = len(grammar.text) <= LONGEST
        need(fits, f"{name} is longer than {LONGEST:,} characters", error=RequestError)
        if self._vocabulary is None:
            self._vocabulary = _vocabulary(self.words)
        lark = f'{_lark(grammar)}\n%llguidance {{"no_forcing": true}}'
        matcher = LLMatcher(self._vocabulary, lark, log_level=0, limits=LLParserLimits(**LIMITS))
        need(not matcher.is_error(), f"{name}: {_said(matcher.get_error())}", hint, RequestError)
        try:
            Guide(matcher.deep_copy(), self.words.size).allowed()
        except RequestError as problem:
            raise RequestError(f"{name}: {problem}") from None
        return matcher


def _vocabulary(words: Words) -> Any:
    """llguidance's tree of all tokens. Takes 0.2 s for 49,152 tokens and a second for 128,256."""
    from llguidance import LLTokenizer, TokenizerWrapper

    stops = sorted(words.stop_ids)
    need(stops, "this vocabulary has no token that ends an answer", error=RequestError)

    class Source:
        eos_token_id, bos_token_id = stops[0], None
        special_token_ids = sorted(words.specials.values())
        tokens = [words.bytes_of(id) for id in range(words.size)]

        def __call__(self, text: str) -> list[int]:
            raise AssertionError("nothing is forced, so nothing is encoded")

    return LLTokenizer(TokenizerWrapper(Source()), eos_token=stops)


def _lark(grammar: Grammar) -> str:
    """Any grammar as Lark text; RequestError for one that cannot be read."""
    from llguidance import grammar_from, regex_to_lark

    if grammar.kind == "json":
        return f"start: %json {json.dumps(_schema(grammar.text))}"
    if grammar.kind == "regex":
        return f"start: /{regex_to_lark(grammar.text)}/"
    try:
        return grammar_from("grammar", grammar.text)
    except ValueError as problem:
        raise RequestError(f"the grammar is neither Lark nor GBNF: {_said(str(problem))}") from None


def _schema(text: str) -> Any:
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise RequestError(f"the JSON schema is not JSON: {problem}") from None
    need(
        isinstance(schema, dict | bool), f"a JSON schema is an object, not {text[:40]!r}", error=RequestError
    )
    return {"x-guidance": SPACE, **schema} if isinstance(schema, dict) else schema


def _with_a_large_stack(work: Callable[[], Any]) -> Any:
    usual = threading.stack_size(STACK)
    try:
        aside = ThreadPoolExecutor(1)
        result = aside.submit(work)
    finally:
        threading.stack_size(usual)
    with aside:
        return result.result()


def _impossible(matcher: Any) -> RequestError:
    reason = _said(matcher.get_error())
    nothing = "no token of this vocabulary may follow"
    return RequestError(f"the grammar cannot go on: {nothing if reason == 'NoExtensionBias' else reason}")


def _said(error: str) -> str:
    """The sentence in llguidance's message, without its picture of the place."""
    for before in ("error: ", "failed to compile JSON schema: ", "(in regex): "):
        error = error.rpartition(before)[2]
    return error.partition("\n")[0][:300]
