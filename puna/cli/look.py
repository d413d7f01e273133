"""`puna look`: what something on disk is, from what it says of itself, in a blink."""

import json as formats
from pathlib import Path
from typing import Any

from puna import hub, lineage
from puna.cli.screen import clean
from puna.model.look import describe


def look(model: str, /, *, json: bool = False) -> int:
    """Tell what something is: a model, a vocabulary, a run of data or a token shard, and where it comes from.

    Parameters
    ----------
    model
        A model (a folder, a .gguf file, smollm2, hf:org/name), or a path that a verb of puna wrote.
    json
        One JSON object instead of text.
    """
    facts = _facts(model)
    if json:
        print(formats.dumps(facts, ensure_ascii=False))
        return 0
    for line in _lines(facts):
        print(clean(line))
    return 0


def _facts(model: str) -> dict[str, Any]:
    path = Path(model)
    if (path / "run.json").is_file():
        from puna.data.look import describe_run

        return describe_run(path)
    if path.suffix == ".tokens" and path.is_file():
        from puna.data.look import describe_shard

        return describe_shard(path)
    layouts = ("config.json", "params.json")
    if (path / "tokenizer.json").is_file() and not any((path / name).is_file() for name in layouts):
        from puna.tokenizer.look import describe_vocabulary

        facts, at = describe_vocabulary(path), path
    else:
        place = hub.find(model)
        facts, at = describe(place), place.path
    node = lineage.read(at)
    return facts | ({"lineage": lineage.told(node)} if node else {})


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
