"""`puna look`: what a model on disk is, from its headers, in a blink."""

import json as formats
from typing import Any

from puna import hub
from puna.cli.screen import clean
from puna.model.look import describe


def look(model: str, /, *, json: bool = False) -> int:
    """Tell what a model is: layout, sizes, types of its tensors, tokenizer.

    Parameters
    ----------
    model
        A folder, a .gguf file, smollm2, or hf:org/name.
    json
        One JSON object instead of text.
    """
    facts = describe(hub.find(model))
    if json:
        print(formats.dumps(facts, ensure_ascii=False))
        return 0
    for line in _lines(facts):
        print(clean(line))
    return 0


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    """One line a fact, the values of one level under each other."""
    lines, width = [], max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        if isinstance(value, dict) and name != "types":
            lines += [f"{indent}{name}:", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:<{width}}  {_text(value)}")
    return lines


def _text(value: Any) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{count} {kind}" for kind, count in value.items())
    elif isinstance(value, list):
        value = ", ".join(map(str, value)) or "none"
    elif isinstance(value, int) and not isinstance(value, bool) and value > 9999:
        value = f"{value:,}"
    return next(iter(str(value).splitlines()), "")
