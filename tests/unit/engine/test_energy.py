"""The energy counter: read where it is, absent where it is not, and never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.engine.energy import Energy


def zone(root: Path, number: int, microjoules: int, reach: int = 10_000_000) -> Path:
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{reach}\n")
    return folder


def test_without_a_counter_nothing_is_claimed(tmp_path: Path) -> None:
    used = Energy(tmp_path).used()
    assert used["kwh"] is None
    assert "no energy counter" in used["source"]


def test_packages_are_added_and_earlier_parts_kept(tmp_path: Path) -> None:
    zone(tmp_path, 0, 1_000_000)
    zone(tmp_path, 1, 500_000)
    energy = Energy(tmp_path)
    zone(tmp_path, 0, 4_600_000)
    zone(tmp_path, 1, 500_000)
    assert energy.used()["kwh"] == pytest.approx(3.6 / 3.6e6)
    assert energy.used({"kwh": 1.0})["kwh"] == pytest.approx(1.0 + 3.6 / 3.6e6)


def test_a_counter_that_starts_over_is_followed(tmp_path: Path) -> None:
    zone(tmp_path, 0, 9_000_000)
    energy = Energy(tmp_path)
    zone(tmp_path, 0, 1_000_000)
    assert energy.used()["kwh"] == pytest.approx(2.0 / 3.6e6)
