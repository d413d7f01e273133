"""What people, models and tools say to each other: the one message type of chat, server, data and training.

The shape is OpenAI's, made strict: a role, text, and for the assistant the tool calls it makes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from puna.errors import DataError, need

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, kw_only=True)
class Call:
    """The assistant asks for one tool: `name(**arguments)`. `id` ties the tool's answer to it."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn. `calls` only for the assistant; `call_id` and `name` only for a tool's answer."""

    role: str
    content: str = ""
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    name: str = ""

    def to_openai(self) -> dict[str, Any]:
        """As the OpenAI chat API writes it."""
        said: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.calls:
            said["content"] = self.content or None
            said["tool_calls"] = [call_to_openai(call) for call in self.calls]
        if self.call_id:
            said["tool_call_id"] = self.call_id
        if self.name:
            said["name"] = self.name
        return said


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A function the model may call; `parameters` is a JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)

    def to_openai(self) -> dict[str, Any]:
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


def call_to_openai(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
    return {"id": call.id, "type": "function", "function": function}


def messages_from_openai(items: Any, where: str = "messages") -> list[Message]:
    """Messages from the OpenAI shape; DataError names the item that is wrong."""
    need(
        isinstance(items, Sequence) and not isinstance(items, str) and items,
        f"{where}: a list of at least one message is needed, not {type(items).__name__}",
        error=DataError,
    )
    return [_message(item, f"{where}[{index}]") for index, item in enumerate(items)]


def tools_from_openai(items: Any, where: str = "tools") -> list[Tool]:
    """Tools from the OpenAI shape, `{"type": "function", "function": {...}}` each."""
    need(items is None or isinstance(items, list), f"{where}: a list is needed", error=DataError)
    return [_tool(item, f"{where}[{index}]") for index, item in enumerate(items or [])]


def _message(item: Any, where: str) -> Message:
    need(isinstance(item, dict), f"{where}: an object with role and content is needed", error=DataError)
    role = item.get("role")
    role = {"developer": "system", "function": "tool"}.get(role, role) if isinstance(role, str) else role
    need(role in ROLES, f"{where}.role: {role!r} is not one of {', '.join(ROLES)}", error=DataError)
    calls = item.get("tool_calls") or []
    need(isinstance(calls, list), f"{where}.tool_calls: a list is needed", error=DataError)
    need(not calls or role == "assistant", f"{where}: only the assistant makes tool calls", error=DataError)
    return Message(
        role=role,
        content=_text(item.get("content"), f"{where}.content"),
        calls=tuple(_call(call, f"{where}.tool_calls[{n}]") for n, call in enumerate(calls)),
        call_id=str(item.get("tool_call_id") or ""),
        name=str(item.get("name") or ""),
    )


def _text(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    need(isinstance(content, list), f"{where}: a string or a list of text parts is needed", error=DataError)
    for n, part in enumerate(content):
        need(
            isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str),
            f"{where}[{n}]: only text parts are understood: {{'type': 'text', 'text': ...}}",
            error=DataError,
        )
    return "".join(part["text"] for part in content)


def _call(item: Any, where: str) -> Call:
    function = item.get("function") if isinstance(item, dict) else None
    need(
        isinstance(function, dict) and isinstance(function.get("name"), str),
        f"{where}: {{'type': 'function', 'function': {{'name': ..., 'arguments': ...}}}} is needed",
        error=DataError,
    )
    assert isinstance(function, dict)
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except json.JSONDecodeError as problem:
            raise DataError(f"{where}.function.arguments: not JSON ({problem})") from None
    need(isinstance(arguments, dict), f"{where}.function.arguments: a JSON object is needed", error=DataError)
    return Call(name=function["name"], arguments=arguments, id=str(item.get("id") or ""))


def _tool(item: Any, where: str) -> Tool:
    function = item.get("function") if isinstance(item, dict) and item.get("type") == "function" else None
    need(
        isinstance(function, dict) and isinstance(function.get("name"), str) and function["name"],
        f"{where}: {{'type': 'function', 'function': {{'name': ...}}}} is needed",
        error=DataError,
    )
    assert isinstance(function, dict)
    parameters = function.get("parameters") or {}
    need(
        isinstance(parameters, dict), f"{where}.function.parameters: a JSON schema is needed", error=DataError
    )
    return Tool(name=function["name"], description=function.get("description") or "", parameters=parameters)
