"""`puna data report` and `puna data explain` as a person meets them: tables, a page, answers."""

import json
import shlex

import pytest
from reported import Known
from toy_stages import recipe

from puna.cli.main import main
from puna.data.pipeline import run


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("told")
    run(recipe(sources=(Known(),)), folder)
    return folder


def said(capsys, *words):
    code = main([str(word) for word in words])
    return code, capsys.readouterr().out


def test_the_report_is_one_line_a_stage_then_reasons_then_languages(out, capsys):
    code, text = said(capsys, "data", "report", out)
    lines = text.splitlines()
    assert code == 0 and [line.split()[0] for line in lines[:7]] == [
        "stage", "read", "toy.count", "toy.short", "toy.same", "toy.fragile", "toy.verified"
    ]  # fmt: skip
    assert lines[3].split()[1:5] == ["240", "41", "199", "82.9%"]
    found = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert found["toy.short.few_words"] == ["41", "17.1%"] and found["en"][:2] == ["180", "127"]
    assert found["made"][:2] == ["240", "163"] and not list(out.glob("*.html"))


def test_json_has_everything(out, capsys):
    code, text = said(capsys, "data", "report", out, "--json")
    facts = json.loads(text)
    assert code == 0 and {"stages", "reasons", "funnel", "by_domain", "costs", "provenance", "recipe"} <= set(
        facts
    )


def test_the_page_is_written_where_it_is_asked_for(out, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BROWSER", "/no/such/browser")
    place = tmp_path / "deep" / "page.html"
    assert said(capsys, "data", "report", out, "--html", place)[0] == 0
    assert [path.name for path in place.parent.iterdir()] == ["page.html"]  # nothing half written beside it
    code, text = said(capsys, "data", "report", out, "--open")
    assert code == 0 and text.splitlines()[-1] == str(out / "report.html")
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    (out / "report.html").unlink()


def test_commands_that_the_page_shows_work(out, tmp_path, capsys):
    said(capsys, "data", "report", out, "--html", tmp_path / "page.html")
    lines = (tmp_path / "page.html").read_text().splitlines()
    commands = [line.rpartition(">")[2] for line in lines if "puna data explain" in line]
    assert commands
    for command in commands:
        assert said(capsys, *shlex.split(command)[1:])[0] == 0


def test_an_answer_reads_like_one(out, capsys):
    source = Known()
    short = next(r for row in range(60) if len((r := source.row(0, row))["text"].split()) < 8)
    code, text = said(capsys, "data", "explain", out, short["url"])
    assert code == 0 and "dropped by toy.short: toy.short.few_words (step 00-read)\n  measured" in text
    assert "set to: few = 8" in text and "\x1b" not in text
    for row in range(0, 60, 5):
        code, text = said(capsys, "data", "explain", out, source.row(1, row)["url"])
        if "kept in its place: http" in text:
            break
    assert "dropped by toy.same: toy.same.text (step 03-toy.same)" in text and text.count("  | planted") == 2


def test_an_unknown_document_is_an_error_that_says_so(out, capsys):
    assert main(["data", "explain", str(out), "http://x.org/none"]) == 2
    assert "no document 'http://x.org/none'" in capsys.readouterr().err
