"""The engine: what a request gets depends on nothing that was read before or runs beside it."""

import gc
import random
import threading
import time

import pytest
import torch
from small_world import ByteTokenizer, parrot, random_llama, torch_engine

from puna import log
from puna.engine import scheduler
from puna.engine.request import Request, Sampling
from puna.errors import PunaError, RequestError
from puna.model.attend import causal

TOKENIZER = ByteTokenizer()
MODEL = random_llama(TOKENIZER.size + 3)  # a padded vocabulary, as files have it
GREEDY = Sampling(temperature=0)


@pytest.fixture
def engine():
    with torch_engine(MODEL, TOKENIZER) as engine:
        yield engine


def ids(text):
    return tuple(TOKENIZER.encode(text))


def asked(text="Puna", **rest):
    return Request(ids=ids(text), **{"max_tokens": 24, "sampling": Sampling(seed=0), **rest})


def told(stream):
    """(ids, text, last event) of a whole stream."""
    events = list(stream)
    assert [event.finish for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1].usage.completion_tokens == sum(len(event.ids) for event in events)
    return (
        [id for event in events for id in event.ids],
        "".join(event.text for event in events),
        events[-1],
    )


def logits_at_once(tokens):
    tokens = torch.tensor(tokens)
    with torch.inference_mode():
        return MODEL(tokens[None], torch.arange(len(tokens))[None], causal)[0]


def argmax_loop(tokens, count):
    tokens = list(tokens)
    for _ in range(count):
        tokens.append(int(logits_at_once(tokens)[-1, : TOKENIZER.size].argmax()))
    return tokens[-count:]


def test_greedy_text_is_the_argmax_loop_by_hand(engine):
    for text in ("a", "Puna", "The high grassland where llamas live"):
        assert told(engine.submit(asked(text, sampling=GREEDY)))[0] == argmax_loop(ids(text), 24)


def test_a_long_prompt_is_read_in_chunks_to_the_same_end(engine):
    text = "grass and wind " * 20
    wanted = told(engine.submit(asked(text, sampling=GREEDY)))[0]
    for rows in (1, 7, 64):
        with torch_engine(MODEL, TOKENIZER, rows=rows, together=1) as other:
            assert told(other.submit(asked(text, sampling=GREEDY)))[0] == wanted


def test_a_reused_prefix_changes_nothing_but_the_reading():
    first = asked("What is a puna? ", sampling=GREEDY)
    with torch_engine(MODEL, TOKENIZER) as warm:
        answer = told(warm.submit(first))[0]
        turn = Request(
            ids=(*first.ids, *answer, *ids(" And a llama?")), sampling=GREEDY, max_tokens=24, logprobs=3
        )
        events = list(warm.submit(turn))
    with torch_engine(MODEL, TOKENIZER) as cold:
        plain = list(cold.submit(turn))
    assert (
        events[-1].usage.cached_tokens == len(first.ids) + len(answer) - 1
    )  # the last one written was not read
    assert plain[-1].usage.cached_tokens == 0
    assert [e.ids for e in events] == [e.ids for e in plain]
    for one, other in zip(events, plain, strict=True):
        assert one.scores[0].logprob == pytest.approx(other.scores[0].logprob, abs=1e-5)


def test_what_is_read_together_is_what_is_read_alone(engine):
    texts = ["Puna", "the high grassland " * 9, "x", "the high grassland " * 3, "a llama " * 30]
    requests = [asked(text, sampling=Sampling(seed=n), logprobs=2) for n, text in enumerate(texts)]
    alone = []
    for request in requests:
        with torch_engine(MODEL, TOKENIZER) as fresh:
            alone.append(list(fresh.submit(request)))
    streams = [engine.submit(request) for request in requests]
    for stream, wanted in zip(streams, alone, strict=True):
        events = list(stream)
        assert [event.ids for event in events] == [event.ids for event in wanted]
        said = [event.scores[0].logprob for event in events]
        assert said == pytest.approx([event.scores[0].logprob for event in wanted], abs=1e-5)


def test_a_cancelled_answer_leaves_what_was_read_for_the_next(engine):
    request = asked("Tell me all about it", sampling=GREEDY, max_tokens=None)
    stream = engine.submit(request)
    seen = [next(stream).ids[0] for _ in range(10)]
    stream.close()
    events = list(stream)
    rest = [id for event in events for id in event.ids]
    assert events[-1].finish == "cancelled"
    again = told(engine.submit(Request(ids=(*request.ids, *seen, *rest), max_tokens=1)))[2]
    assert again.usage.cached_tokens >= len(request.ids) + len(seen) - 1


def test_the_same_seed_gives_the_same_text_whatever_else_runs(engine):
    def settings(seed):
        return Sampling(temperature=1.2, top_p=0.95, frequency_penalty=0.3, seed=seed)

    requests = [asked(f"story {n}", sampling=settings(n)) for n in range(6)]
    alone = [told(engine.submit(request))[:2] for request in requests]
    for _ in range(3):
        streams = [engine.submit(request) for request in requests]
        assert [told(stream)[:2] for stream in streams] == alone
    assert len({text for _, text in alone}) == len(requests)


def test_requests_take_turns(engine):
    order, ended = [], threading.Semaphore(0)

    def listener(name):
        def deliver(event):
            order.append(name)
            if event.finish:
                ended.release()

        return deliver

    for name in "ab":
        engine.begin(asked(name, max_tokens=200, sampling=GREEDY), listener(name))
    assert ended.acquire(timeout=20) and ended.acquire(timeout=20)
    together = "".join(order)[order.index("b") : len(order) - order[::-1].index("a")]
    assert len(together) > 20 and "aa" not in together and "bb" not in together


@pytest.mark.parametrize("seed", range(8))
def test_the_streamed_text_is_the_decoded_ids(engine, seed):
    sampling = Sampling(temperature=1.5, seed=seed)
    for special in (False, True):
        written, text, last = told(
            engine.submit(asked(sampling=sampling, max_tokens=60, special_text=special))
        )
        assert text == TOKENIZER.decode(written, special=special) and last.finish == "length"


@pytest.mark.parametrize("seed", range(8))
def test_stop_strings_end_the_text_before_them_and_the_answer_with_them(engine, seed):
    sampling = Sampling(temperature=1.5, seed=seed)
    written, text, _ = told(engine.submit(asked(sampling=sampling, max_tokens=60)))
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    ended = told(engine.submit(asked(sampling=sampling, max_tokens=60, stop=(stop, "never said"))))
    assert ended[1] == text[: text.index(stop)] and ended[2].finish == "stop"
    assert ended[0] == written[: len(ended[0])] and stop in TOKENIZER.decode(ended[0], special=False)


def test_a_stop_id_ends_the_answer_and_is_not_text():
    said = [ord("?"), *ids("né€!"), TOKENIZER.special["<eot>"]]
    with torch_engine(parrot(TOKENIZER.size, said), TOKENIZER) as engine:
        request = Request(ids=(said[0],), sampling=GREEDY, stop_ids=TOKENIZER.stop_ids, special_text=True)
        events = list(engine.submit(request))
    assert "".join(e.text for e in events) == "né€!" and events[-1].finish == "stop"
    assert "\ufffd" not in "".join(e.text for e in events) and len([e for e in events if e.text]) == 4
    assert [e.ids[0] for e in events] == said[1:]


def test_an_answer_cut_inside_a_character_says_so_at_its_end():
    said = [ord("?"), *ids("a€")]
    with torch_engine(parrot(TOKENIZER.size, said), TOKENIZER) as engine:
        texts = [e.text for e in engine.submit(Request(ids=(said[0],), sampling=GREEDY, max_tokens=3))]
    assert texts == ["a", "", "\ufffd"]


def test_log_probabilities_are_the_models_own_under_any_sampling(engine):
    sampling = Sampling(temperature=0.1, top_k=1, repetition_penalty=1.7, logit_bias={65: 2.0})
    request = asked(sampling=sampling, logprobs=4)
    events = list(engine.submit(request))
    written = [e.ids[0] for e in events]
    rows = logits_at_once([*request.ids, *written])[len(request.ids) - 1 : -1].log_softmax(-1)
    rows = rows[:, : TOKENIZER.size]  # padding is never an alternative
    for event, row in zip(events, rows, strict=True):
        (said,) = event.scores
        assert said.logprob == pytest.approx(float(row[said.id]), abs=1e-4)
        assert [p for _, p in said.best] == pytest.approx(row.topk(4).values.tolist(), abs=1e-4)


@pytest.mark.parametrize("max_tokens", [0, 1, 3])
def test_prompt_log_probabilities_score_every_token_but_the_first(engine, max_tokens, monkeypatch):
    monkeypatch.setattr(scheduler, "SCORED", 5)
    request = asked("scored in several chunks", max_tokens=max_tokens, prompt_logprobs=True, logprobs=2)
    list(engine.submit(asked("scored in several")))  # what was read before must not be skipped
    events = list(engine.submit(request))
    first, *rest = events[0].prompt_scores
    rows = logits_at_once(request.ids)[:-1].log_softmax(-1)
    assert first is None and [s.id for s in rest] == list(request.ids[1:])
    assert [s.logprob for s in rest] == pytest.approx(
        [float(row[id]) for row, id in zip(rows, request.ids[1:], strict=True)], abs=1e-4
    )
    assert all(len(s.best) == 2 for s in rest) and not any(e.prompt_scores for e in events[1:])
    assert sum(len(e.ids) for e in events) == max_tokens and events[-1].finish == "length"


def test_nothing_wanted_is_nothing_read(engine):
    (only,) = engine.submit(asked(max_tokens=0))
    assert only.finish == "length" and only.ids == () and only.prompt_scores == ()


def test_the_context_ends_the_answer_with_length():
    with torch_engine(MODEL, TOKENIZER, context=20) as engine:
        written, _, last = told(engine.submit(asked("x" * 15, max_tokens=None)))
        assert len(written) == 5 and last.finish == "length"
        assert len(told(engine.submit(asked("x" * 19, max_tokens=100)))[0]) == 1
        assert told(engine.submit(asked("x" * 20, max_tokens=0)))[2].finish == "length"


def test_padding_of_the_vocabulary_is_never_written(engine):
    bias = dict.fromkeys(range(TOKENIZER.size), -100.0)
    written = told(engine.submit(asked(sampling=Sampling(temperature=50.0, logit_bias=bias, seed=1))))[0]
    assert max(written) < TOKENIZER.size


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"ids": ()}, "the prompt is empty"),
        ({"ids": (3, TOKENIZER.size)}, f"{TOKENIZER.size} is no token of this model"),
        ({"ids": (-1,)}, "-1 is no token"),
        ({"sampling": Sampling(logit_bias={TOKENIZER.size: 1.0})}, "logit_bias"),
        ({"max_tokens": -1}, "max_tokens: -1"),
        ({"logprobs": -2}, "logprobs: -2"),
        ({"stop": ("",)}, "empty string"),
    ],
)
def test_a_request_that_could_never_be_served_is_refused_at_once(engine, wrong, said):
    with pytest.raises(RequestError, match=said) as caught:
        engine.submit(Request(**{"ids": (1,), **wrong}))
    assert caught.value.status == 400 and engine.running == 0


def test_a_prompt_longer_than_the_context_is_refused_never_cut(engine):
    with pytest.raises(RequestError, match=r"512 tokens.*context of 512 is too short\n  try: ") as caught:
        engine.submit(asked("x" * 512))
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")


@pytest.mark.parametrize("context", [0, 513])
def test_a_context_the_model_was_not_made_for_is_refused(context):
    with pytest.raises(PunaError, match="made for 512"):
        torch_engine(MODEL, TOKENIZER, context=context)


def test_a_context_the_cache_cannot_hold_is_refused_and_the_cache_is_the_context_if_none_is_asked_for():
    with pytest.raises(PunaError, match="of 500 is not possible: the cache holds 256"):
        torch_engine(MODEL, TOKENIZER, contexts=0.5, context=500)
    with torch_engine(MODEL, TOKENIZER, contexts=0.5) as engine:
        assert told(engine.submit(asked("x" * 200, max_tokens=None)))[2].usage.completion_tokens == 56
        with pytest.raises(RequestError, match="the context of 256 is too short"):
            engine.submit(asked("x" * 256))


@pytest.mark.parametrize("wrong", [{"together": 0}, {"waiting": 0}, {"rows": 3, "together": 4}])
def test_an_engine_that_could_serve_nobody_is_refused(wrong):
    with pytest.raises(PunaError, match="are not possible"):
        torch_engine(MODEL, TOKENIZER, **wrong)


def test_a_full_queue_refuses_and_frees_itself():
    with torch_engine(MODEL, TOKENIZER, together=1, waiting=2) as engine:
        streams = [engine.submit(asked(max_tokens=None))]
        next(streams[0])
        streams += [engine.submit(asked()) for _ in range(2)]
        with pytest.raises(RequestError, match="2 requests wait already") as caught:
            engine.submit(asked())
        assert caught.value.status == 429
        streams[1].close()  # one that waits leaves before its turn
        assert told(streams[1])[2].finish == "cancelled"
        streams[0].close()
        assert told(streams[2])[2].finish == told(engine.submit(asked()))[2].finish == "length"


def test_a_request_cannot_run_twice_at_once(engine):
    request = asked(max_tokens=None)
    stream = engine.submit(request)
    with pytest.raises(RequestError, match="still running"):
        engine.submit(request)
    assert next(stream).finish is None, "the refused one must not end the first"


def test_dropping_a_stream_cancels_it(engine):
    for event in engine.submit(asked(max_tokens=None)):
        assert event.finish is None
        break
    gc.collect()
    deadline = time.monotonic() + 5
    while engine.running and time.monotonic() < deadline:
        time.sleep(0.005)
    assert engine.running == 0


def test_cancelling_from_another_thread_at_any_time_leaves_the_engine_usable(engine):
    dice = random.Random(0)
    wanted = told(engine.submit(asked(sampling=GREEDY)))[:2]
    ends = set()
    for _ in range(40):
        request = asked("some longer text " * dice.randrange(1, 25), max_tokens=dice.choice([1, 20, None]))
        stream = engine.submit(request)
        timer = threading.Timer(dice.random() * 0.02, engine.cancel, [request.id])
        timer.start()
        ends.add(told(stream)[2].finish)
        timer.join()
    assert "cancelled" in ends and engine.running == 0
    assert told(engine.submit(asked(sampling=GREEDY)))[:2] == wanted
    engine.cancel("no such request")


def test_one_requests_failure_is_its_own(engine):
    class Damaged(ByteTokenizer):
        def _bytes(self, id, special):
            raise LookupError(f"no piece {id}")

    model = random_llama(TOKENIZER.size)
    model.model.embed_tokens.weight[ord("~")] = float("nan")
    with torch_engine(model, TOKENIZER) as engine:
        sure = Sampling(seed=0, logit_bias={ord("~"): -100.0})
        healthy = engine.submit(asked(sampling=sure))
        failed = told(engine.submit(asked("a~b")))
        assert failed[2].finish == "error" and "weights may be damaged" in failed[2].problem
        assert told(healthy)[2].finish == told(engine.submit(asked(sampling=sure)))[2].finish == "length"
        assert told(engine.submit(asked("a~b again")))[2].usage.cached_tokens <= 1
    with torch_engine(model, Damaged()) as engine:
        for _ in range(2):
            assert told(engine.submit(asked()))[2].problem.startswith("LookupError: no piece")


def test_a_listener_that_fails_ends_its_own_request_only(engine):
    def gone(event):
        raise RuntimeError("the event loop is closed")

    engine.begin(asked(max_tokens=None), gone)
    assert told(engine.submit(asked()))[2].finish == "length"
    deadline = time.monotonic() + 5
    while engine.running and time.monotonic() < deadline:
        time.sleep(0.005)
    assert engine.running == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_if_the_engines_thread_dies_nobody_waits_for_ever():
    def broken(record):
        raise OSError("the log's disk is full")

    model = random_llama(TOKENIZER.size)
    model.model.embed_tokens.weight[ord("~")] = float("nan")
    with log.listening(broken), torch_engine(model, TOKENIZER) as engine:
        streams = [engine.submit(asked(text, sampling=GREEDY, max_tokens=None)) for text in ("long", "a~b")]
        assert {list(stream)[-1].finish for stream in streams} == {"cancelled"}
        with pytest.raises(RequestError, match="closed"):
            engine.submit(asked())
        assert not engine.alive


def test_closing_ends_every_stream_and_refuses_new_ones():
    engine = torch_engine(MODEL, TOKENIZER, together=1)
    streams = [engine.submit(asked(max_tokens=None)) for _ in range(3)]
    engine.close()
    engine.close()
    assert [list(stream)[-1].finish for stream in streams] == ["cancelled"] * 3
    with pytest.raises(RequestError, match="closed") as caught:
        engine.submit(asked())
    assert caught.value.status == 503
