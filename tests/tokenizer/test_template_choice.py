"""Which code renders a file, and what is said when a conversation cannot be written."""

import pytest
from chat_oracles import llama, smollm

from puna.errors import TokenizerError
from puna.messages import Call, Message, Tool
from puna.tokenizer.template import template_for


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
