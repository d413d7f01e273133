"""The package keeps the rules of the house, and the rules find what is planted in a toy package."""

from pathlib import Path

import pytest

import puna
from tests.house.rules import RULES, Package

TOY = {  # file -> (text, the violations it must give)
    "__init__.py": ('"""The toy."""\n', []),
    "log.py": ('"""Root file."""\nimport json\n', []),
    "settings.py": (
        '"""Root file that climbs."""\nfrom puna.model import config\n',
        ["does not stand below root"],
    ),
    "tokenizer/__init__.py": ("", []),
    "tokenizer/learn.py": ('"""Fine."""\nfrom puna import log\n', []),
    "model/__init__.py": ("import puna.log\n", ["is not empty", "does not say what it is"]),
    "model/config.py": ('"""Sizes."""\nfrom puna.log import event\n', []),
    "model/transformer.py": ('"""Big."""\nimport torch\n' + "x = 1\n" * 950, ["has 952 lines", "drags in"]),
    "plan/__init__.py": ("", []),
    "plan/memory.py": (
        '"""Second hand."""\nfrom puna.model import transformer\n',
        ["memory.py reaches torch"],
    ),
    "train/__init__.py": ("", []),
    "train/run.py": (
        '"""Neighbour."""\ndef go():\n    from puna.engine import engine\n',
        ["stand below train"],
    ),
    "engine/__init__.py": ("", []),
    "engine/engine.py": (
        '"""Talks."""\nimport torch\nfrom . import x\nprint(1)\n',
        ["imports relatively", "prints"],
    ),
    "engine/request.py": ('"""Plain."""\nimport dataclasses\n', []),
    "serve/__init__.py": ("", []),
    "serve/app.py": ('"""Door."""\nfrom puna.engine.request import Request\n', []),
    "cli/__init__.py": ("", []),
    "cli/main.py": (
        '"""Shows."""\ndef f(a, b, c, d, e, f, g, h, i):\n    print(a)\n',
        ["too many arguments"],
    ),
}


@pytest.fixture(scope="module")
def package():
    return Package(Path(puna.__file__).parent)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rule(package, rule):
    assert "\n".join(rule(package)) == ""


def test_every_planted_violation_is_found_and_nothing_else(tmp_path):
    for name, (text, _) in TOY.items():
        path = tmp_path / "puna" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    package = Package(tmp_path / "puna")
    found = {problem for rule in RULES for problem in rule(package)}
    for name, (_, wanted) in TOY.items():
        here = {problem for problem in found if problem.startswith((f"{name}:", f"{name} "))}
        assert all(any(text in problem for problem in here) for text in wanted), (name, here)
        assert wanted or not here
