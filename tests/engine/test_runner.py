"""The torch runner over pages gives the logits of reading each text alone, from front to back."""

import random
from dataclasses import replace

import pytest
import torch
from small_world import random_llama

from puna.engine import runner as runner_file
from puna.engine.pages import cache_pages
from puna.engine.runner import TorchRunner, page_bytes
from puna.engine.step import Step
from puna.model.attend import causal
from tests.house.shapes import ShapeChecker, claims

MODEL = random_llama(90)
TEXTS = [[random.Random(n).randrange(90) for _ in range(length)] for n, length in enumerate((1, 12, 5, 30))]


def at_once(ids):
    tokens = torch.tensor(ids)
    with torch.inference_mode():
        return MODEL(tokens[None], torch.arange(len(ids))[None], causal)[0]


def step_of(parts, wanted=None):
    """parts: (ids to read, positions held, pages) of each sequence."""
    starts = [0]
    for ids, _, _ in parts:
        starts.append(starts[-1] + len(ids))
    tokens = [id for ids, _, _ in parts for id in ids]
    rows = list(range(len(tokens))) if wanted is None else wanted
    return Step(tokens, starts, [held for _, held, _ in parts], [pages for *_, pages in parts], rows)


@pytest.mark.parametrize("parts", [[1] * 12, [12], [5, 7], [3, 1, 8]])
def test_reading_in_parts_equals_reading_all_at_once(parts):
    runner, here, got = TorchRunner(MODEL, 5, 3), 0, []
    for part in parts:
        got.append(runner.run(step_of([(TEXTS[1][here : here + part], here, [4, 0, 1, 3])])).logits)
        here += part
    torch.testing.assert_close(torch.cat([torch.from_numpy(rows) for rows in got]), at_once(TEXTS[1]))


@pytest.mark.parametrize("seed", range(4))
def test_texts_read_side_by_side_are_as_if_alone_wherever_their_pages_lie(seed):
    dice, page = random.Random(seed), 4
    runner, numbers = TorchRunner(MODEL, 40, page), random.Random(seed).sample(range(40), 40)
    pages = [sorted(numbers[n * 10 : n * 10 + 8], reverse=seed % 2) for n in range(len(TEXTS))]
    if seed == 3:
        pages = [list(range(n * 10, n * 10 + 8)) for n in range(len(TEXTS))]  # neighbours: not gathered
    held, got = [0] * len(TEXTS), [[] for _ in TEXTS]
    while any(at < len(text) for at, text in zip(held, TEXTS, strict=True)):
        left = [n for n, text in enumerate(TEXTS) if held[n] < len(text)]
        turn = dice.sample(left, dice.randint(1, len(left)))
        counts = [min(dice.randint(1, 9), len(TEXTS[n]) - held[n]) for n in turn]
        chunks = [TEXTS[n][held[n] : held[n] + count] for n, count in zip(turn, counts, strict=True)]
        step = step_of([(ids, held[n], pages[n]) for ids, n in zip(chunks, turn, strict=True)])
        for n, rows in zip(turn, torch.from_numpy(runner.run(step).logits).split(counts), strict=True):
            got[n].append(rows)
            held[n] += len(rows)
    for text, rows in zip(TEXTS, got, strict=True):
        torch.testing.assert_close(torch.cat(rows), at_once(text))


def test_only_wanted_rows_have_logits_and_there_may_be_none():
    runner = TorchRunner(MODEL, 8, 4)
    step = step_of([(TEXTS[1], 0, [0, 1, 2]), (TEXTS[2], 0, [3, 4])], wanted=[3, 16])
    rows = torch.from_numpy(runner.run(step).logits)
    torch.testing.assert_close(rows, torch.stack([at_once(TEXTS[1])[3], at_once(TEXTS[2])[4]]))
    nothing = runner.run(step_of([(TEXTS[1], 0, [0, 1, 2])], wanted=[])).logits
    assert nothing.shape == (0, 90) and nothing.dtype == "float32"


def test_hidden_states_are_what_the_head_reads_and_need_no_logits():
    step = replace(
        step_of([(TEXTS[1], 0, [0, 1, 2]), (TEXTS[2], 0, [3, 4])], wanted=[16]), hidden=[0, 11, 16]
    )
    outcome = TorchRunner(MODEL, 8, 4).run(step)
    rows = MODEL.lm_head(torch.from_numpy(outcome.hidden))
    torch.testing.assert_close(rows, torch.cat((at_once(TEXTS[1])[[0, 11]], at_once(TEXTS[2])[4:])))
    torch.testing.assert_close(torch.from_numpy(outcome.logits), rows[2:])


def test_a_copied_page_goes_on_like_the_original_and_shares_nothing():
    runner, text = TorchRunner(MODEL, 4, 8), TEXTS[1]
    runner.run(step_of([(text[:6], 0, [0])]))
    runner.copy(0, 3)
    other = [*text[:6], 40, 41]
    for page, ids in ((3, other), (0, text[:8])):
        rows = runner.run(step_of([(ids[6:], 6, [page])])).logits
        torch.testing.assert_close(torch.from_numpy(rows), at_once(ids)[6:])


def test_the_runners_shape_comments_are_true():
    with ShapeChecker(runner_file.__file__) as shapes:
        TorchRunner(MODEL, 8, 4).run(step_of([(TEXTS[1], 0, [0, 1, 2]), (TEXTS[2], 0, [7, 4])]))
    assert shapes.checked > len(claims(runner_file.__file__))


def test_a_damaged_row_damages_no_other():
    model = random_llama(90)
    model.model.embed_tokens.weight[7] = float("nan")
    text = [id for id in TEXTS[3] if id != 7]
    rows = TorchRunner(model, 4, 32).run(step_of([([7], 0, [0]), (text, 0, [1])])).logits
    assert torch.from_numpy(rows[0]).isnan().all()
    torch.testing.assert_close(torch.from_numpy(rows[1:]), at_once(text))


def test_the_cache_is_four_contexts_within_a_quarter_of_memory_and_one_at_least():
    size = page_bytes(MODEL.config, 4, page=16)
    assert size == 2 * 2 * 2 * 8 * 4 * 16  # keys and values, layers, heads, width, bytes, positions
    assert cache_pages(512, size, 0, 16) == cache_pages(512, size, 10**12, 16) == 4 * 32
    assert cache_pages(512, size, 4 * 40 * size, 16) == 40
    assert cache_pages(500, size, 1, 16) == 32
