"""Training asks the C library to keep what is freed, unless the user said something else."""

import os
import subprocess
import sys

import pytest

ASK = "from puna import hardware; print(hardware.keep_memory())"


def asked(**more):
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", ASK], env=plain | more, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.skipif(
    sys.platform != "linux" or "glibc" not in os.confstr("CS_GNU_LIBC_VERSION"), reason="not glibc"
)
def test_freed_memory_is_kept_unless_the_user_says_otherwise():
    assert asked() == "True"
    assert asked(MALLOC_ARENA_MAX="2") == "False"
