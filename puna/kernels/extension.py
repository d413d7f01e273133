"""Whether a native extension of ours can be used: it may not be built, or be built from other sources."""

from importlib import import_module


def obstacle(module: str, revision: int) -> str | None:
    """Why this extension of puna.kernels cannot answer for sources of this revision, or None."""
    try:
        native = import_module(f"puna.kernels.{module}")
    except ImportError as problem:
        return f"the native extension is not built ({problem}); to build it, pip install puna with a compiler"
    built = getattr(native, "REVISION", None)  # an early build has none
    if built != revision:
        return "the native extension was built from other sources; to build it anew, pip install puna again"
    return None
