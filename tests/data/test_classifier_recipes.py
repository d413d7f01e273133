import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.data.classify.build import ClassifierRecipe, build_classifier, read_recipe
from puna.data.classify.corpora import Corpus, read_corpus, spoilt
from puna.data.classify.ngrams import load_ngrams
from puna.data.classify.scores import SHIPPED, Classify, model_path
from puna.data.document import documents
from puna.errors import ConfigError, DataError

SHARED = Path(__file__).parents[3] / "shared" / "data"
PAGE = "<html><body><nav><ul><li><a href=/>Home</a></li><li><a href=/x>Index</a></li></ul></nav><main><article><h1>Rain</h1><p>%s</p></article></main></body></html>"
PROSE = "Rain fell on the grassland for nine days, and the herders waited for it to end before they crossed the river. "


def corpus(**changes):
    return Corpus(**{"name": "c", "label": "l", "path": "in", "licence": "CC0-1.0", **changes})


@pytest.fixture
def root(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for at in range(6):
        (tmp_path / "in" / "deep" / f"{at}.txt").write_text(f"text {at}: " + PROSE * 20)
        (tmp_path / "in" / f"{at}.html").write_text(PAGE % (PROSE * 8 + str(at)))
    (tmp_path / "in" / "packed.txt.gz").write_bytes(gzip.compress(PROSE.encode() * 3))
    return tmp_path


def test_pieces_are_those_of_the_files_that_fit(root):
    found = read_corpus(corpus(files=["*.txt"], without=["deep/3*"]), root, 700, 100)
    assert len({piece.id for piece in found}) == len(found) == 5 * 4
    assert all(100 <= len(piece.text) <= 700 for piece in found)
    assert not any("text 3" in piece.text for piece in found)
    assert read_corpus(corpus(files=["*.gz"]), root, 700, 100)[0].text == (PROSE * 3).strip()
    assert len(read_corpus(corpus(files=["*.txt"], holds="text 4"), root, 9000, 100)) == 1
    with pytest.raises(DataError, match=r"no file \*\.rst"):
        read_corpus(corpus(files=["*.rst"]), root, 700, 100)


def test_fewer_pieces_are_some_of_the_more(root):
    more, fewer = (read_corpus(corpus(files=["*.txt"], most=most), root, 300, 100) for most in (20, 7))
    assert len(fewer) == 7 and fewer == more[:7]


def test_a_page_is_its_main_text_and_the_rest_is_not(root):
    page = read_corpus(corpus(files=["*.html"], form="page"), root, 2000, 10)[0].text
    assert "herders waited" in page and "Home" not in page
    rest = read_corpus(corpus(files=["*.html"], form="rest"), root, 2000, 5)[0].text
    assert "Home" in rest and "herders" not in rest


@given(st.text(), st.binary(min_size=16, max_size=16), st.sampled_from(["shuffle", "repeat", "keywords"]))
def test_spoilt_texts_have_no_words_of_their_own(text, key, how):
    once = spoilt(text, how, key)
    assert once == spoilt(text, how, key)
    assert set(once.replace(",", " ").split()) <= set(text.replace(",", " ").split())
    if how == "shuffle":
        assert sorted(once.split()) == sorted(text.split())


def test_a_recipe_is_learnt_written_and_measured(root):
    recipe = ClassifierRecipe(
        name="rain",
        about="prose or shuffled",
        characters=300,
        corpora=(
            corpus(name="good", label="good", files=["*.txt"], most=60),
            corpus(name="bad", label="bad", files=["*.txt"], most=60, spoil="shuffle"),
            corpus(name="pages", label="good", files=["*.html"], form="page", held_out=True),
        ),
        features={"buckets": 4096},
    )
    report = build_classifier(recipe, root, root / "rain.safetensors")
    assert report["held_out"]["groups"].keys() == {"pages"}
    assert report["held_out"]["accuracy"]["value"] > 0.9
    assert report["dev"]["rows"] + load_ngrams(root / "rain.safetensors").facts["rows"] == sum(
        report["learnt_from"].values()
    )
    assert load_ngrams(root / "rain.safetensors").facts["sources"] == {"good": "CC0-1.0", "bad": "CC0-1.0"}
    assert build_classifier(recipe, root, root / "again.safetensors")["sha256"] == report["sha256"]


def test_a_recipe_that_cannot_be_read_is_told(tmp_path):
    for text, error in (("= 3", DataError), ('name = "x"\nabout = ""\ncorpora = []', ConfigError)):
        (tmp_path / "r.toml").write_text(text)
        with pytest.raises(error, match=r"r\.toml"):
            read_recipe(tmp_path / "r.toml")
    with pytest.raises(DataError, match="no such recipe"):
        read_recipe("nothing")


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.safetensors")), ids=lambda path: path.stem)
def test_a_shipped_model_is_what_its_recipe_says_and_free_to_give_on(path):
    model, recipe = load_ngrams(path), read_recipe(path.stem)
    assert model.features == recipe.features
    assert set(model.labels) == {one.label for one in recipe.corpora}
    assert model.facts["training"] == recipe.training.model_dump(mode="json")
    assert model.facts["sources"] == {one.name: one.licence for one in recipe.corpora if not one.held_out}
    free = {"PSF-2.0", "BSD-3-Clause", "CC0-1.0", "public domain", "Apache-2.0", "MIT"}
    assert set(model.facts["sources"].values()) <= free


def rows(texts):
    blank = {"source": "t", "url": "", "date": ""}
    return documents([{"id": at.to_bytes(16, "big"), "text": text, **blank} for at, text in enumerate(texts)])


def test_the_shipped_models_know_code_and_menus_from_prose():
    code = Path(model_path.__code__.co_filename).read_text()
    sums = (
        "\\begin{align} \\int_0^1 x^2 \\, dx &= \\frac{1}{3} \\\\ \\sum_{i=1}^{n} i &= \\frac{n(n+1)}{2} \\end{align} "
        * 4
    )
    kinds = Classify(model="kinds", score="kind")(rows([code, PROSE * 4, sums]))
    assert kinds["q.kind"].to_pylist() == ["code", "prose", "maths"]
    menu = "Home | News | Contact\nLog in\nSign up\n  • next |\n  • previous |\nPrivacy\nTerms\n" * 6
    stuffed = ", ".join(["cheap", "tickets", "flights", "hotel", "booking", "discount"] * 20)
    texts = [PROSE * 4, menu, stuffed]
    good, *bad = Classify(model="quality", score="quality", label="good")(rows(texts))[
        "q.quality"
    ].to_pylist()
    assert good > 0.5 and max(bad) < 0.2


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs WikiText-2 and Shakespeare beside the repository")
@pytest.mark.parametrize(("name", "least"), [("wikitext2/valid.txt", 0.9), ("shakespeare/input.txt", 0.8)])
def test_the_shipped_models_take_what_people_wrote_for_what_it_is(name, least):
    text = (SHARED / name).read_text()
    table = rows([text[at : at + 1500] for at in range(0, len(text), 1500)])
    kinds = Classify(model="kinds", score="kind")(table)["q.kind"].to_pylist()
    assert (
        kinds.count("prose") / len(kinds) > least
    )  # a play's lines, "NAME:" before each, look a little like code
    good = Classify(model="quality", score="quality", label="good")(table)["q.quality"].to_numpy()
    assert (good > 0.5).mean() > 0.9
