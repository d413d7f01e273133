"""What `puna bench` measures: each kind of work does what its name says, and nothing is known beforehand."""

from bench.random_gguf import SHAPES, write
from puna.engine.speed import AGAIN, HELD, WRITTEN, Limits, Ours, measure, opening, products_per_token, works


class Watched:
    """A side that remembers what it was asked, and takes a second for all."""

    name = "watched"

    def __init__(self):
        self.read, self.wrote = [], []

    def first(self, ids, known=0):
        self.read.append((ids, known))
        return 1.0

    def steps(self, prompts, count):
        self.wrote.append((prompts, count))
        return 1.0


def test_no_two_works_and_no_two_turns_begin_alike():
    side, todo = Watched(), works((8, 32), (2, 4), (16,))
    rates = [measure(side, work, 1000, turn) for turn in range(3) for work in todo]
    beginnings = [tuple(ids[:6]) for ids, _ in side.read]
    beginnings += [tuple(ids[:6]) for prompts, _ in side.wrote for ids in prompts]
    assert len(set(beginnings)) == len(beginnings) == 3 * (2 + 1 + 1 + 2 + 4 + 1)
    assert rates[: len(todo)] == [8, 32, 1, 2, 4, 1, AGAIN]
    assert [(len(ids), known) for ids, known in side.read[:3]] == [(8, 0), (32, 0), (32 + AGAIN, 32)]
    assert [[len(ids) for ids in prompts] for prompts, _ in side.wrote[:4]] == [
        [16],
        [16] * 2,
        [16] * 4,
        [16],
    ]
    assert {count for _, count in side.wrote} == {WRITTEN}


def test_our_engine_is_measured_as_its_requests_see_it(tmp_path):
    model = str(tmp_path / "tiny.gguf")
    write(model, "q4_0", SHAPES["tiny"])  # without a vocabulary
    ours = Ours(model, 1, 200, 3)
    todo = {work.name: work for work in works((64,), (3,), ())}
    rates = {name: measure(ours, work, ours.config.vocab_size, 0) for name, work in todo.items()}
    ours.close()
    assert all(rate > 0 for rate in rates.values())
    shape = SHAPES["tiny"]
    keys = shape.width // shape.heads * shape.groups
    layer = 2 * shape.width * shape.width + 2 * shape.width * keys + 3 * shape.width * shape.hidden
    assert products_per_token(ours.config) == 2 * shape.layers * layer
    limits = Limits(bandwidth=2e9, products=4 * products_per_token(ours.config))
    assert limits.share(ours, todo["read 64"], 1.0) == 0.25
    assert limits.share(ours, todo["write 3 at once"], 3.0) == ours.bytes / 2e9
    assert limits.share(ours, todo[f"{AGAIN} more after 64 known"], 1.0) is None


def test_opening_is_measured_in_a_process_of_its_own(tmp_path):
    model = str(tmp_path / "tiny.gguf")
    write(model, "q8_0", SHAPES["tiny"])
    found = opening(Ours, model, 1)
    assert 0 < found.seconds < 60 and 20 << 20 < found.peak < 2**31 and HELD == 2048
