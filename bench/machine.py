"""What a timing is worth without: the machine, the versions, the commit."""

import platform
import subprocess
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from puna.hardware import cores, name


def facts(*packages: str) -> dict[str, object]:
    """Of this machine and these packages, for a line of results."""
    return {
        "date": date.today().isoformat(),
        "cpu": name(),
        "cores": cores(),
        "python": platform.python_version(),
        "commit": _commit(),
        "versions": {package: _version(package) for package in packages},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return done.stdout.strip() or None
