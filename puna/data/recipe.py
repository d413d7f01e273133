"""A recipe: sources, then stages in their order, and the few numbers that shape the files. Read from TOML.

    mode = "filter"
    [source.crawl]                    # the source's name; `kind` chooses what reads it
    kind = "warc"
    paths = ["crawl/*.warc.gz"]
    [stage."quality.gopher"]          # the stage's name; the order of the tables is the order of the run
    least_words = 50
    [stage.again]                     # or any name, with the stage's own as `kind`
    kind = "quality.gopher"

Any value can be given on the way: `--mode annotate`, `--quality.gopher.least_words 60`.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, InstanceOf, model_validator

from puna.data.source import Source, described
from puna.data.stage import Stage
from puna.errors import ConfigError, need
from puna.settings import Settings


class Recipe(Settings):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str = "data"
    mode: Literal["filter", "annotate"] = "filter"
    seed: int = 0
    sample: float = Field(0.01, ge=0, le=1)  # share of dropped documents whose text the sidecar keeps
    sources: tuple[InstanceOf[Source], ...]
    stages: tuple[InstanceOf[Stage], ...] = ()
    shard_bytes: int = Field(128 << 20, ge=1)  # of text: a piece is cut into shards of about this size
    group_bytes: int = Field(16 << 20, ge=1)  # of text in one row group: what a later stage holds at once
    partition_bytes: int = Field(128 << 20, ge=1)  # of text for each partition of an exchange
    partitions: int | None = (
        None  # a power of two; None: from the size of the documents, never of the machine
    )
    reduce_bytes: int = Field(64 << 20, ge=1)  # of rows that one reduction holds at once

    @model_validator(mode="after")
    def sources_have_names_of_their_own(self) -> "Recipe":
        names = [source.name for source in self.sources]
        need(len(set(names)) == len(names), f"sources: two have one name: {names}", error=ConfigError)
        return self

    @model_validator(mode="after")
    def partitions_are_a_power_of_two(self) -> "Recipe":
        count = self.partitions or 1
        need(0 < count <= 1 << 15 and count & (count - 1) == 0,
             f"partitions: {count} is not a power of two up to 32,768", error=ConfigError)  # fmt: skip
        return self

    def partitions_for(self, documents_bytes: int) -> int:
        """How many partitions the rows of so many bytes of text are exchanged in."""
        if self.partitions:
            return self.partitions
        wanted = max(1, -(-documents_bytes // self.partition_bytes))
        return min(1 << (wanted - 1).bit_length(), 1 << 14)

    def plain(self) -> dict[str, Any]:
        """All of it as plain values, to be saved with the run."""
        said = {
            key: getattr(self, key) for key in type(self).model_fields if key not in ("sources", "stages")
        }
        sources = [{"name": source.name} | described(source) for source in self.sources]
        stages = [{"name": s.name, "version": s.version} | s.model_dump(mode="json") for s in self.stages]
        return said | {"sources": sources, "stages": stages}


def read_recipe(
    path: str | Path,
    sources: Mapping[str, type[Settings]],
    stages: Mapping[str, type[Stage]],
    overrides: Sequence[str] = (),
) -> Recipe:
    """The recipe of a TOML file; `sources` and `stages` are the kinds that it may name."""
    try:
        said = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as problem:
        fix = "the path of a recipe, as docs/data.md shows one"
        raise ConfigError(f"{path}: {problem.strerror}\n  try: {fix}") from None
    except ValueError as problem:
        raise ConfigError(f"{path}: not TOML: {problem}\n  try: see docs/data.md for the form") from None
    for name, value in zip(overrides[::2], overrides[1::2], strict=False):
        _override(said, name.removeprefix("--"), value)
    need(len(overrides) % 2 == 0, f"{overrides[-1:]}: a setting without a value", error=ConfigError)
    made_sources = [
        _made(sources, name, values | {"name": name}, f"{path}: source.{name}")
        for name, values in said.pop("source", {}).items()
    ]
    made_stages = [
        _made(stages, name, values, f"{path}: stage.{name}") for name, values in said.pop("stage", {}).items()
    ]
    return Recipe.read(said | {"sources": made_sources, "stages": made_stages}, str(path))


def _made(kinds: Mapping[str, type[Settings]], name: str, values: dict, where: str) -> Settings:
    kind = values.pop("kind", name)
    near = difflib.get_close_matches(str(kind), kinds, n=1)
    fix = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(sorted(kinds))}"
    need(kind in kinds, f"{where}: no kind {kind!r}", fix, ConfigError)
    return kinds[kind].read(values, where)


def _override(said: dict[str, Any], name: str, value: str) -> None:
    """Set one value: of the source or stage with the longest name that fits, else of the run itself."""
    tables = said.get("source", {}) | said.get("stage", {})
    owner = max((key for key in tables if name.startswith(f"{key}.")), key=len, default="")
    at, parts = (tables[owner], name[len(owner) + 1 :].split(".")) if owner else (said, [name])
    fix = f"the names are {', '.join(tables)}"
    need(
        owner or "." not in name,
        f"--{name}: the recipe has no source or stage of that name",
        fix,
        ConfigError,
    )
    for part in parts[:-1]:
        at = at.setdefault(part, {})
        need(isinstance(at, dict), f"--{name}: {part} is a single value", error=ConfigError)
    try:
        at[parts[-1]] = tomllib.loads(f"value = {value}")["value"]
    except ValueError:
        at[parts[-1]] = value
