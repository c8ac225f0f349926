"""The most memory that this process has held; without torch, so that any process can ask."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["peak_resident"]

_STATUS = Path("/proc/self/status")


def peak_resident() -> int:
    """Peak of this process's resident memory in bytes.

    Linux: VmHWM of /proc/self/status (proc_pid_status(5)) where it is given; elsewhere, and where not, what getrusage
    says. That is on Linux the parent's peak where it was higher: it survives exec, and VmHWM begins anew.
    """
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    import resource  # there is none on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak if sys.platform == "darwin" else peak * 1024
