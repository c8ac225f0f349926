"""Reviewing rows in the terminal: what is asked, what is written, what is read back."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import luthier
from luthier.cli.main import main
from luthier.core.errors import DataError, RecipeError
from luthier.core.example import Example, Origin
from luthier.data.review import Decision, add_decision, digest_of, queue, read_decisions, settled

ROWS = [
    {"id": "a", "text": "hello", "label": "x"},
    {"id": "b", "text": "bye", "label": "y"},
    {"id": "c", "text": "thanks", "label": "y"},
]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return Path("rows.jsonl")


def say(monkeypatch: pytest.MonkeyPatch, words: str, *given: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(words))
    main(["data", "review", "rows.jsonl", *given])


def decided(path: str = "decisions.jsonl") -> dict[tuple[str, str], str]:
    return {(each.id, each.reviewer): each.value for each in read_decisions(Path(path))}


def example(name: str = "a", text: str = "hello") -> Example:
    return Example(name, {"text": text}, Origin("rows.jsonl", 1), target="x")


def test_answers_are_written_and_applied(
    rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say(monkeypatch, "d off topic\nr z\nr x\nwhat\nk\n", "--reviewer", "ann")
    told = capsys.readouterr().out
    assert "no row has the label 'z'; labels: x, y" in told
    assert "3 decided by ann, 0 left" in told
    assert sorted(decided().values()) == ["drop", "keep", 'relabel "x"']
    main(["data", "reviewed", "rows.jsonl", "decisions=decisions.jsonl", "--out", "done.jsonl"])
    kept = [json.loads(line) for line in Path("done.jsonl").read_text().splitlines()]
    dropped = {each.id for each in read_decisions(Path("decisions.jsonl")) if each.action == "drop"}
    assert [row["id"] for row in kept] == [row["id"] for row in ROWS if row["id"] not in dropped]
    ledger = [json.loads(line) for line in Path("done.ledger.jsonl").read_text().splitlines()]
    assert {(entry["action"], entry["reason"].split(":")[0]) for entry in ledger} >= {("dropped", "dropped in review")}
    assert "off topic (ann)" in next(entry["reason"] for entry in ledger if entry["action"] == "dropped")


def test_what_was_decided_is_not_asked_again_and_disagreement_comes_first(
    rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say(monkeypatch, "k\nk\nk\n", "--reviewer", "ann")
    say(monkeypatch, "s\nq\n", "--reviewer", "bob")
    assert len(decided()) == 3
    say(monkeypatch, "", "--reviewer", "ann")
    assert "0 decided by ann, 0 left" in capsys.readouterr().out
    add_decision(Path("decisions.jsonl"), Decision("c", "bob", "drop", digest=digest_of(_row(2))))
    say(monkeypatch, "k\n", "--reviewer", "cleo", "--limit", "1")
    assert ("c", "cleo") in decided()
    say(monkeypatch, "d\n", "--reviewer", "judge", "--adjudicate")
    assert decided()["c", "judge"] == "drop"
    assert settled(read_decisions(Path("decisions.jsonl")))["c", digest_of(_row(2))].decision.reviewer == "judge"


def _row(number: int) -> Example:
    return list(luthier.prepare("rows.jsonl").splits["train"])[number]


def test_notes_of_a_ledger_come_first(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [{"id": "b", "action": "noted", "reason": "low quality"}, {"id": "a", "action": "changed", "reason": "x"}]
    Path("l.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    say(monkeypatch, "d\n", "--reviewer", "ann", "--ledger", "l.jsonl", "--limit", "1")
    assert decided() == {("b", "ann"): "drop"}


def test_an_edit_goes_through_the_editor(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("edit.py").write_text(
        "import sys, pathlib\nfile = pathlib.Path(sys.argv[1])\nfile.write_text(file.read_text().upper().lower())\n"
        "file.write_text(file.read_text().replace('hello', 'good day'))\n"
    )
    monkeypatch.setenv("VISUAL", f"{sys.executable} edit.py")
    Path("rows.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    say(monkeypatch, "e\n", "--reviewer", "ann")
    found = luthier.prepare("rows.jsonl", [{"reviewed": {"decisions": "decisions.jsonl"}}])
    assert found.splits["train"][0].parts == {"text": "good day"}
    assert found.splits["train"][0].origin.steps == ("reviewed",)
    monkeypatch.setenv("VISUAL", "false")
    Path("decisions.jsonl").unlink()
    say(monkeypatch, "e\nq\n", "--reviewer", "ann")
    assert not Path("decisions.jsonl").exists()


def test_agreement_is_told(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, actions in {"ann": "kkd", "bob": "kdd"}.items():
        for row, action in zip("abc", actions, strict=True):
            add_decision(Path("d.jsonl"), Decision(row, name, "keep" if action == "k" else "drop"))
    main(["data", "agreement", "d.jsonl"])
    told = capsys.readouterr().out
    # By hand: of three pairs one differs; chance from 3 keep and 3 drop of 6 is 0.4; alpha 1 - (1/3) / 0.6.
    assert "Krippendorff's alpha 0.444" in told
    # Chance 2/3 * 1/3 + 1/3 * 2/3 = 4/9; kappa (2/3 - 4/9) / (5/9).
    assert "0.400" in told
    assert "b: 1 keep, 1 drop" in told


def test_majority_unanimity_and_the_last_word_count() -> None:
    def votes(*actions: str) -> list[Decision]:
        return [Decision("a", f"r{number}", action) for number, action in enumerate(actions)]  # type: ignore[arg-type]

    def held(decisions: list[Decision], rule: str = "majority") -> str | None:
        decision = settled(decisions, rule)["a", ""].decision  # type: ignore[arg-type]
        return None if decision is None else decision.action

    assert held(votes("keep", "drop", "drop")) == "drop"
    assert held(votes("keep", "drop")) is None
    assert held(votes("keep", "drop", "drop"), "unanimous") is None
    assert held([*votes("keep", "drop"), Decision("a", "r0", "drop")], "unanimous") == "drop"
    assert held([*votes("keep", "keep", "keep"), Decision("a", "j", "drop", final=True)]) == "drop"


def test_a_row_that_has_changed_is_not_decided_about() -> None:
    found = luthier_step({"id": "a", "reviewer": "ann", "action": "drop", "digest": digest_of(example(text="old"))})
    assert [(entry.action, entry.reason) for entry in found] == [("noted", "changed since its review")]
    found = luthier_step({"id": "a", "reviewer": "ann", "action": "drop", "digest": digest_of(example())})
    assert [(entry.action, entry.reason) for entry in found] == [("dropped", "dropped in review: ann")]
    # By hand, whatever the content.
    found = luthier_step({"id": "a", "reviewer": "ann", "action": "drop"})
    assert [entry.action for entry in found] == ["dropped"]


def luthier_step(decision: dict[str, object]) -> list[object]:
    from luthier.core.contracts import StepContext
    from luthier.data.ledger import Ledger
    from luthier.data.steps.reviewed import Reviewed

    ledger = Ledger()
    context = StepContext("train", 1, ledger.page("train", "reviewed"))
    list(Reviewed(decisions=(decision,)).run([example()], context))
    return list(ledger.entries)


def test_a_line_that_was_cut_short_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    add_decision(path, Decision("a", "ann", "keep"))
    with path.open("a") as file:
        file.write('{"id": "b", "revie')
    assert [each.id for each in read_decisions(path)] == ["a"]
    add_decision(path, Decision("c", "ann", "keep"))
    assert [each.id for each in read_decisions(path)] == ["a", "c"]
    path.write_text('{"id": "b", "revie')
    add_decision(path, Decision("c", "ann", "keep"))
    assert [each.id for each in read_decisions(path)] == ["c"]
    path.write_text('{"id": "a", "reviewer": "by hand", "action": "keep"}')
    add_decision(path, Decision("c", "ann", "keep"))
    assert [each.id for each in read_decisions(path)] == ["a", "c"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"id": "a", "reviewer": "ann", "action": "burn"}', "unknown action 'burn'"),
        ('{"id": "a", "action": "keep"}', "missing reviewer"),
        ('{"id": "a", "reviewer": "ann", "action": "relabel"}', "a new label is missing"),
        ("[]", "not an object"),
    ],
)
def test_lines_that_are_no_decisions_are_told(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "d.jsonl").write_text(line + "\n{}\n")
    with pytest.raises(DataError, match=told):
        read_decisions(tmp_path / "d.jsonl")
    if line.startswith("{"):
        with pytest.raises(RecipeError, match=told):
            luthier.prepare("rows", [{"reviewed": {"decisions": [json.loads(line)]}}])


def test_the_queue_is_the_same_for_the_same_seed() -> None:
    examples = [example(str(number)) for number in range(30)]
    first = [row.id for row in queue(examples, [], "ann", seed=1)]
    assert first == [row.id for row in queue(examples, [], "ann", seed=1)]
    assert first != [row.id for row in queue(examples, [], "ann", seed=2)]
