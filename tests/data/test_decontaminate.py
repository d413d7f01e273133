import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from puna.data import decontaminate
from puna.data.array_file import read_arrays
from puna.data.benchmark_runs import BenchmarkSettings, build_runs, load_runs
from puna.data.benchmarks import Benchmark, read_benchmark
from puna.data.decontaminate import BenchmarkOverlap, Decontaminate
from puna.data.document import documents, make_id, text_buffers
from puna.data.stage import KEEP
from puna.errors import ConfigError, DataError, PunaError

SHARED = Path(__file__).parents[3] / "shared" / "data"
QUESTION = (
    "A juggler can juggle sixteen balls, half of which are golf balls; how many of them are golf balls?"
)
LONG = "Marta's café sells twenty-one buns before noon, and each bun has three raisins: how many raisins leave the café by noon?"
SHORT = "which of these seven planets has no moon"
FILLER = "the wind came down from the hills and nobody in the village had seen such a summer before or since"


def pages(*texts):
    return documents(
        [
            {"id": make_id("t", str(at)), "source": "t", "url": "", "date": "", "text": text}
            for at, text in enumerate(texts)
        ]
    )


def find(texts, runs):
    return decontaminate.find(*text_buffers(pages(*texts)), runs)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    sums = write(
        folder / "sums.jsonl", [{"question": QUESTION, "answer": "8"}, {"question": LONG, "answer": "63"}]
    )
    facts = write(folder / "facts.jsonl", [{"question": SHORT}, {"question": "too short to tell"}])
    one = Benchmark(name="sums", path=sums, fields=(("question",), ("answer",)))
    two = Benchmark(name="facts", path=facts, fields=(("question",),))
    path = folder / "runs.safetensors"
    build_runs(BenchmarkSettings(benchmarks=(one, two))).save(path)
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        f"{QUESTION} {FILLER}",
        f"{FILLER} {QUESTION} {FILLER}",
        f"{FILLER} {QUESTION}",
        f"{FILLER}\n\n> {QUESTION.upper()}",
        FILLER + " " + QUESTION.replace(" ", "\n").replace(";", " --").replace("balls", "b\u00adalls"),
    ],
)
def test_a_planted_question_is_found_wherever_it_stands_and_however_it_is_written(runs, text):
    verdict = Decontaminate(runs=runs)(pages(FILLER, text, ""))
    assert verdict.codes.tolist() == [KEEP, 1, KEEP]
    assert Decontaminate(runs=runs).reasons == ("decontaminate.facts", "decontaminate.sums")
    assert verdict.values[1] == len(QUESTION.split()) - 13 + 1


def test_accents_quotes_and_width_hide_nothing(runs):
    for text in (
        LONG,
        LONG.replace("'", "’").replace("é", "e"),
        LONG.replace("é", "e\u0301"),
        LONG.replace("noon", "ｎｏｏｎ"),
    ):
        assert (
            find([text], load_runs(runs)).counts[0]
            == len(LONG.replace("'", " ").replace("-", " ").split()) - 12
        )


def test_a_paraphrase_and_a_part_are_not_found(runs):
    paraphrase = (
        "Someone juggles 16 balls and half are golf balls. What is the number of golf balls among them?"
    )
    part = " ".join(QUESTION.split()[:12])
    reversed_ = " ".join(reversed(QUESTION.split()))
    found = find(
        [paraphrase, part, reversed_, part + " and " + " ".join(QUESTION.split()[12:])], load_runs(runs)
    )
    assert found.counts.tolist() == [0, 0, 0, 0]
    assert found.owners.tolist() == [-1] * 4


def test_a_short_question_is_found_whole_and_a_shorter_one_never(runs):
    found = find(
        [f"{FILLER} {SHORT}?", "this is too short to tell, surely", SHORT[: SHORT.rindex(" ")]],
        load_runs(runs),
    )
    assert found.counts.tolist() == [1, 0, 0]
    assert load_runs(runs).facts["without_runs"] == {"facts": 1, "sums": 0}


def test_what_was_found_is_recorded(runs):
    table = BenchmarkOverlap(runs=runs)(pages(FILLER, f"{LONG} {SHORT} {FILLER}"))
    assert set(BenchmarkOverlap.writes) <= set(table.column_names)
    first, second = table.to_pylist()
    assert (first["decontam.matches"], first["decontam.benchmark"], first["decontam.item"]) == (0, None, None)
    assert (second["decontam.benchmark"], second["decontam.item"]) == ("sums", 1)
    words = len(LONG.replace("'", " ").replace("-", " ").split())
    assert second["decontam.share"] == pytest.approx((words + 8) / (words + 8 + len(FILLER.split())))
    for name, kind in BenchmarkOverlap.writes.items():
        assert table.schema.field(name).type == kind


def test_masks_take_out_the_benchmark_and_nothing_else(runs):
    text = f"日本 {FILLER}. {QUESTION} Then: {LONG} End."
    table = BenchmarkOverlap(runs=runs, mask="[...]")(pages(text, FILLER))
    assert table["text"].to_pylist() == [f"日本 {FILLER}. [...]? Then: [...]? End.", FILLER]
    assert table.schema.field("text") == pages().schema.field("text")


def test_a_document_may_hold_a_little_if_the_settings_say_so(runs):
    text = f"{QUESTION} " + f"{FILLER} " * 30
    assert Decontaminate(runs=runs)(pages(text)).codes.tolist() == [1]
    assert Decontaminate(runs=runs, least_share=0.2)(pages(text)).codes.tolist() == [KEEP]
    assert Decontaminate(runs=runs, least_matches=8)(pages(text)).codes.tolist() == [KEEP]


def test_phrases_that_many_items_share_or_that_are_known_are_nobodys(tmp_path):
    lead = "Read the passage with care and then pick the one answer that fits it best from this list"
    rows = [
        {"q": f"{lead} number {at}: colour of item {at} {'x' * at} is a thing that nobody here knew at all"}
        for at in range(6)
    ]
    rows.append({"q": "we hold these truths to be self evident that all men are created equal in every way"})
    one = Benchmark(name="quiz", path=write(tmp_path / "q.jsonl", rows), fields=(("q",),))
    common = ["We hold these truths to be self-evident, that all men are created equal"]
    texts = [lead, common[0], rows[3]["q"]]

    def counts(most_items, known=()):
        return find(
            texts, build_runs(BenchmarkSettings(benchmarks=(one,), most_items=most_items), known)
        ).counts

    assert (counts(6) > 0).tolist() == [True, True, True]
    assert (counts(5) > 0).tolist() == [False, True, True]
    assert (counts(5, common) > 0).tolist() == [False, False, True]


def test_rows_of_digits_and_repeated_words_are_nobodys(tmp_path):
    rows = ["1 2 3 4 5 6 7 8 9 a b c d e f", "eleven " * 20, "日本語の教科書には山と川と海と空がある"]
    path = write(tmp_path / "q.jsonl", [{"q": row} for row in rows])
    runs = build_runs(BenchmarkSettings(benchmarks=(Benchmark(name="quiz", path=path, fields=(("q",),)),)))
    assert (find(rows, runs).counts > 0).tolist() == [False, False, True]
    assert runs.facts["without_runs"] == {"quiz": 2}


def slow_spans(text, questions, length=13):
    words, found = text.split(), set()
    for question in questions:
        runs = {tuple(question[at : at + length]) for at in range(len(question) - length + 1)}
        for at in range(len(words) - length + 1):
            if tuple(words[at : at + length]) in runs:
                found |= set(range(at, at + length))
    return len(found) / max(len(words), 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40), st.integers(0, 3)), max_size=6))
def test_shares_are_those_of_the_slow_definition(tmp_path_factory, parts):
    questions = [[f"q{owner}w{at}" for at in range(40)] for owner in range(3)]
    path = tmp_path_factory.getbasetemp() / "slow.jsonl"
    if not path.is_file():
        write(path, [{"q": " ".join(question)} for question in questions])
    one = Benchmark(name="quiz", path=str(path), fields=(("q",),))
    runs = build_runs(BenchmarkSettings(benchmarks=(one,)))
    text = " ".join(
        word
        for start, size, owner in parts
        for word in (*[*questions, ["f"] * 40][owner][start : start + size], "stop")
    )
    found = find(["", text, text], runs)
    assert found.shares[1] == found.shares[2] == pytest.approx(slow_spans(text, questions))
    assert sum(end - begin for begin, end in found.spans[1]) <= len(text)


def test_the_same_document_gets_the_same_answer_alone_and_among_many(runs):
    texts = [f"{FILLER} {at} " + (QUESTION if at % 7 == 0 else "") for at in range(1200)]
    together, opened = find(texts, load_runs(runs)), load_runs(runs)
    assert together.counts.tolist() == [find([text], opened).counts[0] for text in texts]
    before = sum(len(text.encode()) for text in texts[:700])
    alone = find(texts[700:701], opened).spans[0]
    assert alone and together.spans[700] == [(a + before, b + before) for a, b in alone]


def test_a_set_is_the_same_file_every_time_and_its_change_is_noticed(runs, tmp_path):
    first = load_runs(runs)
    assert first.save(tmp_path / "a") == load_runs(tmp_path / "a").save(tmp_path / "b")
    stage = Decontaminate(runs=str(tmp_path / "a"))
    before = stage.fingerprint()
    build_runs(
        BenchmarkSettings(
            benchmarks=(
                Benchmark(name="quiz", path=write(tmp_path / "q.jsonl", [{"q": FILLER}]), fields=(("q",),)),
            )
        )
    ).save(tmp_path / "a")
    assert stage.fingerprint() != before
    assert stage(pages(FILLER)).codes.tolist() == [0]
    assert stage.reasons == ("decontaminate.quiz",)


def test_files_of_every_known_form_are_read(tmp_path):
    with (tmp_path / "law.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["question", "choice0", "choice1", "choice2", "choice3", "answer"])
        table.writerow(['He said "no",\nthen left', "a", "b", "c", "d", 2])
    item = next(read_benchmark(Benchmark(name="mmlu", path=str(tmp_path))))
    assert item.texts == ('He said "no",\nthen left', "a", "b", "c", "d")
    with gzip.open(tmp_path / "h.jsonl.gz", "wt") as file:
        file.write(json.dumps({"prompt": "def f():", "canonical_solution": "return 1"}) + "\n\n")
    found = list(read_benchmark(Benchmark(name="humaneval", path=str(tmp_path / "h.jsonl.gz"))))
    assert [one.texts for one in found] == [("def f():", "return 1")]
    path = write(tmp_path / "w.jsonl", [{"context_options": ["So Ann", "So Bo"], "continuation": "won."}])
    assert next(read_benchmark(Benchmark(name="winogrande", path=path))).texts == (
        "So Ann won.",
        "So Bo won.",
    )


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.jsonl", b"{not json", "a.jsonl:1: not JSON"),
        ("a.jsonl", b"[1]", "not a JSON object"),
        ("a.jsonl", b"[" * 100_000, "not JSON"),
        ("a.jsonl", b'{"question": 3}', "is not text"),
        ("a.jsonl", json.dumps({"question": ["x"] * 2000}).encode(), "ways to join"),
        ("a.jsonl", b"\xff\xfe", "not UTF-8"),
        ("a.jsonl", b"", "no item"),
        ("a.jsonl.gz", b"no gzip", "cannot be read"),
        ("a.csv", b'question,answer\n"x', "not CSV"),
    ],
)
def test_benchmark_files_that_are_broken_are_told_by_name(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=said):
        list(read_benchmark(Benchmark(name="gsm8k", path=str(tmp_path / name))))
    with pytest.raises(ConfigError, match="which fields"):
        list(read_benchmark(Benchmark(name="unheard_of", path=str(tmp_path / name))))


def test_a_set_that_is_not_what_it_says_is_refused(runs, tmp_path):
    facts, arrays = read_arrays(runs, "benchmark-runs", 2)
    hashes = arrays["hashes.13"]
    for wrong_facts, wrong_arrays in (
        ({"names": []}, {}),
        ({"names": ["one"]}, {}),
        ({"lengths": [13, 8, 9]}, {}),
        ({"lengths": [True]}, {}),
        ({}, {"hashes.13": hashes[::-1].copy()}),
        ({}, {"hashes.13": hashes[1:]}),
        ({}, {"owners.13": np.zeros(len(hashes), np.int64)}),
    ):
        said = {"puna.arrays": json.dumps({**facts, **wrong_facts})}
        (tmp_path / "bad").write_bytes(save({**arrays, **wrong_arrays}, said))
        with pytest.raises(PunaError):
            load_runs(tmp_path / "bad")
    with pytest.raises(DataError, match="no such file"):
        Decontaminate(runs=str(tmp_path / "none")).fingerprint()


@pytest.mark.skipif(
    not (SHARED / "gsm8k" / "test.jsonl").is_file(), reason="needs GSM8K and WikiText-2 beside the repository"
)
def test_real_questions_are_found_and_real_articles_are_not():
    path = SHARED / "gsm8k" / "test.jsonl"
    runs = build_runs(BenchmarkSettings(benchmarks=(Benchmark(name="gsm8k", path=str(path)),)))
    questions = [json.loads(line)["question"] for line in path.read_text().splitlines()]
    assert (
        find([f"Exercise. {question.lower()} (Solve it.)" for question in questions], runs).counts > 0
    ).mean() > 0.99
    text = (SHARED / "wikitext2" / "test.txt").read_text()
    articles = [text[at : at + 4000] for at in range(0, len(text), 4000)]
    assert find(articles, runs).counts.sum() == 0
