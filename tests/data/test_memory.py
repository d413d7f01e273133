"""Memory is bounded by the settings, not by what is read."""

import random
from collections.abc import Iterator

import pyarrow as pa
import pytest
from toy_stages import WORDS, Count, Made, SameText, Short, recipe

from puna.data.document import documents, make_id
from puna.data.pipeline import receipts_of, run
from puna.data.runners import Pool

MB = 1 << 20


class Plenty(Made):
    """Pieces of long documents."""

    name: str = "plenty"
    characters: int = 5_000

    def tables(self, piece: str) -> Iterator[pa.Table]:
        rng = random.Random(piece)
        words = " ".join(rng.choices(WORDS, k=200_000))
        for start in range(0, self.rows, self.batch):
            rows = []
            for row in range(start, start + self.batch):
                at, url = rng.randrange(len(words) - self.characters), f"{piece}/{row}"
                said = {"id": make_id(self.name, url), "source": self.name, "url": url, "date": ""}
                rows.append(said | {"text": words[at : at + self.characters]})
            yield documents(rows)


def peak(out, source: Plenty) -> int:
    run(
        recipe(
            sources=(source,),
            stages=(Count(), Short(), SameText()),
            shard_bytes=32 * MB,
            group_bytes=4 * MB,
            partitions=None,
            partition_bytes=64 * MB,
            reduce_bytes=4 * MB,
        ),
        out,
        Pool(1),
    )
    return max(receipt.rss_mb for receipts in receipts_of(out).values() for receipt in receipts)


@pytest.mark.slow
def test_half_a_gigabyte_of_text_in_two_pieces_takes_no_more_memory_than_a_tenth_of_it(tmp_path):
    small = peak(tmp_path / "small", Plenty(pieces=1, rows=10_000, batch=200))
    large = peak(tmp_path / "large", Plenty(pieces=2, rows=50_000, batch=200))
    print(f"{small} MB for 50 MB of text, {large} MB for 500 MB")
    assert large < small + 80 and large < 500
