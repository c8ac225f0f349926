"""What commands print at their end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from luthier.cli.tables import show_comparison, show_run
from luthier.core.evidence import Finding
from luthier.core.gates import Verdict
from luthier.pipeline import Run


def finding(metric: str, subject: str, value: float, check: str = "text_match", **more: float) -> Finding:
    given = {"low": None, "high": None, "p": None} | more
    return Finding(check, metric, subject, value, n=9, better="higher", **given)  # type: ignore[arg-type]


def lower(metric: str, subject: str, value: float) -> Finding:
    return replace(finding(metric, subject, value, "parity"), better="lower")


FOUND = (
    finding("token_f1", "base", 0.25, low=0.2, high=0.3),
    finding("token_f1", "tuned", 0.5, low=0.4, high=0.6),
    finding("token_f1", "change", 0.25, low=0.15, high=0.35, p=0.0002),
    finding("perplexity_ratio", "tuned", 2418.5, "forgetting", low=1999.6, high=2500.2),
    lower("max_difference", "merged", 1.2e-8),
    lower("max_difference", "reloaded", 9.5e-7),
    lower("rounding", "merged", float("nan")),
    lower("rounding", "reloaded", 9.5e-7),
)
GATES = (Verdict("text_match.token_f1.change.low > 0", 0.15, 0.0, True),)


def test_the_end_of_a_run_fits_into_eighty_columns(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    show_run(Run(tmp_path, FOUND, GATES), "report")
    printed = capsys.readouterr().out
    table = printed.partition("gate")[0].splitlines()
    assert max(map(len, table)) <= 80
    rows = {line.split()[0]: line.split()[1:] for line in table if line.startswith("  ") and line.strip()}
    assert rows["token_f1"] == ["0.250", "0.500", "0.250", "<", "0.001"]
    assert rows["perplexity_ratio"] == ["2,418"]
    assert rows["max_difference"] == ["9.5e-07"]  # the worse of two; small, and not nothing
    assert rows["rounding"] == ["undefined"]
    assert "0.150 to 0.350" in printed
    assert "2,000 to 2,500" in printed
    assert "gate holds  text_match.token_f1.change.low > 0" in printed


def test_a_stage_alone_prints_no_earlier_findings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    show_run(Run(tmp_path, FOUND, GATES), "export")
    printed = capsys.readouterr().out
    assert "token_f1" not in printed
    assert "gate" not in printed
    assert str(tmp_path) in printed


def test_a_comparison_names_both_runs_and_leaves_classes_out(capsys: pytest.CaptureFixture[str]) -> None:
    sides = (finding("exact", "a", 0.1), finding("exact", "b", 0.4), finding("exact", "change", 0.3, p=0.04))
    show_comparison(Path("runs/a"), Path("runs/b"), sides)
    printed = capsys.readouterr().out
    assert "runs/a against runs/b" in printed
    row = next(line.split() for line in printed.splitlines() if "exact" in line)
    assert row == ["exact", "0.100", "0.400", "0.300", "0.040"]
