"""What this machine has: cores and memory that we may really use, inside a container too."""

import ctypes
import os
import platform
import sys
from pathlib import Path

NO_MAPS, NEVER_TRIM = (-4, 0), (-1, -1)  # M_MMAP_MAX, M_TRIM_THRESHOLD of mallopt(3)
CGROUP = Path("/sys/fs/cgroup")


def name() -> str:
    """The processor, as the system calls it."""
    lines = _read(Path("/proc/cpuinfo")).splitlines()
    models = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


def cores() -> int:
    """Cores this process may run on: the affinity mask, cut by a container's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        allowed = min(allowed, max(1, int(quota) // int(period)))
    return allowed


def available_memory() -> int:
    """Bytes that can be taken now without swapping, cut by a container's limit. 0 where unknown."""
    free = 0
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit, used = _read(CGROUP / "memory.max").strip(), _read(CGROUP / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        free = min(free, max(0, int(limit) - int(used)))
    return free


def peak_memory() -> int:
    """Bytes of memory that this process has held at most. 0 where unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def has_nvidia() -> bool:
    """Whether the system knows an NVIDIA GPU: whether torch may be asked for one, which takes a second."""
    return Path("/dev/nvidiactl").exists() or sys.platform == "win32"


def keep_memory() -> bool:
    """Have what this process frees kept for its next need, where the C library is glibc.

    A step of training frees and asks for the same large blocks again and again; given back to the system each
    time they come anew page by page, which takes 5 to 6% of a step on a CPU (docs/log.md); what is held grows
    by a quarter. What the user says in MALLOC_ variables stays. False where it can't be done.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):  # musl
        return False
    return bool(library.mallopt(*NO_MAPS) and library.mallopt(*NEVER_TRIM))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
