"""`puna serve`: a model for OpenAI clients, on this machine unless told otherwise."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from puna.cli.flags import Loading
from puna.cli.opening import opened
from puna.errors import need
from puna.hub import DEFAULT


def serve(
    model: str = DEFAULT,
    /,
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=1, lte=65_535))] = 8000,
    api_key: Annotated[str | None, Parameter(env_var="PUNA_API_KEY")] = None,
    name: str | None = None,
    adapter: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    loading: Loading = Loading(),  # noqa: B008 (frozen)
) -> int:
    """Serve a model to OpenAI clients.

    Parameters
    ----------
    model
        A folder, a .gguf file, smollm2, or hf:org/name.
    host
        The address to listen on; 0.0.0.0 is every one.
    port
        The port to listen on.
    api_key
        Clients must send this key.
    name
        What clients call the model; its own name if not given.
    adapter
        NAME=FOLDER: clients who ask for the model NAME get this one with PEFT's LoRA adapter of a folder; may
        be repeated.
    """
    need(
        find_spec("fastapi") and find_spec("uvicorn"),
        "serving needs fastapi and uvicorn, which are not installed",
        "pip install 'puna[serve]'",
    )
    adapters = _adapters(adapter)
    from puna.serve.app import build_app
    from puna.serve.app import serve as listen
    from puna.serve.limits import LOOPBACK, is_loopback

    if not is_loopback(host) and not api_key:
        print(
            f"puna: anyone who reaches {host}:{port} can use this server; --api-key changes that",
            file=sys.stderr,
        )
    with opened(model, loading, adapters) as session:
        called = name or session.name
        need(called not in adapters, f"--adapter {called}: the model itself has this name", "another NAME")
        app = build_app(
            session.engine,
            session.template,
            session.tokenizer,
            called,
            defaults=session.defaults,
            api_key=api_key,
            hosts=LOOPBACK if is_loopback(host) else None,
        )
        listen(app, host, port, ready=lambda url: _ready(url, called))
        return 0


def _adapters(given: tuple[str, ...]) -> dict[str, Path]:
    """NAME=FOLDER of each --adapter."""
    found: dict[str, Path] = {}
    for text in given:
        name, _, folder = text.partition("=")
        need(name and folder, f"--adapter {text}: a name and a folder are needed", "--adapter NAME=FOLDER")
        need(name not in found, f"--adapter {text}: there are two of the name {name}", "another NAME")
        found[name] = Path(folder).expanduser()
    return found


def _ready(url: str, name: str) -> None:
    print(f"serving {name} at {url}/v1 (Ctrl-C ends it)", file=sys.stderr, flush=True)
