"""Where an artefact comes from: one node beside it, which says what it was made of and under which licence.

    model/lineage.json            of a folder
    model.gguf.lineage.json       of a file

A node's id is a hash of what the artefact holds, never of when or where it was made, so the same artefact has
the same id everywhere. Its parents stand in it by id and with what a reader wants to know of them first; what
they are made of is in their own nodes. A licence is an SPDX expression, "mixed", or "unknown": whoever knows
better may write it into the file, the id stays.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from puna.errors import DataError, PunaError
from puna.gguf import open_gguf
from puna.settings import Settings

NAME = "lineage.json"
UNKNOWN = "unknown"
_CARD = re.compile(r"^license(_name)?:[ \t]*[\"']?([\w .+-]+)", re.MULTILINE)


class Parent(Settings):
    """What an artefact was made of, or by."""

    id: str
    relation: str  # "filtered_from", "tokenized_by", "trained_on", "quantised_from", ...
    kind: str
    name: str
    licence: str = UNKNOWN
    facts: dict[str, Any] = {}  # of its part in this: how much was taken, by which stage it was read


class Node(Settings):
    """One artefact."""

    id: str
    kind: str  # "dataset", "vocabulary", "weights"
    name: str
    licence: str = UNKNOWN
    parents: tuple[Parent, ...] = ()
    run: str = ""  # hash of the settings that made it
    files: dict[str, str] = {}  # name -> SHA-256; the id is theirs together, where the artefact is few files
    facts: dict[str, Any] = {}

    def as_parent(self, relation: str, facts: Mapping[str, Any] | None = None) -> Parent:
        return Parent(id=self.id, relation=relation, kind=self.kind, name=self.name, licence=self.licence,
                      facts=dict(facts or {}))  # fmt: skip


def told(node: Node) -> dict[str, Any]:
    """What people want to know of it first."""
    facts = {"kind": node.kind, "id": node.id, "licence": node.licence, **node.facts}
    for parent in node.parents:
        taken = parent.facts.get("kept", {}).get("documents")
        much = "" if taken is None else f"{taken:,} of {parent.facts['read']['documents']:,} documents, "
        facts[f"{parent.relation} {parent.name}"] = f"{much}{parent.kind} {parent.id[:16]}, {parent.licence}"
    return facts


def digest(value: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def hashes(path: Path) -> dict[str, str]:
    """Name -> SHA-256 of a file, or of all below a folder but nodes and hidden files."""
    if path.is_file():
        return {path.name: _sha256(path)}
    found = {at.relative_to(path): at for at in sorted(path.rglob("*")) if at.is_file()}
    return {
        name.as_posix(): _sha256(at)
        for name, at in found.items()
        if not at.name.endswith(NAME) and not any(part.startswith(".") for part in name.parts)
    }


def node_of(path: Path, kind: str, parents: Iterable[Parent] = (), **said: Any) -> Node:
    """The node of a file, or of a folder of a few, as it is now."""
    files = hashes(path)
    return Node(id=_id(files), kind=kind, name=path.name, parents=tuple(parents), files=files, **said)


def place(path: Path) -> Path:
    """Where the node of this artefact is."""
    return path / NAME if path.is_dir() else path.with_name(f"{path.name}.{NAME}")


def write(path: Path, node: Node) -> None:
    """Put the node beside its artefact, whole or not at all."""
    final = place(path)
    part = final.with_name(f".{final.name}.{os.getpid()}.part")
    part.write_text(as_text(node), encoding="utf-8")
    os.replace(part, final)


def as_text(node: Node) -> str:
    """The same text for the same node, for people too."""
    return json.dumps(node.model_dump(mode="json"), sort_keys=True, ensure_ascii=False, indent=1) + "\n"


def read(path: Path) -> Node | None:
    """The node beside an artefact; None where there is none, DataError where it makes no sense."""
    at = place(path)
    try:
        return Node.model_validate(json.loads(at.read_bytes())) if at.is_file() else None
    except (ValueError, RecursionError, ValidationError):
        raise DataError(f"{at}: not a lineage node\n  try: make its artefact again") from None


def problems(path: Path) -> list[str]:
    """What of an artefact is not as its node says. One without a list of files only its maker can check."""
    node = read(path)
    if node is None:
        return [f"{path}: no {NAME} beside it"]
    wrong = [] if not node.files or _id(node.files) == node.id else [f"{path}: its id is of other files"]
    there = hashes(path) if node.files else {}
    if path.is_file():
        there = dict.fromkeys(node.files, there.get(path.name, ""))  # whatever it is called now
    changed = sorted(name for name, hashed in node.files.items() if there.get(name) != hashed)
    return wrong + [f"{path}: {name} is not as it was" for name in changed]


def parent_of(path: Path, relation: str, facts: Mapping[str, Any] | None = None) -> Parent:
    """What is read from a path as a parent: the artefact that its node names, as long as it still is that
    one, else the file or folder by its content, under the licence that it states itself."""
    for whole in (path, path.parent) if path.is_file() else (path,):
        node = read(whole)
        if node and _holds(node, path):
            return node.as_parent(relation, facts)
    kind = "file" if path.is_file() else "folder"
    return node_of(path, kind, licence=stated_licence(path)).as_parent(relation, facts)


def _holds(node: Node, path: Path) -> bool:
    """Whether a path is the node's artefact, or a file of it."""
    if path.is_file():
        return set(hashes(path).values()) <= set(node.files.values())
    return node.files.items() <= hashes(path).items() if node.files else True


def stated_licence(path: Path) -> str:
    """The licence that a model says it is under: a GGUF's key, or the card beside the weights."""
    card = path / "README.md" if path.is_dir() else path.with_name("README.md")
    said: Any = ""
    if path.is_file() and path.suffix == ".gguf":
        try:
            said = open_gguf(path).keys.get("general.license", "")
        except PunaError:
            return UNKNOWN
    if path.is_dir() and card.is_file():
        with open(card, encoding="utf-8", errors="replace") as file:
            head = file.read(1 << 16).split("\n---", 1)[0]
        found = {bool(custom): name.strip() for custom, name in _CARD.findall(head) if head.startswith("---")}
        said = found.get(True) or found.get(False) or ""
    return said[:200] if isinstance(said, str) and said.strip() else UNKNOWN


def _id(files: Mapping[str, str]) -> str:
    """Of one file its SHA-256, whatever it is called; of several that of their names and hashes."""
    return next(iter(files.values())) if len(files) == 1 else digest(files)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
