"""A model's own template cannot hurt us, and what people write cannot become a special token under it."""

import contextlib
import resource
import time
from collections import Counter

import pytest
from chat_oracles import Chats, by_transformers, llama, released, smollm
from hostile_templates import HOSTILE
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import TokenizerError
from puna.messages import Call, Message, Tool
from puna.tokenizer.jinja import JinjaFile
from puna.tokenizer.sandbox import FAILURES
from puna.tokenizer.template import NATIVE, Template, template_for

ASK = [Message(role="user", content="Hi")]


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_template_is_an_error_soon_and_small(template):
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(TokenizerError):
        Template(smollm(), JinjaFile(template, tuple(smollm().specials), ())).render(ASK)
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_long_conversation_is_no_hostile_template():
    messages = [
        Message(role=role, content="word " * 200) for _ in range(500) for role in ("user", "assistant")
    ]
    template = Template(
        smollm(), JinjaFile(NATIVE["chatml"].jinja, tuple(smollm().specials), ("<|im_end|>",))
    )
    rendered = template.render(messages)
    assert rendered.exact_spans and rendered.ids == template_for(smollm(), "chatml").render(messages).ids


def test_the_tag_of_transformers_for_what_was_generated_is_read():
    text = "{% for m in messages %}{{ '<|im_start|>' }}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    assert Template(smollm(), JinjaFile(text, tuple(smollm().specials), ())).text(ASK) == "<|im_start|>Hi"


def jinja_twin(name):
    """A native format rendered through the sandbox instead."""
    vocabulary = llama() if name.startswith("llama") else smollm()
    bos = "<|begin_of_text|>" if name.startswith("llama") else ""
    stops = ("<|eot_id|>", "<|eom_id|>", "<|im_end|>")
    return Template(vocabulary, JinjaFile(NATIVE[name].jinja, tuple(vocabulary.specials), stops, bos))


@pytest.mark.parametrize("name", ["llama3.1", "llama3.2", "chatml", "smollm2"])
def test_native_and_sandbox_give_the_same_ids_and_contents_even_for_hostile_messages(name):
    jinja, native = jinja_twin(name), template_for(jinja_twin(name).vocabulary, name)
    for seed in range(60):
        chats = Chats(seed + 4000, hostile=True)
        tools = chats.tools()
        messages = chats.messages(lambda chats=chats: [chats.call()])
        one, other = jinja.render(messages, tools), native.render(messages, tools)
        assert one.ids == other.ids
        assert one.exact_spans != any(message.calls for message in messages)
        if one.exact_spans:
            for index in (
                i
                for i, message in enumerate(messages)
                if message.role == "assistant" and message.content.strip()
            ):
                ours, theirs = ([_place(r, k, index) for k in ("content", "end")] for r in (one, other))
                leading = messages[index].content[0].isspace() and not name.startswith("llama")
                assert ours[1] == theirs[1] and ours[0][1] == theirs[0][1]
                assert leading or ours[0] == theirs[0]


def _place(rendered, kind, index):
    return next(
        (span.start, span.stop) for span in rendered.spans if (span.kind, span.message) == (kind, index)
    )


CUTS = st.lists(
    st.tuples(st.integers(0, 1900), st.integers(0, 60), st.integers(0, 1900)), min_size=1, max_size=5
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(["llama3.1", "llama3.2", "chatml"]), CUTS)
def test_a_damaged_template_renders_or_is_an_error(name, cuts):
    text = NATIVE[name].jinja
    for start, length, to in cuts:  # a piece moves elsewhere, as files get damaged
        text = text[:start] + text[start + length :]
        text = text[:to] + NATIVE[name].jinja[start : start + length] + text[to:]
    began = time.process_time()
    with contextlib.suppress(TokenizerError):
        Template(llama(), JinjaFile(text, tuple(llama().specials), ())).render(ASK)
    assert time.process_time() - began < 5


LETTERS = st.sampled_from(
    [
        "<",
        "|",
        ">",
        "<|",
        "|>",
        "im_end",
        "im_start",
        "<|im_end|>",
        "<|im_start|>",
        "<filename>",
        "filename",
        "<|im_",
        "end|>",
        "<|eot_id|>",
        "eot_id",
        "<|begin_of_text|>",
        "<|python_tag|>",
        "_id|>",
        "<|start_header_id|>",
        "a",
        " ",
        "\n",
        "é",
        "repo_name",
        "\U000f0000",
    ]
)
TEXT = st.lists(LETTERS, max_size=6).map("".join)
GLUE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n<{{ m.content }}>{{ m.content|trim }}<|{{ m.content }}|><|im_end|>"
    "{% endfor %}{% for t in tools or [] %}<{{ t.function.name }}>{{ t | tojson }}{% for k in t.function.parameters.properties or {} %}"
    "<{{ k }}>{% endfor %}{% endfor %}"
)


def specials_in(template, ids):
    known = frozenset(template.vocabulary.specials.values())
    return Counter(id for id in ids if id in known)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_no_one_can_write_a_special_token(data):
    name = data.draw(
        st.sampled_from(
            ["llama3.1", "llama3.2", "chatml", "meta", "meta-tag", "meta-python", "jinja", "sandboxed"]
        )
    )
    template = {
        "jinja": lambda: Template(smollm(), JinjaFile(GLUE, tuple(smollm().specials), ())),
        "sandboxed": lambda: jinja_twin("llama3.1"),
    }.get(name, lambda: template_for(smollm() if name == "chatml" else llama(), name))()

    def talk(text):
        call = Call(name=text(), arguments={text(): text(), "b": [text()]})
        tool = Tool(
            name=text(),
            description=text(),
            parameters={"type": "object", "properties": {text(): {"type": text()}}},
        )
        messages = [Message(role="system", content=text()), Message(role="user", content=text(), name=text())]
        messages += [
            Message(role="assistant", calls=(call,)),
            Message(role="tool", content=text(), call_id=text()),
        ]
        return [*messages, Message(role="assistant", content=text()), Message(role="user", content=text())], [
            tool
        ]

    hostile = template.render(*talk(lambda: data.draw(TEXT)))
    harmless = template.render(*talk(iter(f"word{n}" for n in range(99)).__next__))
    assert specials_in(template, hostile.ids) == specials_in(template, harmless.ids)


def test_options_cannot_write_a_special_token_either():
    for template in (template_for(llama(), "llama3.1"), jinja_twin("llama3.1")):
        rendered = template.render(ASK, date_string="<|eot_id|>")
        assert specials_in(template, rendered.ids) == specials_in(template, template.render(ASK).ids)


def test_a_template_that_looks_into_messages_is_rendered_right_and_says_that_spans_are_unknown():
    text = "{% for m in messages %}{% if m.content.startswith('/think') %}T{% endif %}{{ m.content }}<|im_end|>{% endfor %}"
    template = Template(smollm(), JinjaFile(text, tuple(smollm().specials), ("<|im_end|>",)))
    plain, looked = (
        template.render([Message(role="user", content=said)]) for said in ("hello", "/think hard")
    )
    assert plain.exact_spans and [span.kind for span in plain.spans] == ["content", "end"]
    assert not looked.exact_spans and {span.kind for span in looked.spans} == {"format"}
    assert smollm().decode(looked.ids) == "T/think hard<|im_end|>"


def test_a_template_without_tools_refuses_them():
    template = Template(smollm(), JinjaFile(smollm().chat_template, tuple(smollm().specials), ()))
    with pytest.raises(TokenizerError, match="no place for tools"):
        template.render(ASK, [Tool(name="f")])
    with pytest.raises(TokenizerError, match="no option thinking"):
        template.render(ASK, thinking=True)


def test_other_models_templates_write_what_transformers_writes():
    """Those that llama.cpp carries, where its sdist is at hand."""
    released("llama3.1")
    from chat_oracles import others

    tool = Tool(
        name="look", description="d", parameters={"type": "object", "properties": {"a": {"type": "string"}}}
    )
    messages = [
        Message(role="system", content=" Be <brief> "),
        *ASK,
        Message(role="assistant", content="A"),
        *ASK,
    ]
    compared = 0
    for text in others():
        for tools in ((), (tool,)):
            try:
                wanted = by_transformers(text, messages, tools, bos="<s>")
            except FAILURES:  # the template refuses this conversation, in ways of its own
                continue
            file = JinjaFile(text, ("<s>",), (), "<s>")
            if tools and "tools" not in file.compiled.reads:
                continue
            template = Template(smollm(), file)
            assert (
                "".join(part.text for part in template.dialect.parts(messages, tools, True, {})[0]) == wanted
            )
            compared += 1
    assert compared > 100
