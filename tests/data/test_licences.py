"""Licences are told from texts, headers, manifests and links; what is not sure is unknown."""

import importlib.metadata
import json
import re
from pathlib import Path

import pytest
from data.test_sources import PAGE, whole

from puna.data.extract.page import Extract
from puna.data.sources.code import Code
from puna.data.sources.licences import (
    UNKNOWN,
    expression,
    licence_of_file,
    licence_of_header,
    licence_of_link,
    licence_of_manifest,
)
from puna.data.sources.pages import Pages

SHIPPED = Path("/usr/share/common-licenses")
GRANT = b"Permission is hereby granted, free of charge, to any person obtaining a copy of this software "
NOTICE = (
    GRANT
    + b"x " * 300
    + b"The above copyright notice and this permission notice shall be included in all copies"
)
BSD = b"Redistribution and use in source and binary forms, with or without modification, are permitted. %s "
AS_IS = b'THIS SOFTWARE IS PROVIDED BY THE AUTHORS "AS IS".'


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("MIT", "MIT"),
        ("GPL-2.0-or-later", "GPL-2.0"),
        ("gplv3+", "GPL-3.0"),
        ("LGPL-2.1+ OR Expat", "LGPL-2.1 OR MIT"),
        ("MIT AND (Apache-2.0 OR GPL-2.0-only)", "MIT AND (Apache-2.0 OR GPL-2.0)"),
        ("Apache-2.0 WITH LLVM-exception", "Apache-2.0 WITH LLVM-exception"),
        ("Apache-2.0 WITH my-exception", UNKNOWN),
        ("MIT OR LicenseRef-Ours", UNKNOWN),
        ("SEE LICENSE IN terms.txt", UNKNOWN),
        ("UNLICENSED", UNKNOWN),
        ("OR MIT", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_an_expression_is_known_in_every_part_or_unknown(said, found):
    assert expression(said) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (NOTICE, "MIT"),
        (GRANT + b"to deal in it. " + AS_IS + b" x" * 400, "MIT-0"),
        (BSD % b"" + AS_IS, "BSD-2-Clause"),
        (BSD % b"The name of the author may not be used to endorse or promote products. " + AS_IS, "BSD-3-Clause"),
        (BSD % b"All advertising materials mentioning features must say so." + AS_IS, "BSD-4-Clause"),
        (BSD % b"and here the head of the file ends", UNKNOWN),
        (b"COMPANY TERMS OF USE. " + b"You may not copy. " * 300 + b"Parts: Apache License, Version 2.0", UNKNOWN),
        (b"# GNU AFFERO GENERAL PUBLIC LICENSE\n# Version 3, 19 November 2007", "AGPL-3.0"),
        (b"Format: https://example.org/copyright-format/1.0/\n\nFiles:\n *\nLicense: GPL-2+ or Artistic\n\n"
         b"Files: x/*\nLicense: MIT\n", "GPL-2.0 OR Artistic-1.0"),
        (b"All rights reserved.", UNKNOWN),
    ],
)  # fmt: skip
def test_a_text_is_told_by_the_words_only_it_has(text, found):
    assert licence_of_file(text) == found


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="no folder of the licences that Debian ships")
def test_the_texts_that_debian_ships_are_all_known():
    names = {
        "GPL": "GPL-3",
        "LGPL": "LGPL-3",
        "GFDL": "GFDL-1.3",
        "BSD": "BSD-3-Clause",
        "Artistic": "Artistic-1.0",
    }
    for path in SHIPPED.iterdir():
        wanted = names.get(path.name, path.name)
        assert licence_of_file(path.read_bytes()) == (expression(wanted) if "-" in wanted else wanted), path


def test_texts_of_installed_packages_agree_with_what_their_makers_declare():
    agree, other = 0, []
    for package in importlib.metadata.distributions():
        said = expression(package.metadata.get("License-Expression") or "")
        paths = [
            path for path in package.files or () if re.fullmatch(r"(?i)licen[cs]e(\.txt|\.md)?", path.name)
        ]
        if said == UNKNOWN or " " in said or not paths:
            continue
        found = licence_of_file(Path(paths[0].locate()).read_bytes())
        agree += found == said
        other += [] if found == said else [(package.name, said, found)]
    if agree + len(other) < 10:
        pytest.skip("too few packages here that declare a licence in SPDX")
    assert agree >= 0.9 * (agree + len(other)), other


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("package.json", json.dumps({"license": "(MIT OR Apache-2.0)"}), "(MIT OR Apache-2.0)"),
        ("package.json", json.dumps({"license": {"type": "ISC", "url": "x"}}), "ISC"),
        ("package.json", json.dumps({"license": "UNLICENSED"}), UNKNOWN),
        ("package.json", json.dumps({"name": "x"}), None),
        ("package.json", "[" * 100_000, None),
        ("Cargo.toml", '[package]\nlicense = "MIT/Apache-2.0"', "MIT OR Apache-2.0"),
        ("pyproject.toml", '[project]\nlicense = {text = "MIT License"}', "MIT"),
        ("pyproject.toml", '[project]\nlicense = {file = "LICENSE"}', None),
        ("pyproject.toml", "not toml", None),
    ],
)
def test_a_manifest_declares_it(name, text, found):
    assert licence_of_manifest(name, text.encode()) == found


def test_code_is_under_the_nearest_word_on_it(tmp_path):
    files = {
        "LICENSE": NOTICE,
        "license.py": b"# a program, and no licence",
        "a.py": b"x = 1",
        "b.py": b"# Licensed under the Apache License, Version 2.0 (the License)",
        "own/LICENSE": b"All rights reserved.",
        "own/a.py": b"x = 1",
        "two/LICENSE-MIT": NOTICE,
        "two/LICENSE-APACHE": b"Apache License\nVersion 2.0, January 2004",
        "two/a.py": b"x = 1",
        "told/LICENSE-MIT": NOTICE,
        "told/LICENSE-APACHE": b"Apache License\nVersion 2.0, January 2004",
        "told/Cargo.toml": b'[package]\nlicense = "MIT OR Apache-2.0"',
        "told/src/a.rs": b"fn main() {}",
        "lesser/COPYING": b"GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007",
        "lesser/COPYING.LESSER": b"GNU LESSER GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007",
        "lesser/a.py": b"x = 1",
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    rows = {
        row["url"].partition("/")[2]: row["licence"] for row in whole(Code(name="c", paths=(str(tmp_path),)))
    }
    assert rows["a.py"] == rows["license.py"] == "MIT" and rows["b.py"] == "Apache-2.0"
    assert (rows["own/a.py"], rows["two/a.py"]) == (UNKNOWN, "Apache-2.0 AND MIT")
    assert (rows["told/src/a.rs"], rows["lesser/a.py"]) == ("MIT OR Apache-2.0", "LGPL-3.0")


def test_a_header_that_says_nothing_leaves_it_to_the_files():
    assert (
        licence_of_header(b"# Use of this code is governed by a BSD-style license in the file LICENSE.")
        is None
    )
    assert licence_of_header(b"// SPDX-License-Identifier: (GPL-2.0+ OR MIT) */") == "(GPL-2.0 OR MIT)"


DEED = "https://creativecommons.org/licenses/by-sa/4.0/"


@pytest.mark.parametrize(
    ("links", "found"),
    [
        (f'<a rel="license" href="{DEED}">free</a>', "CC-BY-SA-4.0"),
        (f"<link href={DEED}deed.en rel=license>", "CC-BY-SA-4.0"),
        (f'<a href="{DEED}">free</a> <a href="{DEED}">again</a>', "CC-BY-SA-4.0"),
        (f'<a href="{DEED}">one</a> <a href="https://creativecommons.org/licenses/by/3.0/">other</a>', None),
        ('<a rel="nofollow license" href="/terms">terms</a>', UNKNOWN),
        (f'<a href="/x" title="{DEED}">no link to it</a>', None),
        ("", None),
    ],
)
def test_a_page_is_under_the_licence_that_it_links_to(tmp_path, links, found):
    (tmp_path / "a.html").write_text(PAGE.format(f"Some words that stay. {links}"))
    (row,) = whole(Pages(name="p", paths=(str(tmp_path),)))
    assert row["licence"] == found


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("http://www.creativecommons.org/licenses/by-nc-nd/3.0/de/", "CC-BY-NC-ND-3.0"),
        ("//creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://www.apache.org/licenses/LICENSE-2.0.html", "Apache-2.0"),
        ("https://opensource.org/license/MIT", "MIT"),
        ("https://www.gnu.org/licenses/gpl-3.0.html", "GPL-3.0"),
        ("https://creativecommons.org/licenses/by-xx/9/", UNKNOWN),
        ("http://[broken", UNKNOWN),
        ("https://example.org/mit", UNKNOWN),
    ],
)
def test_the_pages_of_licences_are_known_by_their_address(address, found):
    assert licence_of_link(address) == found


@pytest.mark.parametrize(
    "part", ['<a rel="license" ', "creativecommons.org/licenses/", "<a rel=", "<a href='"]
)
def test_a_page_of_nothing_but_beginnings_of_links_says_nothing(part):
    page = f"<html><body><main><p>Some words that stay.</p></main>{part * 4000}</body></html>".encode()
    assert Extract(most_attributes=1 << 20).page(page).licence == ""
