"""What the README and the docs tell people to type works: every `sh` and `python` block is run, in order,
file by file.

A block that cannot run here says why in its info string, after the language: ```sh needs a network. The one
line that is not run is `make test`: this is it, running.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import puna

ROOT = Path(puna.__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.M | re.S)
REASONS = (
    "needs a network",
    "needs a GPU",
    "illustrative",
    "builds llama.cpp",
    "asks a person",
)


def blocks(page):
    return [
        (lang, why.strip(), text)
        for lang, why, text in BLOCK.findall(re.sub(r"^make test$", "", page.read_text(), flags=re.M))
        if lang in ("sh", "python")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_that_is_not_run_says_why(page):
    for _, why, text in blocks(page):
        assert not why or why in REASONS, (page.name, why, text)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_the_commands_of_a_page_run_as_written(page, tmp_path):
    (tmp_path / "Makefile").write_text(f"%:\n\t@$(MAKE) --no-print-directory -C {ROOT} $@\n")
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "VENV": str(binaries.parent)}
    for lang, why, text in blocks(page):
        if why:
            continue
        command = ["bash", "-euo", "pipefail", "-c", text] if lang == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{page.name}:\n{text}\n{done.stdout}\n{done.stderr}"
