"""Public names are used or they go; private names stay in their file."""

import ast
import re
from pathlib import Path

import puna
from tests.house.rules import Package

ROOT = Path(puna.__file__).parent.parent


def test_no_file_takes_a_private_name_from_another():
    package, broken = Package(ROOT / "puna"), []
    for dotted, (_, tree, _) in package.modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("puna"):
                broken += [
                    f"{dotted}: {a.name}"
                    for a in node.names
                    if a.name.startswith("_") and a.name != "__version__"
                ]
    assert broken == []


def test_every_public_name_is_used_somewhere_else():
    package = Package(ROOT / "puna")
    sources = {
        path: path.read_text()
        for folder in ("puna", "tests", "bench", "docs")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".md")
    }
    words = {path: set(re.findall(r"\w+", text)) for path, text in sources.items()}
    dead = []
    for dotted, (path, tree, _) in package.modules.items():
        for node in tree.body:
            name = getattr(node, "name", "_")
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not name.startswith("_"):
                decorated = bool(node.decorator_list) and package.room(dotted) in ("cli", "serve")
                inside = len(re.findall(rf"\b{name}\b", sources[path])) > 1
                outside = any(name in found for other, found in words.items() if other != path)
                if not (inside or outside or decorated):
                    dead.append(f"{dotted}.{name}")
    assert dead == []
