"""The card of the embedded model says what the records say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import ship_nano

MEASURED = {"command": "python -m experiments.nano", "date": "2026-01-01", "machine": "a machine"}
ROW = {"name": "bits a byte", "ours": 1.25, "other": None, "value": 1.25, "low": 1.2, "high": 1.3, "floor": None}


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    model = tmp_path / "run/model"
    model.mkdir(parents=True)
    for name in ship_nano.KEPT:
        (model / name).write_text(name)
    config = {"num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    config |= {"intermediate_size": 96, "max_position_embeddings": 512, "vocab_size": 4096}
    (model / "config.json").write_text(json.dumps(config))
    (tmp_path / "run/recipe.yaml").write_text(
        "phases: [{per_step: {tokens: 4096}, optimizer: {muon: {lr: 0.004, weight_decay: 0.1}},"
        " schedule: {warmup_stable_decay: {warmup: 0.03, decay: 0.25}}}]"
    )
    figures = {"steps": 1000, "tokens": 4_000_000, "epochs": 0.5, "seconds": 7200, "tokens_per_s": 555.6}
    manifest = {"model": {"parameters": 6_852_864}, "seed": 1, "machine": {"threads": 2, "processor": "a processor"}}
    manifest["machine"]["dtype"] = "float32"
    manifest |= {"training": {"pretrain": {**figures, "peak_memory_gb": 2.5}}, "energy": {"kwh": None, "source": ""}}
    (tmp_path / "run/manifest.json").write_text(json.dumps(manifest))
    made = {"rows": 12, "bytes": 3456, "sha256": "ab" * 32}
    facts = {
        "sources": {"text/books.jsonl.xz": {"license": "public domain (US)", "sha256": "cd" * 32}},
        "repeats": {"books": 0.5},
        "train": {"books": made},
        "validation": {"books": made},
        "test": {"books": made},
        "cut": {"books": {"blocks": 7, "documents": 3}},
    }
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    (tmp_path / "nano.json").write_text(json.dumps([{**ROW, "holds": True, "measured": MEASURED}]))
    (tmp_path / "into").mkdir()
    return tmp_path


def ship(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["ship", folder, folder / "run", "--evidence", folder / "nano.json", "--into", folder / "into"]
    monkeypatch.setattr("sys.argv", [str(one) for one in given])
    ship_nano.main()


def test_files_and_card(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ship(trained, monkeypatch)
    assert {path.name for path in (trained / "into").iterdir()} == {*ship_nano.KEPT, "README.md"}
    text = (trained / "into/README.md").read_text()
    for told in (
        "6.9 million parameters",
        "3 layers, width 32, 4 heads over 2 key-value heads, feed-forward 96",
        "| text/books.jsonl.xz | public domain (US) | `cdcdcdcdcdcdcdcd` |",
        "| books | 12 | 3,456 | 0.5 | `abababababababab` |",
        "7 blocks of text that",
        "1,000 steps of 4,000 tokens on average (4.0 million, 0.50 epochs), muon at 0.004 with weight decay 0.1",
        "float32, seed 1",
        "2.0 hours on 2 threads of a processor, 556 tokens a second",
        # 5 and 15 watts, two cores, two hours
        "0.02 to 0.06 kWh",
        "| bits a byte | 1.25 |",
    ):
        assert told in text
    assert all(len(line) <= 400 for line in text.splitlines())


def test_a_model_that_is_too_large_is_refused(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship_nano, "LARGEST", 10.0)
    with pytest.raises(SystemExit):
        ship(trained, monkeypatch)
    assert not list((trained / "into").iterdir())
