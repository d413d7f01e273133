"""ChatML: `<|im_start|>` role, line break, content, `<|im_end|>`, line break. SmolLM2 and many others write
it.

Some files begin with a system line of their own where a conversation has none (`default`). Tools are told
at the end of the system message and called as `<tool_call>` objects, the way that most ChatML models with
tools were taught.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from puna.messages import Call, Message, Tool
from puna.tokenizer.dialect import TEMPLATES, special
from puna.tokenizer.spans import Part

START, END = "<|im_start|>", "<|im_end|>"
SMOLLM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
TOLD = (
    "# Tools\n\nYou may call one or more functions to help with the request. Their signatures, one a line, "
    "are within <tools></tools> XML tags:\n<tools>\n@</tools>\n\nFor each call, write a JSON object with the "
    "name of the function and its arguments within <tool_call></tool_call> XML tags:\n"
    '<tool_call>\n{"name": "function-name", "arguments": {"argument": "value"}}\n</tool_call>'
)


@dataclass(frozen=True)
class ChatML:
    """`default`: the system line of a conversation without a system message."""

    name: str = "chatml"
    default: str = ""
    apart = False
    stops = (END,)
    options: frozenset[str] = frozenset()

    @property
    def jinja(self) -> str:
        text = (TEMPLATES / "chatml.jinja").read_text(encoding="utf-8")
        return text.replace("@DEFAULT@", json.dumps(self.default, ensure_ascii=False))

    def parts(
        self, messages: Sequence[Message], tools: Sequence[Tool], reply: bool, options: Mapping[str, Any]
    ) -> tuple[list[Part], bool]:
        told = TOLD.replace("@", "".join(map(_signature, tools))) if tools else ""
        parts = [] if messages[0].role == "system" else self._first(told)
        for index, message in enumerate(messages):
            parts += self._turn(index, message, told if index == 0 and message.role == "system" else "")
        opened = [special(START, "header"), Part("header", "assistant\n")]
        return parts + (opened if reply else []), True

    def _first(self, told: str) -> list[Part]:
        """The system message of a conversation that has none."""
        said = "\n\n".join(filter(None, (self.default, told)))
        if not said:
            return []
        header = [special(START, "header"), Part("header", "system\n")]
        return [*header, Part("format", said), special(END, "end"), Part("format", "\n")]

    def _turn(self, index: int, message: Message, told: str) -> list[Part]:
        between = "\n\n" if told and message.content else ""
        return [
            special(START, "header", index),
            Part("header", f"{message.role}\n", index),
            Part("content", message.content, index),
            Part("format", between + told, index),
            Part("call", _written(message.calls, bool(message.content)), index),
            special(END, "end", index),
            Part("format", "\n", index),
        ]


def _written(calls: Sequence[Call], after_text: bool) -> str:
    texts = [
        f'<tool_call>\n{{"name": {_json(call.name)}, "arguments": {_json(call.arguments)}}}\n</tool_call>'
        for call in calls
    ]
    return ("\n" if after_text and texts else "") + "\n".join(texts)


def _signature(tool: Tool) -> str:
    return _json(tool.to_openai()) + "\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
