"""Which setting decided: for a reason the name of the threshold that its measured value is held against.

A setting called `least...` or `below` drops what lies under it, every other one what lies above.
"""

from typing import Any

THRESHOLDS = {
    "language.unsure": "least",
    "quality.gopher.few_words": "least_words",
    "quality.gopher.many_words": "most_words",
    "quality.gopher.short_words": "least_mean_length",
    "quality.gopher.long_words": "most_mean_length",
    "quality.gopher.number_signs": "most_symbols",
    "quality.gopher.ellipses": "most_symbols",
    "quality.gopher.bullet_lines": "most_bullet_lines",
    "quality.gopher.ellipsis_lines": "most_ellipsis_lines",
    "quality.gopher.few_alphabetic_words": "least_alphabetic",
    "quality.gopher.few_stop_words": "least_stop_words",
    **{
        f"quality.gopher_repetition.{name}": f"most_{name}"
        for name in (
            "duplicate_paragraphs",
            "duplicate_paragraph_characters",
            "duplicate_lines",
            "duplicate_line_characters",
        )
    },
    **{f"quality.gopher_repetition.top_{n}_gram": f"most_top_grams.{n - 2}" for n in (2, 3, 4)},
    **{
        f"quality.gopher_repetition.duplicate_{n}_grams": f"most_duplicate_grams.{n - 5}"
        for n in range(5, 11)
    },
    "quality.c4.lorem_ipsum": "most_lorem_ipsum_lines",
    "quality.c4.curly_bracket": "most_curly_bracket_lines",
    "quality.c4.few_sentences": "least_sentences",
    "quality.fineweb.few_terminal_lines": "least_terminal_lines",
    "quality.fineweb.short_lines": "most_short_lines",
    "quality.fineweb.duplicate_lines": "most_duplicate_characters",
    "quality.fineweb.many_lines": "most_lines_to_words",
    "coverage.ngrams": "most",
    "outliers.kl": "most",
    "safety.nsfw_words": "most_nsfw",
    "safety.toxic_words": "most_toxic",
    "safety.nsfw": "most_nsfw",
    "safety.toxic": "most_toxic",
    "pii.too_much": "most",
    "secrets.keys": "most",
    "dedup.semantic.copy": "alike",
}
# The column in which a document that stays carries what the reason measures.
COLUMNS = {
    "language.unsure": "lang.score",
    "quality.c4.lorem_ipsum": "q.c4.lorem_ipsum_lines",
    "quality.c4.curly_bracket": "q.c4.curly_bracket_lines",
    "quality.c4.few_sentences": "q.c4.sentences",
    "coverage.ngrams": "q.coverage",
    "outliers.kl": "q.kl",
    "safety.nsfw_words": "safety.nsfw",
    "safety.toxic_words": "safety.toxic",
    "safety.nsfw": "q.nsfw",
    "safety.toxic": "q.toxic",
    "secrets.keys": "pii.key",
}


def threshold(reason: str, settings: list[dict[str, Any]]) -> dict[str, Any] | None:
    """{"setting", "value", "drops": "below" or "above", "by"} of the stage that gave a reason, or None.

    "by": the setting that gives some documents another value (`least_of`, by language), else None.
    `settings`: those of every stage of that name; where they say different things, none is told.
    """
    found = {(name, value) for one in settings if (said := _of_one(reason, one)) for name, value in [said]}
    if len(found) != 1:
        return None
    name, value = found.pop()
    below = name.startswith("least") or name == "below"
    by = f"{name}_of" if settings[0].get(f"{name}_of") else None
    return {"setting": name, "value": value, "drops": "below" if below else "above", "by": by}


def _of_one(reason: str, settings: dict[str, Any]) -> tuple[str, float] | None:
    if settings["name"] == "cut":
        names = ["below", "above"] if reason == f"quality.{settings['score']}" else []
        given = [(name, settings[name]) for name in names if settings[name] is not None]
        return given[0] if len(given) == 1 else None
    name, _, place = THRESHOLDS.get(reason, "").partition(".")
    value = settings.get(name)
    value = value[int(place)] if place and isinstance(value, list | tuple) else value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (THRESHOLDS[reason], value) if number and value is not None else None


def column(reason: str, names: list[str]) -> str | None:
    """The column of kept documents that holds what this reason measures, of those that there are."""
    name = COLUMNS.get(reason) or f"q.{reason.removeprefix('quality.')}"  # the score of a cut
    return name if name in names else None
