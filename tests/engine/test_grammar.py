"""Structured output: whatever a model would rather write, the answer is one that its grammar allows."""

import json
import re
import threading
import time

import jsonschema
import numpy as np
import pytest
from hash_runner import HashRunner, hash_config, logits_after
from small_world import ByteTokenizer, random_llama, torch_engine

from puna.engine.engine import Engine
from puna.engine.grammar import LONGEST, Guides
from puna.engine.request import Grammar, Request, Sampling
from puna.engine.sample import score
from puna.errors import RequestError

WORDS = ['{"', '":', '", "', "true", "null", "llama", "€uro", " \n", "}}", "12"]
TOKENIZER = ByteTokenizer(WORDS)
END = TOKENIZER.special["<eot>"]
SCHEMAS = [
    {"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}, "age": {"type": "integer", "minimum": 0, "maximum": 130}},
     "required": ["name", "age"], "additionalProperties": False},
    {"type": "array", "items": {"enum": ["red", "grün", "\U0001f999", 'a "quote"', "back\\slash", 7, None, True]}, "minItems": 1, "maxItems": 4},
    {"anyOf": [{"type": "null"}, {"type": "boolean"}, {"type": "string", "pattern": "^[A-Z][a-z]{2,5}$"}]},
    {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {"at": {"type": "boolean"}, "of": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1}},
     "required": ["at"], "additionalProperties": False}}},
    {"type": "string", "format": "date"},
    {"type": "number", "minimum": -1, "maximum": 1, "multipleOf": 0.25},
    {"type": "object", "properties": {"a": {"const": "x y"}, "b": {"type": "string", "maxLength": 5}}, "additionalProperties": False},
    {"allOf": [{"type": "integer", "minimum": 10}, {"type": "integer", "maximum": 99}]},
    {"type": "array", "prefixItems": [{"type": "string", "format": "ipv4"}, {"type": "boolean"}], "items": False, "minItems": 2},
    {"type": "string", "minLength": 2, "maxLength": 6},
]  # fmt: skip
OTHERS = {  # and what Python's re makes of them
    Grammar("regex", r"[a-z]{2,5}@[a-z]{2}\.(com|pe)"): r"[a-z]{2,5}@[a-z]{2}\.(com|pe)",
    Grammar("regex", r"(né|ñandú|\p{Han}){1,3}!"): "(né|ñandú|[\u2e80-\U0003ffff]){1,3}!",
    Grammar("regex", "a/b\nc|^start$"): "a/b\nc|start",
    Grammar("grammar", 'start: "(" start? ")" | NAME\nNAME: /[a-z]{1,3}/'): r"(\(*)[a-z]{0,3}\)*",
    Grammar(
        "grammar", 'root ::= item ("," item){0,2}\nitem ::= [0-9] | "x" "y"?'
    ): "([0-9]|xy?)(,([0-9]|xy?)){0,2}",
}


def matches(grammar, text):
    if grammar.kind == "json":
        jsonschema.validate(
            json.loads(text), json.loads(grammar.text), format_checker=jsonschema.FormatChecker()
        )
        return True
    return re.fullmatch(OTHERS[grammar], text) and text.count("(") == text.count(")")


def schema(value):
    return Grammar("json", json.dumps(value))


def asked(grammar, seed=0, **more):
    more = {
        "sampling": Sampling(temperature=1.0, seed=seed),
        "max_tokens": 400,
        "stop_ids": TOKENIZER.stop_ids,
    } | more
    return Request(ids=(5, seed % 200, 7), grammar=grammar, **more)


def told(stream):
    events = list(stream)
    return [id for event in events for id in event.ids], "".join(event.text for event in events), events[-1]


@pytest.fixture(scope="module")
def engine():
    with torch_engine(random_llama(TOKENIZER.size, context=1024), TOKENIZER) as engine:
        yield engine


@pytest.fixture
def hashed():
    with Engine(HashRunner(400, 16), hash_config(1024), ByteTokenizer(["ab", "{", "cd"])) as engine:
        yield engine


@pytest.mark.parametrize("grammar", [*map(schema, SCHEMAS), *OTHERS], ids=lambda grammar: grammar.text[:20])
def test_every_answer_of_a_random_model_is_one_the_grammar_allows(engine, grammar):
    streams = [engine.submit(asked(grammar, seed, special_text=True)) for seed in range(24)]
    texts = []
    for stream in streams:
        ids, text, last = told(stream)
        assert last.finish == "stop", last.problem
        said = ids[: -1 if ids[-1] == END else None]
        assert not set(said) & set(TOKENIZER.special.values()) and "\ufffd" not in text
        assert matches(grammar, TOKENIZER.decode(said)), text
        texts.append(text)
    assert len(set(texts)) > 1, "the model has a choice"


def test_requests_with_different_grammars_and_without_get_what_they_would_get_alone(engine):
    grammars = [None, *map(schema, SCHEMAS), *OTHERS, None]
    requests = [asked(grammar, seed, max_tokens=40) for seed, grammar in enumerate(grammars)]
    alone = [told(engine.submit(request))[:2] for request in requests]
    together = [told(stream)[:2] for stream in [engine.submit(request) for request in requests]]
    assert together == alone


def test_greedy_takes_the_best_token_that_is_allowed(engine):
    request = asked(schema(SCHEMAS[0]), sampling=Sampling(temperature=0))
    first, second = told(engine.submit(request))[:2], told(engine.submit(request))[:2]
    assert first == second and matches(request.grammar, first[1])


def test_scores_are_the_models_own_with_a_grammar_too(hashed):
    request = asked(
        Grammar("regex", "(a|b|c|d)*"), sampling=Sampling(temperature=0), max_tokens=6, logprobs=2
    )
    ids = list(request.ids)
    for event in hashed.submit(request):
        row = logits_after(ids)
        (id,) = event.ids
        assert event.scores == (score(row, id, 2, hashed.size),)
        allowed = [*b"abcd", 256, 258, hashed.tokenizer.special["<eot>"]]
        assert id == max(allowed, key=lambda id: row[id])
        ids.append(id)


@pytest.mark.parametrize("limit", [1, 3, 8])
def test_an_answer_that_is_cut_says_so_and_is_a_beginning(engine, limit):
    ids, text, last = told(engine.submit(asked(Grammar("regex", "abcdefghijkl"), max_tokens=limit)))
    assert last.finish == "length" and len(ids) == limit and "abcdefghijkl".startswith(text)


def test_a_whole_answer_ends_at_once_and_one_that_may_go_on_asks_the_model(hashed):
    ids, text, last = told(hashed.submit(asked(Grammar("regex", "cab"), stop_ids=frozenset())))
    assert (text, last.finish) == ("cab", "stop") and last.usage.completion_tokens == len(ids)
    ends = {
        told(hashed.submit(asked(Grammar("regex", "ab*"), seed, stop_ids=frozenset())))[0][-1]
        for seed in range(9)
    }
    assert ends == {hashed.tokenizer.special["<eot>"]}  # the vocabulary's end, though the request names none


def test_stop_strings_end_a_structured_answer_too(engine):
    _, text, last = told(engine.submit(asked(Grammar("regex", "[xy]{30}-z"), stop=("-",))))
    assert last.finish == "stop" and re.fullmatch("[xy]{30}", text)


def test_a_bias_cannot_write_what_the_grammar_forbids(engine):
    forced = Sampling(temperature=0, logit_bias={ord("~"): 1e9, ord("b"): 5e8})
    assert told(engine.submit(asked(Grammar("regex", "[abc]{4}"), sampling=forced)))[1] == "bbbb"


def test_preempted_and_reused_answers_keep_their_grammar():
    engine = Engine(HashRunner(34, 4), hash_config(64), ByteTokenizer(["ab"]), rows=24, together=8)
    requests = [asked(Grammar("regex", "([ab]x){20}"), seed, max_tokens=None) for seed in range(12)]
    with engine:
        texts = [told(stream)[1] for stream in [engine.submit(request) for request in requests]]
    assert engine.scheduler.stopped > 0 and all(re.fullmatch("([ab]x){20}", text) for text in texts)


BAD = [
    (schema({"type": "objekt"}), "Invalid type: objekt"),
    (schema({"not": {"type": "string"}}), r'Unimplemented keys: \["not"\]'),
    (schema({"$ref": "#/nowhere"}), "'/nowhere' does not exist"),
    (schema({"type": "string", "pattern": "("}), "unclosed group"),
    (schema({"type": "integer", "minimum": 5, "maximum": 3}), "greater than maximum"),
    (schema(False), "schema is false"),
    (schema({"$ref": "#"}), "no token of this vocabulary"),
    (schema([1]), "a JSON schema is an object"),
    (Grammar("json", '{"type": '), "the JSON schema is not JSON: Expecting value: line 1"),
    (Grammar("json", "[" * 9000), "the JSON schema is not JSON"),
    (Grammar("regex", "("), "the regex: unclosed group\n  try: Rust's syntax"),
    (Grammar("regex", r"\d(?=x)"), "look-around"),
    (Grammar("regex", "[^\\x00-\\x{10FFFF}]"), "no token of this vocabulary"),
    (Grammar("grammar", 'start: "a" nowhere'), r"at 1\(8\): unknown name"),
    (Grammar("grammar", "what is this"), "neither Lark nor GBNF"),
    (Grammar("regex", "a" * (LONGEST + 1)), "longer than 65,536 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("grammar", "said"), BAD, ids=lambda value: str(value)[:24])
def test_a_bad_grammar_is_refused_at_once_with_what_is_wrong(engine, grammar, said):
    with pytest.raises(RequestError, match=said) as caught:
        engine.submit(asked(grammar))
    assert caught.value.status == 400 and engine.running == 0


def chain(kind):
    """A grammar at its longest whose every rule needs the next one."""
    count = {"rules": 4000, "terms": 4000, "refs": 1500}[kind]
    if kind == "refs":
        named = {f"r{n}": {"$ref": f"#/d/r{n + 1}"} for n in range(count)}
        return schema({"$ref": "#/d/r0", "d": {**named, f"r{count}": {"type": "string"}}})
    name = "R" if kind == "terms" else "r"
    rules = "\n".join(f'{name}{n}: {name}{n + 1} "x"' for n in range(count))
    return Grammar("grammar", f'start: {name}0\n{rules}\n{name}{count}: "y"')


@pytest.mark.parametrize(
    "grammar",
    [
        *map(chain, ["rules", "terms", "refs"]),
        Grammar("regex", "(?:a|b)?" * (LONGEST // 8)),
        Grammar("regex", "(((a{100}){100}){100})"),
        Grammar("regex", "(a|b)*a(a|b){60}"),
        Grammar("regex", "(" * 30_000),
        Grammar("grammar", "start: " + "(" * 30_000),
        Grammar("grammar", "root ::= " + "(" * 30_000),
        Grammar("grammar", "start: a\n" + "\n".join(f'{x}: {y}? | "x"' for x, y in zip("abcdefgh", "bcdefgha", strict=True))),
        schema({"type": "array", "minItems": 100_000, "items": {"const": "aaa"}}),
        schema({"enum": [f"{n * 7919 % 9973}-{n}" for n in range(4000)]}),
    ],
    ids=lambda grammar: grammar.text[:20],
)  # fmt: skip
def test_a_hostile_grammar_costs_little_and_hurts_nobody_else(engine, grammar):
    begun, cost = time.monotonic(), 0.0
    try:
        guide = engine.guides.guide(grammar)
        for _ in range(3):
            begun = time.monotonic()
            bits = np.unpackbits(guide.allowed().view(np.uint8), bitorder="little")
            cost = max(cost, time.monotonic() - begun)
            guide.take(int(bits.nonzero()[0][0]))
            if guide.is_over:
                break
    except RequestError as problem:
        assert str(problem)
    assert cost < 0.2, "masks are made on the engine's thread"
    assert told(engine.submit(asked(Grammar("regex", "(ok|fine)"))))[1] in ("ok", "fine")


def test_a_grammar_that_cannot_go_on_fails_its_own_request():
    """The vocabulary lacks a byte that the text needs: known only when it is reached."""
    lacking = ByteTokenizer()
    lacking.pieces[ord("z")] = b""
    with Engine(HashRunner(400, 16), hash_config(1024), lacking) as engine:
        healthy = engine.submit(asked(Grammar("regex", "[ab]{50}")))
        failed = told(engine.submit(asked(Grammar("regex", "abcz"))))
        assert failed[2].finish == "error" and "no token of this vocabulary may follow" in failed[2].problem
        assert told(healthy)[2].finish == "stop"


def test_threads_that_ask_for_one_grammar_at_once_each_get_a_guide_of_their_own():
    guides, texts = Guides(TOKENIZER), []

    def walk(dice):
        guide, said = guides.guide(schema(SCHEMAS[0])), []
        while not guide.is_over:
            bits = np.unpackbits(guide.allowed().view(np.uint8), count=TOKENIZER.size, bitorder="little")
            said.append(int(dice.choice(bits.nonzero()[0])))
            guide.take(said[-1])
        texts.append(TOKENIZER.decode(said))

    threads = [threading.Thread(target=walk, args=[np.random.default_rng(n)]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 8 and all(matches(schema(SCHEMAS[0]), text) for text in texts)


def test_white_space_between_the_parts_of_json_never_goes_on_for_ever(engine):
    spaces = Sampling(temperature=0, logit_bias={ord(" "): 1e4, ord("\n"): 2e4, TOKENIZER.ids[b" \n"]: 2e4})
    _, text, last = told(engine.submit(asked(schema(SCHEMAS[0]), sampling=spaces, max_tokens=1000)))
    assert last.finish == "stop" and len(text) < 1000 and matches(schema(SCHEMAS[0]), text)
