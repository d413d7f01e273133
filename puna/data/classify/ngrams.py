"""A linear classifier over hashed word n-grams, as fastText trains it, in NumPy: small, fast, the same bits
every time.

A text is the mean of the vectors of its words, word pairs and (if wanted) character n-grams; each of these
has a row in a table of buckets, chosen by hash. Plain stochastic gradient descent learns the vectors and the
label weights together. Afterwards both are one product: a score for each bucket and label, which is all that
prediction needs and all that is stored.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from puna import log
from puna.data.array_file import read_arrays, take, write_arrays
from puna.data.classify.features import Features, NgramSettings, buckets_of, mix
from puna.errors import ConfigError, DataError, WeightsError, need
from puna.settings import Settings

KIND, VERSION = "ngrams", 1
_TEXTS = 512  # predicted at once


class NgramTraining(Settings):
    """How the table is learnt; the defaults are those of fastText where it has the same."""

    size: int = Field(16, ge=1, le=1024)  # of a vector
    epochs: int = Field(5, ge=1, le=1000)
    rate: float = Field(0.5, gt=0)  # falls linearly to zero
    batch: int = Field(32, ge=1, le=65_536)  # texts whose gradients are added up before a step
    dev_share: float = Field(0.1, ge=0, lt=1)  # held out by the hash of the id
    patience: int = Field(0, ge=0)  # epochs without a better dev loss before it stops; 0: never stops
    balance: bool = True  # every label weighs the same in all, whatever its share of the texts
    seed: int = 0


@dataclass(frozen=True)
class NgramModel:
    labels: tuple[str, ...]
    features: NgramSettings
    table: np.ndarray  # (buckets, labels) float32
    bias: np.ndarray  # (labels,) float32
    facts: dict[str, Any]  # where it comes from: rows, fingerprint of the training data, dev scores

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, labels) float32."""
        parts = [self._some(texts[at : at + _TEXTS]) for at in range(0, len(texts), _TEXTS)]
        return np.concatenate([np.zeros((0, len(self.labels)), np.float32), *parts])

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, labels) float32 probabilities; an empty text gets what the bias says."""
        return softmax(self.logits(texts))

    def _some(self, texts: Sequence[str]) -> np.ndarray:
        found = buckets_of(texts, self.features)
        columns = [
            sum_by_text(self.table[:, at][found.buckets], found.offsets) for at in range(len(self.labels))
        ]
        counts = np.maximum(found.counts(), 1).astype(np.float32)
        return np.stack(columns, 1) / counts[:, None] + self.bias

    def save(self, path: str | Path, storage: Literal["float32", "float16", "int8"] = "float32") -> str:
        """Write the model; the answer is the file's SHA-256."""
        scale = np.ones(len(self.labels), np.float32)
        table = self.table
        if storage == "int8":
            scale = np.maximum(np.abs(table).max(0), 1e-12).astype(np.float32) / np.float32(127)
            table = np.rint(table / scale).astype(np.int8)
        facts = {
            **self.facts,
            "kind": KIND,
            "version": VERSION,
            "labels": list(self.labels),
            "features": self.features.model_dump(mode="json"),
        }
        fits = storage == "int8" or np.abs(table).max() <= np.finfo(storage).max
        need(fits, f"the scores do not fit {storage}", "storage float32", error=WeightsError)
        return write_arrays(path, facts, {"table": table.astype(storage), "scale": scale, "bias": self.bias})


def load_ngrams(path: str | Path) -> NgramModel:
    """The model in a file that `save` wrote; WeightsError if it is anything else."""
    facts, arrays = read_arrays(path, KIND, VERSION)
    labels = _labels_of(facts, path)
    try:
        features = NgramSettings.read(facts.get("features", {}), str(path))
    except ConfigError as problem:
        raise WeightsError(str(problem)) from None
    scale = take(arrays, "scale", (len(labels),), path)
    table = take(arrays, "table", (features.buckets, len(labels)), path) * scale
    bias = take(arrays, "bias", (len(labels),), path)
    known = ("kind", "version", "labels", "features")
    return NgramModel(labels, features, table, bias, {k: v for k, v in facts.items() if k not in known})


def train_ngrams(
    texts: Sequence[str],
    labels: Sequence[str],
    ids: Sequence[bytes],
    features: NgramSettings | None = None,
    how: NgramTraining | None = None,
) -> NgramModel:
    """Learn to tell labels apart. The answer depends on the rows, not on the order they come in.

    ids: 16 bytes each, all different; hashed with the seed they give the order of training and the dev split.
    """
    features, how = features or NgramSettings(), how or NgramTraining()
    order, is_dev = split_by_id(ids, how.dev_share, how.seed)
    names = tuple(sorted(set(labels)))
    need(
        len(names) >= 2,
        f"{len(names)} label(s) cannot be told apart: at least two are needed",
        error=DataError,
    )
    same = len(texts) == len(labels) == len(ids)
    need(same, f"{len(texts)} texts, {len(labels)} labels and {len(ids)} ids", error=DataError)
    wanted = np.array([names.index(label) for label in labels])
    learn, dev = order[~is_dev[order]], order[is_dev[order]]
    seen = set(wanted[learn].tolist())
    missing = [name for number, name in enumerate(names) if number not in seen]
    need(not missing, f"no text to learn {missing} from", "a smaller dev_share", error=DataError)
    rows = buckets_of([texts[row] for row in learn], features)
    dev_rows = buckets_of([texts[row] for row in dev], features)
    run = _Run(names, features, how)
    run.train(rows, wanted[learn], dev_rows, wanted[dev])
    facts = {
        "rows": len(learn),
        "training": how.model_dump(mode="json"),
        "trained_on": fingerprint_of(texts, labels, ids),
        "dev": {"rows": len(dev), "loss": run.dev_loss},
    }
    return NgramModel(names, features, run.scores(), np.zeros(len(names), np.float32), facts)


def split_by_id(ids: Sequence[bytes], share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(the order of the rows, is each row held out): both by hash of its id and the seed."""
    need(all(len(name) == 16 for name in ids), "an id has 16 bytes", error=DataError)
    need(len(set(ids)) == len(ids), "two rows have the same id", error=DataError)
    halves = np.frombuffer(b"".join(ids), "<u8").reshape(-1, 2)
    salt = np.uint64(seed % (1 << 64))
    keys = mix(halves[:, 0] ^ mix(halves[:, 1] + mix(np.array([salt]))))
    is_dev = (mix(keys + np.uint64(1)) >> np.uint64(11)).astype(np.float64) < share * 2.0**53
    return np.lexsort((halves[:, 1], halves[:, 0], keys)), is_dev


def fingerprint_of(texts: Sequence[str], labels: Sequence[str], ids: Sequence[bytes]) -> str:
    """SHA-256 of what was learnt from, in the order of ids."""
    digest = hashlib.sha256()
    for row in sorted(range(len(ids)), key=lambda at: ids[at]):
        for part in (ids[row], labels[row].encode(), texts[row].encode("utf-8", "surrogatepass")):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sum_by_text(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The sum of each text's values along the first axis; zero for a text without any."""
    total = np.zeros((len(offsets) - 1, *values.shape[1:]), values.dtype)
    filled = np.flatnonzero(np.diff(offsets))
    if len(filled):
        total[filled] = np.add.reduceat(values, offsets[filled], axis=0)
    return total


def _labels_of(facts: dict[str, Any], where: str | Path) -> tuple[str, ...]:
    """The label names that the facts give: at least two, all different."""
    names = facts.get("labels")
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise WeightsError(f"{where}: its header names no labels")
    need(2 <= len(set(names)) == len(names), f"{where}: labels {names!r:.80}", error=WeightsError)
    return tuple(names)


class _Run:
    """One training: the vectors, the label weights, and the steps that change them."""

    def __init__(self, labels: tuple[str, ...], features: NgramSettings, how: NgramTraining):
        self.labels, self.how = labels, how
        self.vectors = _noise(features.buckets, how.size, how.seed)  # (buckets, size)
        self.weights = np.zeros((len(labels), how.size), np.float32)
        self.seen = np.zeros(features.buckets, bool)
        self.dev_loss = float("nan")

    def scores(self) -> np.ndarray:
        """(buckets, labels); nothing for a bucket that no text had."""
        table = np.zeros((len(self.seen), len(self.labels)), np.float32)
        table[self.seen] = self.vectors[self.seen] @ self.weights.T
        return table - table.mean(1, keepdims=True)  # a number added to all labels changes no probability

    def train(self, rows: Features, wanted: np.ndarray, dev: Features, dev_wanted: np.ndarray) -> None:
        share = np.bincount(wanted, minlength=len(self.labels)) / len(wanted)
        importance = np.ones(len(wanted), np.float32)
        if self.how.balance:
            importance = (1 / (len(self.labels) * share))[wanted].astype(np.float32)
        best, waited = np.inf, 0
        for epoch in range(self.how.epochs):
            for done, batch in self._batches(len(wanted)):
                left = 1 - (epoch + done) / self.how.epochs
                self._step(rows.slice(batch), wanted[batch], importance[batch], self.how.rate * left)
            self.dev_loss = self._loss(dev, dev_wanted)
            log.event("classifier epoch", epoch=epoch + 1, dev_loss=self.dev_loss)
            best, waited = (self.dev_loss, 0) if self.dev_loss < best else (best, waited + 1)
            if 0 < self.how.patience <= waited:
                break

    def _batches(self, rows: int) -> Iterator[tuple[float, slice]]:
        for start in range(0, rows, self.how.batch):
            yield start / rows, slice(start, min(start + self.how.batch, rows))

    def _step(self, rows: Features, wanted: np.ndarray, importance: np.ndarray, rate: float) -> None:
        """One step down the cross entropy, summed over the batch as if its texts had come one by one."""
        hidden, shares = self._hidden(rows)  # (B, size), (B,)
        error = softmax(hidden @ self.weights.T)
        error[np.arange(len(wanted)), wanted] -= 1
        error *= importance[:, None] * np.float32(rate)
        push = (error @ self.weights) * shares[:, None]  # what every feature of a text is moved by
        self.weights -= error.T @ hidden
        owners = np.repeat(np.arange(len(wanted), dtype=np.uint64), rows.counts())
        sorted_pairs = np.sort((rows.buckets.astype(np.uint64) << np.uint64(20)) | owners)
        buckets, owners = sorted_pairs >> np.uint64(20), sorted_pairs & np.uint64((1 << 20) - 1)
        starts = np.flatnonzero(np.concatenate(([True], buckets[1:] != buckets[:-1])))[: len(buckets)]
        if len(starts):
            touched = buckets[starts].astype(np.int64)
            self.vectors[touched] -= np.add.reduceat(push[owners.astype(np.int64)], starts, axis=0)
            self.seen[touched] = True

    def _hidden(self, rows: Features) -> tuple[np.ndarray, np.ndarray]:
        shares = (1 / np.maximum(rows.counts(), 1)).astype(np.float32)
        return sum_by_text(self.vectors[rows.buckets], rows.offsets) * shares[:, None], shares

    def _loss(self, rows: Features, wanted: np.ndarray) -> float:
        total = 0.0
        for _, batch in self._batches(len(wanted)):
            chance = softmax(self._hidden(rows.slice(batch))[0] @ self.weights.T)
            total -= float(np.log(np.maximum(chance[np.arange(len(chance)), wanted[batch]], 1e-30)).sum())
        return total / max(len(wanted), 1)


def _noise(rows: int, columns: int, seed: int) -> np.ndarray:
    """Even in +-1 / columns, from a hash of the place: the same in every version of NumPy."""
    places = np.arange(rows * columns, dtype=np.uint64) + mix(np.array([seed % (1 << 64)], np.uint64))
    even = (mix(places) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    return ((2 * even - 1) / np.float32(columns)).reshape(rows, columns)
