"""What the assistant writes is read back as calls where it is one, and as text everywhere else."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from puna.messages import Call
from puna.tokenizer.tools import CallStream, read_calls


def f(**arguments):
    return Call(name="f", arguments=arguments)


CALLS = [  # text, what of it is content, calls
    ('<function=f>{"a": 1}</function>', "", [f(a=1)]),
    ('<function=f>{"a": {"b": {"c": "}"}}}</function>', "", [f(a={"b": {"c": "}"}})]),
    ("<function=f>{'a': 'it\\'s', 'b': None}</function>", "", [f(a="it's", b=None)]),
    ('<function=f>{"a": "it\'s"}</function>', "", [f(a="it's")]),
    ('<function=f>{"a": 1}', "", [f(a=1)]),
    ('<function=f>{"a": 1}</function> done', "done", [f(a=1)]),
    (
        "Let me see.\n<function=f>{}</function>\n<function=g>{}</function>",
        "Let me see.",
        [f(), Call(name="g")],
    ),
    (
        '<tool_call>\n{"name": "f", "arguments": {"a": [1, {"b": "</tool_call>"}]}}\n</tool_call>',
        "",
        [f(a=[1, {"b": "</tool_call>"}])],
    ),
    (
        'One.\n<tool_call>{"name": "f", "arguments": "{\\"a\\": 2}"}</tool_call>\nTwo.',
        "One.\n\nTwo.",
        [f(a=2)],
    ),
    ('{"name": "f", "parameters": {"a": 1}}', "", [f(a=1)]),
    ('{"type": "function", "name": "f", "parameters": {"a": 1}}', "", [f(a=1)]),
    ('{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}', "", [f(a=1)]),
    ('{"name": "f", "parameters": {"a": 1}}; {"name": "f", "parameters": {}}', "", [f(a=1), f()]),
    ('{"name": "f", "parameters": {"a": 1}}\nThat is all.', "That is all.", [f(a=1)]),
    ("{'name': 'f', 'parameters': {'a': True}}", "", [f(a=True)]),
    ("[f(a='x', b=[1, 2.5, {'k': None}]), f()]", "", [f(a="x", b=[1, 2.5, {"k": None}]), f()]),
    ('[f(a="])", b="\\"")] ok', "ok", [f(a="])", b='"')]),
    ("[f(a='C:\\dir')]", "", [f(a="C:\\dir")]),
    ("[m.f(a=-1)]", "", [Call(name="m.f", arguments={"a": -1})]),
    (
        'brave_search.call(query="so "quoted" a query")',
        "",
        [Call(name="brave_search", arguments={"query": 'so "quoted" a query'})],
    ),
    ('w.call(a="1", b="2")', "", [Call(name="w", arguments={"a": "1", "b": "2"})]),
    ("<|python_tag|>print('hi')\n", "", [Call(name="code_interpreter", arguments={"code": "print('hi')\n"})]),
    ('<|python_tag|>brave_search.call(query="x")', "", [Call(name="brave_search", arguments={"query": "x"})]),
    ('<|python_tag|>[f(a="x")]', "", [f(a="x")]),
    ('<|python_tag|>{"name": "f", "parameters": {}}', "", [f()]),
]
TEXTS = [
    "",
    " \n",
    "Hello.",
    '{"name": "Ann", "age": 3}',
    '{"name": "f", "parameters": [1]}',
    '{"name": "f", "parameters": {"a": 1}',
    "[1] A citation",
    "[f(x) for x in y]",
    "[f(1)]",
    "[f(a=g())]",
    "[f(a=__import__('os').system('true'))]",
    "[f(**{'a': 1})]",
    "[f(a=1, b=2",
    "[]",
    "I would use <function=f> for that",
    "<function=f>not json</function>",
    '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
    "brave_search.call(query=1)",
    "[" * 50_000,
    "[f(a=" + "[" * 5_000,
    '{"a":' * 50_000,
    "<function=f>{" * 5_000,
    "[f(a=" + "-" * 60_000 + "1)]",
    "[f" + ".f" * 30_000 + "()]",
    '[f(a="\ud800")]',
    "[f(a='\0')]",
    '{"name": "f", "parameters": {"a": ' + "9" * 5_000 + "}}",
]


@pytest.mark.parametrize("text, content, calls", CALLS)
def test_every_form_of_call_is_read(text, content, calls):
    assert read_calls(text) == (content, tuple(calls))


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_what_is_not_a_call_stays_as_it_was_written(text):
    assert read_calls(text) == (text, ())


def test_only_calls_of_known_tools_are_calls():
    text = '{"name": "f", "parameters": {}}'
    assert (
        read_calls(text, ["f"])[1]
        and read_calls(text, ["g"]) == (text, ())
        and read_calls(text, ()) == (text, ())
    )


def streamed(text, cuts, names=None):
    stream, at, pieces = CallStream(names), 0, []
    for cut in [*sorted(cuts), len(text)]:
        pieces.append(stream.feed(text[at:cut]))
        at = cut
    rest, calls = stream.finish()
    return "".join(pieces) + rest, calls, pieces


WHOLE = [text for text, _, _ in CALLS] + [text for text in TEXTS if len(text) < 200]


@pytest.mark.parametrize("text", WHOLE, ids=range(len(WHOLE)))
def test_a_stream_finds_what_the_whole_text_holds(text):
    rng = random.Random(1)
    for cuts in (
        [],
        range(1, len(text)),
        *(rng.sample(range(len(text) + 1), min(3, len(text))) for _ in range(20)),
    ):
        assert streamed(text, cuts)[:2] == read_calls(text)
        assert streamed(text, cuts, ())[:2] == (text, ())


def test_a_stream_lets_text_through_and_holds_calls_back():
    text = 'Well, 1 < 2.\n\n<tool_call>{"name": "f", "arguments": {}}</tool_call> end'
    content, calls, pieces = streamed(text, range(1, len(text)))
    assert content == "Well, 1 < 2.\n\n end" and calls == (f(),)
    assert "".join(pieces) == "Well, 1 < 2." and pieces[4] == "Well,"


PIECES = st.sampled_from(
    [
        "<function=",
        "f",
        ">",
        "{",
        "}",
        '"',
        "'",
        "a",
        ":",
        "1",
        "[",
        "]",
        "(",
        ")",
        "=",
        ",",
        ";",
        " ",
        "\n",
        "</function>",
        "<tool_call>",
        "</tool_call>",
        '{"name": "f", "parameters": {}}',
        "[f(a=1)]",
        "<|python_tag|>",
        ".call(",
        'query="',
        "\\",
    ]
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(PIECES, max_size=14).map("".join), st.lists(st.integers(0, 60), max_size=6))
@example('a <tool_call>{"name": "f", "arguments": {}}</tool_call>', [1, 2])
def test_no_text_makes_the_reader_fail_or_the_stream_differ(text, cuts):
    content, calls = read_calls(text)
    assert calls or content == text
    assert streamed(text, [cut for cut in cuts if cut < len(text)])[:2] == (content, calls)
