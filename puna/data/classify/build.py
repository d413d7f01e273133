"""Train a classifier from a recipe: which texts are of which label, how it learns, and how good it became.

    report = build_classifier(read_recipe("quality.toml"), root="texts", path="quality.safetensors")

The recipes that come with Puna stand in `recipes/`; each says where its texts are from.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from puna import log
from puna.data.classify.corpora import Corpus, Piece, read_corpus
from puna.data.classify.features import NgramSettings
from puna.data.classify.measure import report
from puna.data.classify.ngrams import NgramModel, NgramTraining, load_ngrams, split_by_id, train_ngrams
from puna.errors import DataError, need
from puna.settings import Settings

RECIPES = Path(__file__).parent / "recipes"


class ClassifierRecipe(Settings):
    """Everything that decides what a classifier becomes, but the texts."""

    name: str
    about: str  # what it is for, what its labels mean
    characters: int = Field(1500, ge=1)  # of a piece
    least_characters: int = Field(200, ge=1)
    corpora: tuple[Corpus, ...] = Field(min_length=2)
    features: NgramSettings = NgramSettings()
    training: NgramTraining = NgramTraining()
    storage: Literal["float32", "float16", "int8"] = "int8"


def read_recipe(path: str | Path) -> ClassifierRecipe:
    """The recipe in a TOML file; a plain name is one of those that come with Puna."""
    path = RECIPES / f"{path}.toml" if (RECIPES / f"{path}.toml").is_file() else Path(path)
    need(path.is_file(), f"{path}: there is no such recipe", error=DataError)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: not TOML: {problem}") from None
    return ClassifierRecipe.read(values, str(path))


def build_classifier(recipe: ClassifierRecipe, root: str | Path, path: str | Path) -> dict[str, Any]:
    """Train on the corpora below `root`, write the model to `path`, and measure what was written.

    The report has the measures on the dev split, which comes from the same files as what was learnt, and on
    the held-out corpora, which do not: believe the second.
    """
    pieces = _distinct(recipe, root)
    held = [piece for piece in pieces[0] if piece.corpus in pieces[1]]
    learnt = [piece for piece in pieces[0] if piece.corpus not in pieces[1]]
    model = train_ngrams(
        [piece.text for piece in learnt],
        [piece.label for piece in learnt],
        [piece.id for piece in learnt],
        recipe.features,
        recipe.training,
    )
    absent = missing(recipe, root)
    there = [one for one in recipe.corpora if not one.held_out and one.name not in absent]
    sources = {one.name: one.licence for one in there}
    named = {**model.facts, "name": recipe.name, "about": recipe.about, "sources": sources}
    sha = NgramModel(model.labels, model.features, model.table, model.bias, named).save(path, recipe.storage)
    written = load_ngrams(path)
    _, is_dev = split_by_id([piece.id for piece in learnt], recipe.training.dev_share, recipe.training.seed)
    dev = [piece for piece, is_one in zip(learnt, is_dev, strict=True) if is_one]
    return {
        "name": recipe.name,
        "sha256": sha,
        "bytes": Path(path).stat().st_size,
        "left_out": absent,
        "learnt_from": {name: sum(piece.corpus == name for piece in learnt) for name in sources},
        "dev": _measured(written, dev),
        "held_out": _measured(written, held),
    }


def measure_classifier(recipe: ClassifierRecipe, root: str | Path, path: str | Path) -> dict[str, Any]:
    """Measure the model in `path` on the recipe's held-out corpora."""
    model = load_ngrams(path)
    pieces, held = _distinct(recipe, root)
    wanted = [piece for piece in pieces if piece.corpus in held]
    need(wanted, f"{recipe.name}: the recipe holds out no corpus that is there", error=DataError)
    found = _measured(model, wanted)
    assert found is not None
    return found


def missing(recipe: ClassifierRecipe, root: str | Path) -> list[str]:
    """The corpora that may be left out, and are, because nothing lies at their paths."""
    return [one.name for one in recipe.corpora if one.if_there and not (Path(root) / one.path).exists()]


def _distinct(recipe: ClassifierRecipe, root: str | Path) -> tuple[list[Piece], set[str]]:
    """(all pieces, each text once, the names of the corpora that are held out)."""
    seen: dict[str, Piece] = {}
    for corpus in sorted(recipe.corpora, key=lambda one: not one.held_out):  # what measures is never learnt
        if corpus.name in missing(recipe, root):
            continue
        found = read_corpus(corpus, root, recipe.characters, recipe.least_characters)
        log.event("corpus", name=corpus.name, pieces=len(found))
        for piece in found:
            seen.setdefault(piece.text, piece)
    return list(seen.values()), {corpus.name for corpus in recipe.corpora if corpus.held_out}


def _measured(model: NgramModel, pieces: Sequence[Piece]) -> dict[str, Any] | None:
    if not pieces:
        return None
    chances = model.predict([piece.text for piece in pieces])
    return report(model.labels, [p.label for p in pieces], chances, [p.corpus for p in pieces])
