"""`puna data benchmarks | classifier | label`: what the stages of a recipe need to be given."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puna.cli.data import need_data, print_json, print_table
from puna.cli.flags import Count, Loading
from puna.cli.progress import shown
from puna.cli.screen import clean
from puna.errors import RequestError, need
from puna.hub import DEFAULT

if TYPE_CHECKING:
    from puna.data.classify.labels import Ask, LabelPrompt, Said
    from puna.engine.load import Session
    from puna.messages import Message


def benchmarks(given: Path, /, *, out: Path, json: bool = False) -> int:
    """Gather the runs of words of benchmarks, for the stages decontaminate and decontaminate.overlap.

    Parameters
    ----------
    given
        A TOML file with [[benchmarks]], or a folder where benchmarks lie under their known names.
    out
        The file to write; the stages name it as `runs`.
    json
        One JSON object instead of a table.
    """
    need_data()
    from puna.data.benchmark_files import read_benchmarks

    with shown(sys.stderr, f"reading {given}"):
        runs = read_benchmarks(given).runs()
        facts = {"out": str(out), "sha256": runs.save(out), "benchmarks": runs.counts()}
    if json:
        return print_json(facts)
    counts = runs.counts()
    rows = [[name, one["items"], one["runs"], one["without_runs"]] for name, one in counts.items()]
    print_table(["benchmark", "items", "runs", "items no run stands for"], rows)
    lengths = " and ".join(map(str, runs.lengths))
    print(clean(f"{out}: {sum(map(len, runs.hashes)):,} runs of {lengths} words"))
    return 0


def classifier(
    recipe: str,
    /,
    *,
    out: Path | None = None,
    measure: Path | None = None,
    root: Path = Path(),
    json: bool = False,
) -> int:
    """Train a classifier of texts, and tell how good it is on texts it has not seen.

    Parameters
    ----------
    recipe
        A TOML file, or the name of a recipe that comes with Puna: quality, kinds, toxicity, nsfw.
    out
        The model to write; `classify` names it as `model`.
    measure
        A model to measure on the recipe's held-out texts instead of training one.
    root
        The folder below which the recipe's texts lie.
    json
        One JSON object instead of tables.
    """
    need_data()
    from puna.data.classify.build import build_classifier, measure_classifier, read_recipe

    need((out is None) != (measure is None), "train or measure?", "--out FILE to train, --measure FILE")
    given = read_recipe(recipe)
    with shown(sys.stderr, f"classifier {given.name}"):
        if measure is None:
            assert out is not None
            facts = {"out": str(out), **build_classifier(given, root, out)}
        else:
            facts = {"model": str(measure), "held_out": measure_classifier(given, root, measure)}
    if json:
        return print_json(facts)
    for name in facts.get("left_out", ()):
        print(clean(f"left out: {name}, which is not there"))
    for part in ("dev", "held_out"):
        if facts.get(part):
            _measures(part.replace("_", " "), facts[part])
    print(clean(str(out or measure)))
    return 0


def _measures(part: str, found: dict[str, Any]) -> None:
    """How often it is right, for each label and for each source, with 95% intervals."""
    labels = list(found["labels"])
    print(f"{part}: {found['rows']:,} texts, right in {_share(found['accuracy'])}")
    kinds = ("precision", "recall", "auc")
    figures = zip(found["labels"].items(), found["confusion"], strict=True)
    rows = [[name, *(_share(one[kind]) for kind in kinds), *counts] for (name, one), counts in figures]
    print_table(["is", *kinds, *(f"said {name}" for name in labels)], rows)
    print()
    groups = [[name, one["rows"], _share(one["accuracy"])] for name, one in found["groups"].items()]
    print_table(["source", "texts", "right"], groups)
    print()


def _share(estimate: dict[str, float]) -> str:
    if estimate["value"] != estimate["value"]:
        return "-"
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def label(
    *texts: Path,
    prompt: str,
    out: Path,
    model: str = DEFAULT,
    most: Count = None,
    source: str = "texts",
    with_text: bool = False,
    loading: Loading | None = None,
    json: bool = False,
) -> int:
    """Label texts by asking a model. What is labelled in the file already is not asked again.

    Parameters
    ----------
    texts
        Runs, Parquet, .jsonl with a `text` in each line, or .txt; lines and texts may be packed.
    prompt
        A TOML file (system, user with {text}, answers, how), or one that comes with Puna: education, safety.
    out
        The labels, one JSON object a line; they say which prompt and which model they are from.
    model
        Who is asked: a folder, a .gguf file, an alias or hf:org/name.
    most
        Only so many of the texts, chosen by their ids.
    source
        The source's name in the recipe that reads the same files: it decides the ids.
    with_text
        Write what the model saw of each text, too, to train a classifier on.
    json
        One JSON object instead of a table.
    """
    need_data()
    from puna import hub
    from puna.cli.opening import opened
    from puna.data.classify.label_file import NOTHING, documents_of, label_all, some
    from puna.data.classify.labels import read_prompt

    need(texts, "no texts are named", "files, or the folder of a run")
    how = read_prompt(prompt)
    there = sum(1 for _ in documents_of(texts, source))
    of = min(there, most or there)
    need(of, "the files hold no text")
    with shown(sys.stderr, f"hashing {model}"):
        made_by = {"model": model, "model_sha256": hub.fingerprint(hub.find(model))}
    with opened(model, loading or Loading()) as session, shown(sys.stderr, "labelling"):
        chosen = some(documents_of(texts, source), most)
        counts = label_all(chosen, how, asker(session), out, made_by, of, with_text)
    if json:
        return print_json({"out": str(out), **made_by, "labels": dict(sorted(counts.items()))})
    print_table(["label", "texts"], [[name, counts[name]] for name in _ordered(counts, how)])
    print(clean(f"{out}: {counts.total():,} labels, {counts[NOTHING]:,} answers {NOTHING}"))
    return 0


def _ordered(counts: Counter[str], how: "LabelPrompt") -> list[str]:
    """The allowed answers as the prompt has them, then what else there is."""
    return [*how.answers, *sorted(name for name in counts if name not in how.answers)]


def asker(session: "Session") -> "Ask":
    """Who answers the questions of the data room: a model of ours."""
    from puna.cli.answer import Wishes, ask
    from puna.data.classify.labels import Said
    from puna.engine.choices import log_chances
    from puna.engine.request import Sampling

    def asked(how: "LabelPrompt", messages: "list[Message]") -> "Said":
        try:
            if how.how == "score":
                prompt, answers = _answers(session, how, messages)
                return Said(logprobs=tuple(log_chances(session.engine, prompt, answers)))
            wishes = Wishes(sampling=Sampling(temperature=how.temperature, seed=how.seed),
                            max_tokens=how.most_tokens)  # fmt: skip
            answer = ask(session, messages, wishes, session.engine.context, lambda _: None)
        except RequestError as problem:
            return Said(problem=str(problem).partition("\n")[0])
        if answer.finish == "cancelled":
            raise KeyboardInterrupt
        return Said(text=answer.text, problem=answer.problem)

    return asked


def _answers(
    session: "Session", how: "LabelPrompt", messages: "list[Message]"
) -> tuple[list[int], list[list[int]]]:
    """(ids of the question, of each answer with the token that ends it): as the chat format writes them."""
    from puna.messages import Message

    template = session.template
    prompt = list(template.render(messages).ids)
    answers = []
    for answer in how.answers:
        whole = list(template.render([*messages, Message(role="assistant", content=answer)], reply=False).ids)
        rest = whole[len(prompt) :] if whole[: len(prompt)] == prompt else []
        end = next((at for at, id in enumerate(rest) if id in template.stop_ids), None)
        answers.append(session.tokenizer.encode(answer) if end is None else rest[: end + 1])
    return prompt, answers
