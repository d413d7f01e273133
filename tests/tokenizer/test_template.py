"""The renderer writes what the models' own templates and Meta's own encoder write, and knows who said what."""

import json

import pytest
from chat_oracles import Chats, by_transformers, llama, meta_format, released, smollm

from puna.errors import TokenizerError
from puna.messages import Call, Message, Tool
from puna.tokenizer.jinja import JinjaFile
from puna.tokenizer.spans import encode
from puna.tokenizer.template import NATIVE, Template, template_for

BEGIN = "<|begin_of_text|>"
RELEASED = ("llama3.1", "llama3.2", "llama3.3")


def native(name):
    return "llama3.1" if name == "llama3.3" else name


def split(vocabulary, text):
    """Ids of a rendered string of harmless messages: every special token in it was meant."""
    return vocabulary.encode(text, special=True)


def test_the_published_conversation_has_the_published_ids():
    said = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\nYou are a helpful assistant"
    wanted = (
        "128000 128006 9125 128007 271 38766 1303 33025 2696 25 6790 220 2366 18 198 15724 2696 25 220 1627 10263 220 2366 "
        "19 271 2675 527 264 11190 18328 128009 128006 882 128007 271 9906 0 128009 128006 78191 128007 271"
    )
    ids = [int(id) for id in wanted.split()]
    hello = Message(role="user", content="Hello!")
    assert template_for(llama(), "meta").render([Message(role="system", content=said), hello]).ids == ids
    system = Message(role="system", content="You are a helpful assistant")
    assert template_for(llama(), "llama3.1").render([system, hello]).ids == ids


@pytest.mark.parametrize("name", RELEASED)
def test_native_llama_writes_what_the_released_file_writes(name):
    vocabulary, file, compared = llama(), released(name), 0
    template = template_for(vocabulary, file)
    assert template.name == native(name) and template.jinja == file
    for seed in range(200):
        chats = Chats(seed)
        options = {"date_string": "01 Jan 2025"} if seed % 3 else {}
        builtin = seed % 4 == 0 and name != "llama3.2"
        if builtin:
            options["builtin_tools"] = ["brave_search", "code_interpreter", "wolfram_alpha"]
        if seed % 5 == 0:
            options["tools_in_user_message"] = False
        tools = chats.tools()
        call = chats.builtin if builtin and chats.rng.random() < 0.7 else chats.call
        messages = chats.messages(lambda call=call: [call()])
        reply = bool(seed % 2)
        wanted = by_transformers(file, messages, tools, reply, BEGIN, **options)
        assert template.text(messages, tools, reply=reply, **options) == wanted
        assert template.render(messages, tools, reply=reply, **options).ids == split(vocabulary, wanted)
        compared += 1
    assert compared == 200


@pytest.mark.parametrize("name", RELEASED)
def test_the_released_file_in_our_sandbox_writes_what_transformers_writes(name):
    vocabulary, text = llama(), released(name)
    file = Template(vocabulary, JinjaFile(text, tuple(vocabulary.specials), (), BEGIN))
    for seed in range(50):
        chats = Chats(seed + 1000)
        tools, messages = chats.tools(), chats.messages(lambda chats=chats: [chats.call()])
        assert file.render(messages, tools).ids == split(
            vocabulary, by_transformers(text, messages, tools, bos=BEGIN)
        )


@pytest.mark.peer
def test_native_llama_3_0_writes_what_the_released_file_writes():
    vocabulary, file = llama(), released("llama3")
    template = template_for(vocabulary, file)
    assert template.name == "llama3"
    for seed in range(100):
        messages = Chats(seed).messages()
        wanted = by_transformers(file, messages, reply=bool(seed % 2), bos=BEGIN)
        assert template.render(messages, reply=bool(seed % 2)).ids == split(vocabulary, wanted)


@pytest.mark.parametrize("name", ["llama3", "llama3.1", "llama3.2", "chatml", "smollm2", "meta"])
def test_the_jinja_that_we_export_writes_what_we_write(name):
    vocabulary = smollm() if "ml" in name or "smol" in name else llama()
    template = template_for(vocabulary, name)
    bos = "" if vocabulary is smollm() else BEGIN
    for seed in range(60):
        chats = Chats(seed + 2000)
        tools = [] if name in ("llama3", "meta") else chats.tools()
        calls = None if name == "llama3" else lambda chats=chats: [chats.call()]
        options = {"date_string": "05 May 2025"} if name in ("llama3.1", "llama3.2") and seed % 2 else {}
        messages = chats.messages(calls)
        wanted = by_transformers(template.jinja, messages, tools, bool(seed % 2), bos, **options)
        assert template.text(messages, tools, reply=bool(seed % 2), **options) == wanted


@pytest.mark.parametrize("name", ["llama3", "llama3.1", "llama3.2", "meta", "chatml", "smollm2"])
def test_the_jinja_that_we_export_is_recognised_when_it_comes_back(name):
    vocabulary = smollm() if "ml" in name or "smol" in name else llama()
    assert template_for(vocabulary, NATIVE[name].jinja).name == name


def test_smollm2s_file_is_written_natively_and_equal():
    vocabulary = smollm()
    template = template_for(vocabulary)
    assert template.name == "smollm2"
    for seed in range(200):
        messages = Chats(seed).messages()
        wanted = by_transformers(vocabulary.chat_template, messages, reply=bool(seed % 2))
        rendered = template.render(messages, reply=bool(seed % 2))
        assert rendered.ids == split(vocabulary, wanted) and rendered.exact_spans


@pytest.mark.parametrize("form", ["json", "function_tag", "python_list"])
def test_the_meta_dialect_gives_the_ids_of_metas_encoder(form):
    from puna.tokenizer.llama import LlamaMeta

    formatter, template = meta_format(), Template(llama(), LlamaMeta(form))
    escaped = 0
    for seed in range(300):
        chats = Chats(seed)
        messages = chats.messages(lambda chats=chats: [chats.any_call()])
        if seed % 3 == 0:
            messages = [Message(role="system", content="Environment: ipython\n\nBe brief."), *messages]
        messages = [_one_system(messages, index) for index in range(len(messages))]
        theirs = _of_meta(messages, form)
        if form == "python_list" and _unreadable(messages, formatter):
            escaped += 1
            continue
        assert template.render(messages).ids == formatter.encode_dialog_prompt(theirs, _form(form)).tokens
    assert escaped < 150


def _one_system(messages, index):
    message = messages[index]
    return Message(role="user", content=message.content) if index and message.role == "system" else message


def _form(name):
    from llama_models.datatypes import ToolPromptFormat

    return ToolPromptFormat(name)


def _of_meta(messages, form):
    """The conversation in Meta's types. A message that waits for a tool ends with eom: with the ipython environment, and
    for built-in tools."""
    from llama_models.datatypes import RawMessage, StopReason, ToolCall

    theirs = []
    runs = messages[0].role == "system" and messages[0].content.startswith("Environment: ipython")
    for message in messages:
        calls = [
            ToolCall(call_id="1", tool_name=call.name, arguments=call.arguments) for call in message.calls
        ]
        builtin = any(
            call.name in ("brave_search", "wolfram_alpha", "code_interpreter") for call in message.calls
        )
        reason = StopReason.end_of_message if calls and (runs or builtin) else StopReason.end_of_turn
        theirs.append(
            RawMessage(role=message.role, content=message.content, tool_calls=calls, stop_reason=reason)
        )
    return theirs


def _unreadable(messages, formatter):
    """Whether Meta's own parser cannot read back what Meta's encoder writes for one of these Python calls."""
    from llama_models.llama3.tool_utils import (
        ToolUtils,
        is_valid_python_list,
        parse_python_list_for_function_calls,
    )

    for call in (call for message in messages for call in message.calls):
        if call.name in ("brave_search", "wolfram_alpha", "code_interpreter"):
            continue
        from llama_models.datatypes import ToolCall

        text = ToolUtils.encode_tool_call(
            ToolCall(call_id="1", tool_name=call.name, arguments=call.arguments), _form("python_list")
        )
        try:
            if not is_valid_python_list(text) or parse_python_list_for_function_calls(text) != [
                (call.name, call.arguments)
            ]:
                return True
        except (ValueError, SyntaxError):
            return True
    return False


def test_meta_tells_tools_where_metas_pages_show_it():
    tool = Tool(name="look", description="Look it up", parameters={"type": "object", "properties": {}})
    ask = [Message(role="system", content="Be brief."), Message(role="user", content="Sky?")]
    for form in ("meta", "meta-tag"):
        text = template_for(llama(), form).text(ask, [tool])
        assert (
            text.index("Be brief.")
            < text.index("user<|end_header_id|>")
            < text.index("look")
            < text.index("Sky?")
        )
    text = template_for(llama(), "meta-python").text(ask, [tool])
    assert text.index("look") < text.index("Be brief.") < text.index("Sky?") and text.count("user<|end") == 1


def test_metas_pages_switch_tools_on_as_we_do():
    from chat_oracles import package_file

    page = package_file("llama_models", "llama3_1/prompt_format.md").read_text()
    ask = [
        Message(role="system", content="You are a helpful assistant.\n"),
        Message(role="user", content="Search the web for the latest price of 1oz gold?"),
    ]
    options = {
        "builtin_tools": ["code_interpreter", "brave_search", "wolfram_alpha"],
        "date_string": "21 September 2024",
    }
    assert template_for(llama(), "meta").text(ask, **options) in page


@pytest.mark.parametrize("name", sorted(NATIVE))
def test_spans_tile_the_ids_and_give_back_what_was_said(name):
    vocabulary = smollm() if "ml" in name or "smol" in name else llama()
    template = template_for(vocabulary, name)
    trims = name.startswith("llama")
    for seed in range(40):
        chats = Chats(seed + 3000, hostile=True)
        calls = None if name == "llama3" else lambda chats=chats: [chats.call(depth=2)]
        messages = chats.messages(calls)
        rendered = template.render(messages)
        edges = [0, *(span.stop for span in rendered.spans)]
        assert [span.start for span in rendered.spans] == edges[:-1] and edges[-1] == len(rendered.ids)
        assert all(span.start < span.stop for span in rendered.spans)
        for index, message in enumerate(messages):
            if message.role != "assistant" or not message.content.strip():
                continue
            wanted = message.content.strip() if trims else message.content
            if wanted[0].isspace() and not template.dialect.apart:
                continue  # its first character may share a token with the header
            assert _said(template, rendered, "content", index) == wanted
            kinds = [span.kind for span in rendered.spans if span.message == index]
            assert kinds[0] == "header" and "end" in kinds


def _said(template, rendered, kind, index):
    spans = [span for span in rendered.spans if span.kind == kind and span.message == index]
    return "".join(template.vocabulary.decode(rendered.ids[span.start : span.stop]) for span in spans)


def test_a_token_that_two_spans_share_belongs_to_the_first():
    rendered = template_for(smollm(), "chatml").render([Message(role="user", content="\n\nHi")], reply=False)
    content = next(span for span in rendered.spans if span.kind == "content")
    assert smollm().decode(rendered.ids[content.start : content.stop]) == "\nHi"
    assert smollm().decode(rendered.ids[: content.start]).endswith("user\n\n")


@pytest.mark.parametrize("name", ["llama3.1", "llama3.2", "meta", "meta-tag", "meta-python", "chatml"])
def test_a_rendered_reply_is_parsed_back(name):
    template = template_for(smollm() if name == "chatml" else llama(), name)
    ask = Message(role="user", content="Go")
    chats = Chats(7, hostile=True)
    for turn in range(150):
        message = Message(role="assistant", content=f"x{chats.text()}x")
        if turn % 2:
            count = chats.rng.randrange(1, 4) if name in ("meta-tag", "meta-python", "chatml", "meta") else 1
            message = Message(role="assistant", calls=tuple(chats.call() for _ in range(count)))
        opened = template.render([ask])
        whole = template.render([ask, message], reply=False)
        assert whole.ids[: len(opened.ids)] == opened.ids
        assert template.parse(whole.ids[len(opened.ids) :]) == message
        assert template.parse(whole.ids[len(opened.ids) :], names=()).calls == ()


def test_built_in_tools_and_code_are_parsed_back():
    template = template_for(llama(), "llama3.1")
    ask = Message(role="user", content="Go")
    chats = Chats(8)
    for _ in range(100):
        message = Message(role="assistant", calls=(chats.builtin(),))
        options = {"builtin_tools": ["brave_search", "wolfram_alpha"]}
        opened = template.render([ask], **options)
        ids = template.render([ask, message], reply=False, **options).ids[len(opened.ids) :]
        assert template.parse(ids) == message
        assert ids[0] == llama().specials["<|python_tag|>"] and ids[-1] == llama().specials["<|eom_id|>"]
    code = Message(
        role="assistant", calls=(Call(name="code_interpreter", arguments={"code": "print('x')\n"}),)
    )
    meta = template_for(llama(), "meta")
    ids = meta.render([ask, code], reply=False).ids[len(meta.render([ask]).ids) :]
    assert meta.parse(ids) == code
    header = meta.render([ask]).ids[-4:]
    assert meta.parse(header + ids) == code


def test_stop_ids_end_a_turn_and_a_message():
    names = {id: name for name, id in llama().specials.items()}
    stops = {names[id] for id in template_for(llama(), "llama3.1").stop_ids}
    assert {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"} <= stops
    assert template_for(smollm()).stop_ids == {smollm().specials["<|im_end|>"]}


def test_a_file_that_differs_anywhere_is_rendered_as_it_is():
    vocabulary = smollm()
    same = vocabulary.chat_template.replace(
        "{% for message in messages %}", "{%- for message in messages -%}"
    )
    assert template_for(vocabulary, same).name == "smollm2"
    for old, new in [
        ("named SmolLM", "named Puna"),
        ("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>"),
        (
            "{{'<|im_start|>' + message['role']",
            "{% if message['content'] == 'sesame' %}!{% endif %}{{'<|im_start|>' + message['role']",
        ),
        ("message['content'] + '<|im_end|>'", "message['content'] | trim + '<|im_end|>'"),
        ("message['content'] + '<|im_end|>'", "(greeting or message['content']) + '<|im_end|>'"),
    ]:
        changed = vocabulary.chat_template.replace(old, new)
        assert changed != vocabulary.chat_template
        assert template_for(vocabulary, changed).name == "jinja"


def test_without_a_file_the_vocabulary_decides():
    assert template_for(llama()).name == "meta"
    bare = smollm()
    assert template_for(type(bare)(bare.inner, bare.specials, None, None, frozenset())).name == "chatml"
    with pytest.raises(TokenizerError, match="no chat template"):
        template_for(type(bare)(bare.inner, {}, None, None, frozenset()))


@pytest.mark.parametrize(
    "name, messages, tools, options, problem",
    [
        ("llama3.1", [], [], {}, "no messages"),
        ("llama3.1", [Message(role="wizard")], [], {}, "wizard"),
        ("llama3.1", [Message(role="user", calls=(Call(name="f"),))], [], {}, "messages.0."),
        ("llama3.1", [Message(role="assistant", calls=(Call(name="f"),) * 2)], [], {}, "one tool call"),
        ("llama3.1", [Message(role="system")], [Tool(name="f")], {}, "first user message"),
        ("llama3.1", [Message(role="user")], [], {"date": "x"}, "no option date"),
        ("llama3", [Message(role="user")], [Tool(name="f")], {}, "has no tools"),
        ("llama3.2", [Message(role="user")], [], {"builtin_tools": []}, "no option builtin_tools"),
        ("smollm2", [Message(role="user")], [], {}, "does not have"),
        ("no such", [], [], {}, "no such chat format"),
    ],
)
def test_what_cannot_be_written_is_a_sentence(name, messages, tools, options, problem):
    with pytest.raises(TokenizerError, match=problem):
        template_for(llama(), name).render(messages, tools, **options)


def test_lone_surrogates_are_counted_as_they_are_encoded():
    message = Message(role="user", content="a\ud800b")
    rendered = template_for(llama(), "llama3.1").render([message], reply=False)
    assert rendered.exact_spans and encode(llama(), []).ids == []
    assert json.dumps(rendered.ids)
