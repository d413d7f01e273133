"""What a run or a token shard is, told from what they say of themselves: no table is opened."""

import json
from pathlib import Path
from typing import Any

from puna import lineage
from puna.data.shards import Shard
from puna.errors import DataError


def describe_run(folder: Path) -> dict[str, Any]:
    """Facts about a run, ready for JSON; those of its lineage are there when all its steps were done."""
    try:
        said = json.loads((folder / "run.json").read_bytes())
        facts = {"layout": "data run", "path": str(folder), "name": said["name"], "mode": said["mode"]}
        facts |= {name: [one["name"] for one in said[name]] for name in ("sources", "stages")}
    except (ValueError, LookupError, TypeError):
        raise DataError(f"{folder}/run.json: not the recipe of a run\n  try: puna data run") from None
    node = lineage.read(folder)
    return facts | {"lineage": lineage.told(node) if node else "not all of its steps are done"}


def describe_shard(path: Path) -> dict[str, Any]:
    """Facts about one file of token shards, ready for JSON."""
    shard = Shard(path)
    facts = {"layout": "token shard", "path": str(path), "bytes": path.stat().st_size}
    facts |= {"documents": shard.count, "tokens": shard.size, "vocabulary": shard.header.vocabulary}
    facts |= {"id_bytes": shard.header.id_bytes, "tokenizer": shard.header.tokenizer.hex()}
    sources = {name: f"{n:,} documents, {tokens:,} tokens" for name, (n, tokens) in shard.counts().items()}
    return facts | {"sources": sources}
