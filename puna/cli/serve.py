"""`puna serve`: a model for OpenAI clients, on this machine unless told otherwise."""

import sys
from importlib.util import find_spec
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from puna.cli.flags import Loading
from puna.cli.progress import shown
from puna.errors import need
from puna.hub import DEFAULT

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    model: str = DEFAULT,
    /,
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=1, lte=65_535))] = 8000,
    api_key: Annotated[str | None, Parameter(env_var="PUNA_API_KEY")] = None,
    name: str | None = None,
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
    """
    need(
        find_spec("fastapi") and find_spec("uvicorn"),
        "serving needs fastapi and uvicorn, which are not installed",
        "pip install 'puna[serve]'",
    )
    if host not in LOOPBACK and not api_key:
        print(
            f"puna: anyone who reaches {host}:{port} can use this server; --api-key changes that",
            file=sys.stderr,
        )
    with shown(sys.stderr, f"loading {model}"):
        import uvicorn

        from puna.engine.load import open_chat
        from puna.serve.app import build_app

        session = open_chat(model, dtype=loading.dtype, threads=loading.threads, context=loading.context)
    try:
        uvicorn.run(build_app(session, name=name or session.name, api_key=api_key), host=host, port=port)
        return 0
    finally:
        session.close()
