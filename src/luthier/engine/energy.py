"""Energy that a run used, from the processor's own counter where the machine lets it be read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Energy"]

RAPL = Path("/sys/class/powercap")


class Energy:
    """Reads the package counters of RAPL (microjoules) at its making and at `used`.

    Nothing is guessed: without a readable counter the figure is absent and the source says why.
    Source of the counters: the Linux kernel's powercap interface.
    """

    def __init__(self, root: Path = RAPL) -> None:
        self._zones = [zone for zone in sorted(root.glob("intel-rapl:?")) if _read(zone / "energy_uj") is not None]
        self._started = [_read(zone / "energy_uj") or 0 for zone in self._zones]

    def used(self, since: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """{"kwh": float or None, "source": text} since this was made, plus what an earlier part of the run used."""
        if not self._zones:
            return {"kwh": None, "source": "no energy counter can be read on this machine"}
        joules = 0.0
        for zone, start in zip(self._zones, self._started, strict=True):
            now = _read(zone / "energy_uj") or start
            # The counter starts over at its range; one turn at most lies between two readings of a short run.
            joules += (now - start if now >= start else now - start + (_read(zone / "max_energy_range_uj") or 0)) / 1e6
        earlier = (since or {}).get("kwh") or 0.0
        return {"kwh": earlier + joules / 3.6e6, "source": "RAPL package counters, the whole machine's processor"}


def _read(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
