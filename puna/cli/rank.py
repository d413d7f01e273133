"""A verb as one rank of many: it ends well together with the others, or at once.

A rank that failed must not wait for anything: the others stand in the middle of an exchange with it, and only
when it is gone do they hear of it.
"""

import os
import sys
from collections.abc import Callable

from puna.cli.screen import clean
from puna.errors import PunaError


def as_rank(do: Callable[[], int]) -> int:
    """Carry it out and part from the other ranks; the exit code. After a failure the process ends here."""
    from puna.parallel.world import leave

    rank = os.environ["RANK"]
    try:
        code = do()
        leave()
        return code
    except PunaError as problem:
        said, code = str(problem), problem.exit_code
    except KeyboardInterrupt:
        said, code = "", 130
    except OSError as problem:
        said, code = f"{problem.filename or ''}: {problem.strerror or problem}", 1
    except RuntimeError as problem:
        if not any(mark in str(problem) for mark in ("gloo", "NCCL", "Connection closed", "Timed out")):
            raise
        said, code = f"another rank is gone or hangs ({str(problem).partition(chr(10))[0]})", 1
    if said:
        print(f"puna: rank {rank}: {clean(said)}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
