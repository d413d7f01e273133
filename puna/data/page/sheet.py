"""The sheet that a report is written on: one file, nothing is fetched, no script runs, and it prints.

What stands on it may be hostile: html.py escapes it, and the sheet forbids itself scripts and requests
besides.
"""

from pathlib import Path

from puna.data.page.html import Html, Inside, tag

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def sheet(title: str, body: Inside, style: str = "", refresh_s: int | None = None) -> str:
    """A whole page. `style` follows the common one; with `refresh_s` a browser reads it again so often."""
    common = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", http_equiv="refresh", content=refresh_s) if refresh_s else None,
        tag("title", title),
        tag("style", Html(common + style)),
    ]
    return "<!doctype html>\n" + tag("html", tag("head", head), tag("body", body), lang="en") + "\n"
