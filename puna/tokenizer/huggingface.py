"""A Hugging Face folder's tokenizer: tokenizer.json, and the small files that say which token is what."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from puna.errors import TokenizerError, need
from puna.tokenizer import merges, splits
from puna.tokenizer.specials import Specials, compact, whole_number
from puna.tokenizer.tokenizer import Tokenizer

_MODEL = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
}
_LOOK = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
_PARTS = ("bos", "eos", "pad")


def read(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json and the files beside it."""
    data = _json(path)
    need(
        data.get("normalizer") in (None, {"type": "Sequence", "normalizers": []}),
        _other("normalizer", data),
        error=TokenizerError,
    )
    model = _model(data.get("model"))
    split = splits.spelled_out(data.get("pre_tokenizer"))
    config = _json(path.with_name("tokenizer_config.json"), optional=True)
    added = _added(data.get("added_tokens"), config.get("added_tokens_decoder"))
    texts = {entry["content"]: id for id, entry in added.items()}
    need(len(texts) == len(added), "tokenizer.json: an added token stands there twice", error=TokenizerError)
    named = _json(path.with_name("special_tokens_map.json"), optional=True) | config
    texts |= _named_only(model.get("vocab"), named, texts)
    vocabulary = _ordinary(model.get("vocab"), texts)
    pieces = merges.from_merges(
        vocabulary, lambda: _merges(model.get("merges")), model.get("ignore_merges") is True
    )
    unknown = not model.get("unk_token") or not pieces.lost  # with a token for every byte nothing is unknown
    need(
        unknown,
        "tokenizer.json: unknown bytes become unk_token, which is not supported",
        error=TokenizerError,
    )
    shown = frozenset(id for id, entry in added.items() if entry.get("special") is not True)
    parts = {part: _part(named.get(f"{part}_token"), texts, part) for part in _PARTS}
    specials = _specials(path, config, texts, shown, parts, data.get("post_processor"))
    return Tokenizer(pieces, split, specials, _template(path, config))


def to_hf(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and the chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {id: text for text, id in tokenizer.specials.items()}
    parts = {part: getattr(tokenizer, f"{part}_id") for part in _PARTS}
    named = {
        f"{part}_token": names.get(id) or merges.to_text(tokenizer.bytes_of(id))
        for part, id in parts.items()
        if id is not None
    }
    config = named | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": tokenizer.adds_bos,
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {str(id): entry for id, entry in _entries(tokenizer).items()},
    }
    _write(folder / "tokenizer.json", _tokenizer_json(tokenizer))
    _write(folder / "tokenizer_config.json", config, indent=1)
    _write(folder / "special_tokens_map.json", named, indent=1)
    if tokenizer.chat_template is not None:
        (folder / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8", newline="")


def _tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    words = tokenizer.pieces.words
    vocabulary = {merges.to_text(word): id for id, word in enumerate(words) if word}
    contiguous = len(vocabulary) == len(words)  # then special tokens stand behind it and number themselves
    if not contiguous:
        vocabulary = dict(sorted((vocabulary | tokenizer.specials).items(), key=lambda item: item[1]))
    listed = [merge.split(" ") for merge in tokenizer.pieces.listed()]
    model = _MODEL | {"ignore_merges": tokenizer.pieces.whole, "vocab": vocabulary, "merges": listed}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": id, **entry} for id, entry in _entries(tokenizer).items()],
        "normalizer": None,
        "pre_tokenizer": tokenizer.split.huggingface(),
        "post_processor": _post_processor(tokenizer),
        "decoder": {"type": "ByteLevel", **_LOOK},
        "model": model,
    }


def _entries(tokenizer: Tokenizer) -> dict[int, dict[str, Any]]:
    in_order = sorted(tokenizer.specials.items(), key=lambda item: item[1])
    return {
        id: {"content": text, **_PLAIN, "special": id not in tokenizer.roles.shown} for text, id in in_order
    }


def _post_processor(tokenizer: Tokenizer) -> dict[str, Any]:
    look = {"type": "ByteLevel", **_LOOK}
    text = next((text for text, id in tokenizer.specials.items() if id == tokenizer.bos_id), None)
    if not tokenizer.adds_bos or text is None:
        return look
    bos = {"SpecialToken": {"id": text, "type_id": 0}}
    single, second = [{"Sequence": {"id": part, "type_id": n}} for n, part in enumerate("AB")]
    template = {
        "type": "TemplateProcessing",
        "single": [bos, single],
        "pair": [bos, single, {"SpecialToken": {"id": text, "type_id": 1}}, second],
        "special_tokens": {text: {"id": text, "ids": [tokenizer.bos_id], "tokens": [text]}},
    }
    return {"type": "Sequence", "processors": [look, template]}


def _write(path: Path, value: Any, indent: int | None = None) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent), encoding="utf-8")


def _json(path: Path, optional: bool = False) -> dict[str, Any]:
    if optional and not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as problem:
        raise TokenizerError(f"{path}: not JSON ({str(problem)[:80]})\n  try: a complete file") from None
    except OSError as problem:
        raise TokenizerError(f"{path}: cannot be read ({problem.strerror})") from None
    need(isinstance(value, dict), f"{path}: not a JSON object", error=TokenizerError)
    return value


def _other(key: str, data: Mapping[str, Any]) -> str:
    return f"tokenizer.json: {key} {str(data.get(key))[:80]} is not what a byte-level BPE vocabulary has"


def _model(model: Any) -> Mapping[str, Any]:
    need(isinstance(model, dict), "tokenizer.json: model is missing", "a complete file", TokenizerError)
    need(
        model.get("type", "BPE") == "BPE" and not model.get("byte_fallback"),
        f"tokenizer.json: a {model.get('type')!s:.20} vocabulary of the SentencePiece kind (Llama 2, "
        "TinyLlama, Mistral) or an encoder's, which Puna does not read yet",
        "a model with a byte-level BPE vocabulary: Llama 3, GPT-2, SmolLM",
        TokenizerError,
    )
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        need(not model.get(key), _other(key, model), error=TokenizerError)
    need(
        isinstance(model.get("ignore_merges", False), bool),
        _other("ignore_merges", model),
        error=TokenizerError,
    )
    return model


def _ordinary(vocabulary: Any, added: Mapping[str, int]) -> dict[str, int]:
    need(
        isinstance(vocabulary, dict),
        "tokenizer.json: model.vocab is no object",
        "a complete file",
        TokenizerError,
    )
    ids = vocabulary.values()
    good = all(type(id) is int for id in ids) and min(ids, default=0) >= 0
    need(good, "tokenizer.json: model.vocab has an id that is no whole number", error=TokenizerError)
    compact(ids, "tokenizer.json: model.vocab")
    same = all(vocabulary.get(text, id) == id for text, id in added.items())
    need(same, "tokenizer.json: an added token has another id in the vocabulary", error=TokenizerError)
    return {text: id for text, id in vocabulary.items() if text not in added}


def _merges(listed: Any) -> list[str]:
    need(
        isinstance(listed, list), "tokenizer.json: model.merges is no list", "a complete file", TokenizerError
    )
    if listed and isinstance(listed[0], list):
        pairs = all(
            type(pair) is list and len(pair) == 2 and all(type(half) is str for half in pair)
            for pair in listed
        )
        need(pairs, "tokenizer.json: a merge is not a pair of tokens", error=TokenizerError)
        return [f"{left} {right}" for left, right in listed]
    good = all(isinstance(merge, str) for merge in listed)
    need(good, "tokenizer.json: a merge is not text", error=TokenizerError)
    return listed


def _added(listed: Any, decoder: Any) -> dict[int, Mapping[str, Any]]:
    """The added tokens by id, from tokenizer.json and tokenizer_config.json, which may add more."""
    listed, decoder = listed or [], decoder or {}
    good = isinstance(listed, list) and isinstance(decoder, dict)
    good = good and all(isinstance(entry, dict) for entry in (*listed, *decoder.values()))
    need(good, "tokenizer.json: added_tokens is no list of tokens", error=TokenizerError)
    added: dict[int, Mapping[str, Any]] = {}
    for entry in listed:
        id = whole_number(entry.get("id"), "tokenizer.json: added_tokens")
        need(id not in added, f"tokenizer.json: two added tokens have the id {id}", error=TokenizerError)
        added[id] = entry
    for text, entry in decoder.items():
        need(
            text.isdecimal() and len(text) < 10,
            f"added_tokens_decoder: {text[:40]!r} is no id",
            error=TokenizerError,
        )
        same = added.setdefault(int(text), entry).get("content") == entry.get("content")
        need(
            same,
            f"tokenizer.json and tokenizer_config.json disagree about token {text}",
            error=TokenizerError,
        )
    for id, entry in added.items():
        text = entry.get("content")
        odd = [key for key in ("single_word", "lstrip", "rstrip") if entry.get(key)]
        need(isinstance(text, str) and text, f"added token {id} has no text", error=TokenizerError)
        need(not odd, f"added token {id} {text!r:.40}: {odd} is not supported", error=TokenizerError)
    return added


def _named_only(vocabulary: Any, named: Mapping[str, Any], added: Mapping[str, int]) -> dict[str, int]:
    """Tokens of the vocabulary that are special for no other reason than their part."""
    texts = [_text(named.get(f"{part}_token")) for part in _PARTS]
    known = vocabulary if isinstance(vocabulary, dict) else {}
    return {
        text: known[text] for text in texts if isinstance(text, str) and text in known and text not in added
    }


def _specials(
    path: Path,
    config: Mapping[str, Any],
    ids: Mapping[str, int],
    shown: frozenset[int],
    parts: dict[str, int | None],
    post: Any,
) -> Specials:
    generation = _json(path.with_name("generation_config.json"), optional=True)
    stops = generation.get("eos_token_id")
    stops = stops if isinstance(stops, list) else [] if stops is None else [stops]
    stops = [whole_number(id, "generation_config.json: eos_token_id") for id in stops]
    first = [_part(text, ids, "bos") for text in _begins(post)]
    if first and parts["bos"] is None:
        parts["bos"] = first[0]
    adds = bool(first) or (config.get("add_bos_token") is True and parts["bos"] is not None)
    need(
        first in ([], [parts["bos"]]),
        "tokenizer.json: text begins with another token than bos_token",
        error=TokenizerError,
    )
    return Specials.gathered(ids, shown=shown, stops=stops, adds_bos=adds, **parts)


def _text(value: Any) -> Any:
    return value.get("content") if isinstance(value, dict) else value


def _part(value: Any, ids: Mapping[str, int], part: str) -> int | None:
    text = _text(value)
    if text is None:
        return None
    known = isinstance(text, str) and text in ids
    need(
        known,
        f"{part}_token {str(text)[:40]!r} is not in the vocabulary",
        "a complete file",
        TokenizerError,
    )
    return ids[text]


def _begins(post: Any, depth: int = 0) -> Iterator[str]:
    """The special tokens that the post-processor sets before a text."""
    bad = f"tokenizer.json: post_processor {str(post)[:80]} is not understood"
    match post:
        case None | {"type": "ByteLevel"}:
            return
        case {"type": "Sequence", "processors": list(inner)} if depth < 8:
            for each in inner:
                yield from _begins(each, depth + 1)
        case {"type": "TemplateProcessing", "single": [*before, {"Sequence": {"id": "A"}}]}:
            for each in before:
                match each:
                    case {"SpecialToken": {"id": str(text)}}:
                        yield text
                    case _:
                        raise TokenizerError(bad)
        case _:
            raise TokenizerError(bad)


def _template(path: Path, config: Mapping[str, Any]) -> str | None:
    beside = path.with_name("chat_template.jinja")
    if beside.is_file():
        try:
            return beside.read_bytes().decode()
        except UnicodeDecodeError:
            raise TokenizerError(f"{beside}: not UTF-8 text") from None
    value = config.get("chat_template")
    if isinstance(value, list):  # several, by name
        value = next(
            (
                each.get("template")
                for each in value
                if isinstance(each, dict) and each.get("name") == "default"
            ),
            None,
        )
    need(
        value is None or isinstance(value, str),
        "tokenizer_config.json: chat_template is not text",
        error=TokenizerError,
    )
    return value
