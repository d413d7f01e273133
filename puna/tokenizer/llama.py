"""How the Llama 3 models write a conversation: as the released files do (`LlamaFile`), and as Meta's code
does (`LlamaMeta`).

The files' way trims what is said, and from 3.1 on always tells the date; Meta's code adds and removes
nothing, and encodes role, line break and content each alone. Train and serve with one of them. A message is
    <|start_header_id|> role <|end_header_id|> "\\n\\n" content <|eot_id|>
with <|eom_id|> where the assistant goes on after a tool has answered. Tool results have the role `ipython`.
"""

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from puna.errors import TokenizerError, need
from puna.messages import Call, Message, Tool
from puna.tokenizer.dialect import TEMPLATES, special
from puna.tokenizer.spans import Kind, Part
from puna.tokenizer.tools import CODE, PYTHON_TAG

BEGIN, START, STOP = "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"
TURN_ENDS, MESSAGE_ENDS = "<|eot_id|>", "<|eom_id|>"
RELEASED = "26 Jul 2024"  # the day that the files of 3.1 and 3.3 call today
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
SEARCHES = ("brave_search", "wolfram_alpha", "photogen")  # built-in tools that take one query
CUTOFF = "Cutting Knowledge Date: December 2023\n"
UNQUOTABLE = re.compile('["\\\\\n\r\0\ud800-\udfff]')  # what cannot stand as it is in a Python string
CallFormat = Literal["json", "function_tag", "python_list"]

IN_USER = (
    "Given the following functions, please respond with a JSON for a function call "
    "with its proper arguments that best answers the given prompt.\n\n"
)
IN_SYSTEM = (
    "You have access to the following functions. "
    "To call a function, please respond with JSON for a function call."
)
HOW = (
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)


@dataclass(frozen=True)
class LlamaFile:
    """The template in the files of Llama 3 (`llama3`), 3.1 and 3.3 (`llama3.1`), 3.2 (`llama3.2`)."""

    name: str = "llama3.1"
    apart = False
    stops = (TURN_ENDS, MESSAGE_ENDS, "<|end_of_text|>")

    @property
    def jinja(self) -> str:
        return (TEMPLATES / f"{self.name}.jinja").read_text(encoding="utf-8")

    @property
    def options(self) -> frozenset[str]:
        known = {"llama3": (), "llama3.2": ("date_string", "tools_in_user_message")}
        return frozenset(known.get(self.name, ("date_string", "tools_in_user_message", "builtin_tools")))

    def parts(
        self, messages: Sequence[Message], tools: Sequence[Tool], reply: bool, options: Mapping[str, Any]
    ) -> tuple[list[Part], bool]:
        first = next(
            (index for index, message in enumerate(messages) if message.role != "system" or index), None
        )
        in_user = bool(tools) and options.get("tools_in_user_message", True)
        parts = [special(BEGIN, "format")]
        if self.name == "llama3":
            need(
                not tools and not any(message.calls for message in messages),
                "the format of Llama 3.0 has no tools",
                "a model of 3.1 or later",
                TokenizerError,
            )
            first = 0
        else:
            parts += self._system(messages[0], () if in_user else tools, bool(tools), options)
            need(
                not in_user or (first is not None and messages[first].role == "user"),
                "tools are told in the first user message, and the conversation does not begin with one",
                "tools_in_user_message=False",
                TokenizerError,
            )
        for index, message in enumerate(messages):
            if first is not None and index >= first:
                told = _definitions(IN_USER, tools) if in_user and index == first else ""
                parts += self._turn(index, message, told, options.get("builtin_tools"))
        return parts + (_header("assistant", None) if reply else []), True

    def _system(
        self, message: Message, tools: Sequence[Tool], any_tools: bool, options: Mapping[str, Any]
    ) -> list[Part]:
        """The message that always comes first: what is switched on, the dates, tools, and what the system
        says.
        """
        builtin = options.get("builtin_tools")
        lines = "Environment: ipython\n" if any_tools or builtin is not None else ""
        if builtin is not None:
            lines += "Tools: " + ", ".join(name for name in builtin if name != CODE) + "\n\n"
        today = RELEASED if self.name == "llama3.1" else _today()
        lines += f"{CUTOFF}Today Date: {options.get('date_string', today)}\n\n"
        lines += _definitions(IN_SYSTEM, tools)
        owner = 0 if message.role == "system" else None
        said = [Part("content", message.content.strip(), owner)] if owner == 0 else []
        return [
            *_header("system", owner),
            Part("format", lines, owner),
            *said,
            special(TURN_ENDS, "end", owner),
        ]

    def _turn(self, index: int, message: Message, told: str, builtin: Sequence[str] | None) -> list[Part]:
        if message.calls:
            return self._call(index, message.calls, builtin)
        is_result = message.role == "tool" and self.name != "llama3"
        said = json.dumps(message.content, ensure_ascii=False) if is_result else message.content.strip()
        return [
            *_header("ipython" if is_result else message.role, index),
            Part("format", told, index),
            Part("content", said, index),
            special(TURN_ENDS, "end", index),
        ]

    def _call(self, index: int, calls: Sequence[Call], builtin: Sequence[str] | None) -> list[Part]:
        """One call. What the assistant says beside it has no place in this format."""
        need(
            len(calls) == 1,
            f"messages[{index}]: this chat format holds one tool call in a message, not {len(calls)}",
            "one message for each call and its result",
            TokenizerError,
        )
        parts, call = _header("assistant", index), calls[0]
        if builtin is not None and call.name in builtin:
            need(
                all(isinstance(value, str) for value in call.arguments.values()),
                f"messages[{index}]: {call.name}: the arguments of a built-in tool are strings",
                error=TokenizerError,
            )
            written = ", ".join(f'{name}="{value}"' for name, value in call.arguments.items())
            parts += [special(PYTHON_TAG, "call", index), Part("call", f"{call.name}.call({written})", index)]
        else:
            arguments = json.dumps(call.arguments, ensure_ascii=False)
            parts.append(Part("call", f'{{"name": "{call.name}", "parameters": {arguments}}}', index))
        return [*parts, special(TURN_ENDS if builtin is None else MESSAGE_ENDS, "end", index)]


@dataclass(frozen=True)
class LlamaMeta:
    """Meta's own encoder. Calls are written in one of three formats; tools are told where Meta's pages show
    it.
    """

    calls: CallFormat = "json"
    apart = True
    stops = LlamaFile.stops
    options = frozenset(("date_string", "builtin_tools"))

    @property
    def name(self) -> str:
        return {"json": "meta", "function_tag": "meta-tag", "python_list": "meta-python"}[self.calls]

    @property
    def jinja(self) -> str:
        need(
            self.calls == "json",
            f"the chat format {self.name} cannot be written as Jinja",
            "the format meta, or llama3.1",
            TokenizerError,
        )
        return (TEMPLATES / "meta.jinja").read_text(encoding="utf-8")

    def parts(
        self, messages: Sequence[Message], tools: Sequence[Tool], reply: bool, options: Mapping[str, Any]
    ) -> tuple[list[Part], bool]:
        told = instructions(self.calls, tools)
        lines = _switches(options) + (told if self.calls == "python_list" else "")
        has_system = messages[0].role == "system"
        runs_tools = lines.startswith("Environment: ipython") or (
            has_system and messages[0].content.startswith("Environment: ipython")
        )
        parts = [special(BEGIN, "format")]
        if lines and not has_system:
            parts += [*_header("system", None), Part("format", lines), special(TURN_ENDS, "end")]
        for index, message in enumerate(messages):
            if told and self.calls != "python_list" and index == int(has_system):
                parts += [*_header("user", None), Part("format", told), special(TURN_ENDS, "end")]
            before = lines if has_system and index == 0 else ""
            parts += self._turn(index, message, before, runs_tools)
        return parts + (_header("assistant", None) if reply else []), True

    def _turn(self, index: int, message: Message, before: str, runs_tools: bool) -> list[Part]:
        parts = _header("ipython" if message.role == "tool" else message.role, index)
        if before:
            parts.append(Part("format", before, index))
        calls = message.calls
        if calls and calls[0].name == CODE:
            parts.append(special(PYTHON_TAG, "call", index))
        parts.append(Part("content", message.content, index))
        parts += [Part("call", text, index) for text in written(calls, self.calls)]
        goes_on = calls and (runs_tools or any(call.name in (*SEARCHES, CODE) for call in calls))
        return [*parts, special(MESSAGE_ENDS if goes_on else TURN_ENDS, "end", index)]


def written(calls: Sequence[Call], form: CallFormat) -> list[str]:
    """The calls as text, as Meta's encoder writes them; several in a Python list share one list."""
    texts, listed = [], []
    for call in calls:
        if call.name == CODE and isinstance(call.arguments.get("code"), str):
            texts.append(call.arguments["code"])
        elif call.name in SEARCHES and isinstance(call.arguments.get("query"), str):
            texts.append(f'{call.name}.call(query="{call.arguments["query"]}")')
        elif form == "json":
            texts.append(json.dumps({"type": "function", "name": call.name, "parameters": call.arguments}))
        elif form == "function_tag":
            texts.append(f"<function={call.name}>{json.dumps(call.arguments)}</function>")
        else:
            arguments = ", ".join(f"{name}={_python(value)}" for name, value in call.arguments.items())
            listed.append(f"{call.name}({arguments})")
    return [*texts, f"[{', '.join(listed)}]"] if listed else texts


def instructions(form: CallFormat, tools: Sequence[Tool]) -> str:
    """How Meta's pages tell a model of its tools, for each format of calls."""
    if not tools:
        return ""
    if form == "json":
        listed = "\n".join(json.dumps(tool.to_openai(), indent=4) for tool in tools)
        return (TEMPLATES / "meta_json.txt").read_text(encoding="utf-8").replace("@", listed)
    if form == "function_tag":
        listed = "\n\n".join(
            f"Use the function '{tool.name}' to '{tool.description}':\n"
            f"{json.dumps(tool.to_openai()['function'])}"
            for tool in tools
        )
        return (TEMPLATES / "meta_tag.txt").read_text(encoding="utf-8").replace("@", listed)
    functions = [tool.to_openai()["function"] for tool in tools]
    return (
        (TEMPLATES / "meta_python.txt")
        .read_text(encoding="utf-8")
        .replace("@", json.dumps(functions, indent=4))
    )


def _header(role: str, message: int | None) -> list[Part]:
    kind: Kind = "header"
    return [
        special(START, kind, message),
        Part(kind, role, message),
        special(STOP, kind, message),
        Part(kind, "\n\n", message),
    ]


def _definitions(before: str, tools: Sequence[Tool]) -> str:
    if not tools:
        return ""
    return before + HOW + "".join(_indented(tool) + "\n\n" for tool in tools)


def _indented(tool: Tool) -> str:
    return json.dumps(tool.to_openai(), ensure_ascii=False, indent=4)


def _today() -> str:
    now = datetime.datetime.now()
    return f"{now.day:02d} {MONTHS[now.month - 1]} {now.year}"


def _switches(options: Mapping[str, Any]) -> str:
    """The lines that turn on Meta's built-in tools and tell the date."""
    lines, builtin = "", options.get("builtin_tools")
    if builtin is not None:
        listed = ", ".join(name for name in builtin if name != CODE)
        lines = "Environment: ipython\n" + (f"Tools: {listed}\n" if listed else "\n")
    if "date_string" in options:
        lines += f"{CUTOFF}Today Date: {options['date_string']}\n\n"
    return lines


def _python(value: Any) -> str:
    """A value as Meta's encoder writes it, where Python reads that back; else as Python's literal."""
    if isinstance(value, str):
        plain = f'"{value}"'
        return repr(value) if UNQUOTABLE.search(value) else plain
    if isinstance(value, list):
        return f"[{', '.join(map(_python, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_python(key)}: {_python(item)}" for key, item in value.items()) + "}"
    return str(value)
