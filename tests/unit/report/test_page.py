"""The page: well-formed, self-contained, hostile text stays text; it is written from whatever a folder holds."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from made_up_run import FINDINGS, HOSTILE, events, finding

from luthier.core.errors import DataError
from luthier.core.gates import Verdict
from luthier.report.page import write_report

VOID = {"meta", "br", "img", "input", "hr", "link"}


class Reader(HTMLParser):
    """Collects tags, attributes and text; fails where tags do not nest."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.raw: dict[str, str] = {}
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.raw[self.open[-1]] = self.raw.get(self.open[-1], "") + data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def read(folder: Path) -> Reader:
    path = write_report(folder)
    assert path == folder / "report.html"
    return Reader(path.read_text(encoding="utf-8"))


def change_evidence(folder: Path, **values: object) -> None:
    file = folder / "evidence.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}), encoding="utf-8")


def test_the_whole_run_is_told(run_folder: Path):
    text = read(run_folder).text
    assert (
        "text_match.exact rose from 0.020 to 0.710 (+0.690, 95 % interval +0.620 to +0.755; higher is better)" in text
    )
    assert "Both gates hold." in text
    assert "✓ holds 0.710 0.120" in text
    assert "2 warnings" in text
    assert "the disk is nearly full (2 times)" in text
    assert "deduplicate 2,088 98 0 0 2 1,990" in text
    assert "sources: what it measured train rows 1990 by source web 0.25" in text
    assert "card lost card stolen 3 12 7.5 %" in text
    assert "2 min 21 s" in text
    assert "2.100 Wh" in text
    assert "3 rows were truncated" in text


def test_it_asks_for_nothing_from_outside(run_folder: Path):
    page = read(run_folder)
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form"), tag
        assert "src" not in attributes
        assert not (attributes.get("href") or "").startswith(("http", "//", "javascript"))
        assert not any(name.startswith("on") for name in attributes), attributes
    assert "url(" not in page.raw["style"]
    assert "@import" not in page.raw["style"]


def test_hostile_text_stays_text_and_the_policy_allows_one_script(run_folder: Path):
    page = read(run_folder)
    assert [tag for tag, _ in page.tags].count("script") == 1
    policy = next(
        a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(page.raw["script"].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy
    shown = page.text.count(HOSTILE)
    assert shown >= 10  # warning, group, samples, confused classes, ledger: shown as it is, not swallowed


def test_hostile_names_and_steps(run_folder: Path):
    manifest = json.loads((run_folder / "manifest.json").read_text())
    manifest |= {"name": HOSTILE, "inputs": {HOSTILE: {"sha256": HOSTILE, "bytes": 1, "rows": 1}}, "luthier": HOSTILE}
    manifest["training"] = {HOSTILE: {"stopped": HOSTILE}}
    manifest["machine"] = {HOSTILE: HOSTILE}
    (run_folder / "manifest.json").write_text(json.dumps(manifest))
    step = {"split": HOSTILE, "step": HOSTILE, "reason": HOSTILE, "action": "dropped", "count": 1}
    (run_folder / "data" / "summary.json").write_text(
        json.dumps(
            {
                "splits": {HOSTILE: 3},
                "read": 4,
                "steps": [step],
                "facts": [{"step": HOSTILE, "split": HOSTILE, "facts": {HOSTILE: {HOSTILE: [HOSTILE], "n": 0.25}}}],
            }
        )
    )
    page = read(run_folder)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "img" not in {tag for tag, _ in page.tags}


def test_steps_of_an_interrupted_attempt_do_not_count(run_folder: Path):
    lost = [json.dumps(event) for event in events(100)]  # an earlier attempt with losses near 50, begun again from 0
    log = (run_folder / "events.jsonl").read_text()
    (run_folder / "events.jsonl").write_text("\n".join(lost) + '\n{"torn": \n' + log)
    page = read(run_folder)
    drawn = [a["aria-label"] for t, a in page.tags if t == "svg" and (a.get("aria-label") or "").startswith("loss")]
    assert len(drawn) == 2
    assert all("steps 1 to 240" in label and " from 3." in label for label in drawn)


def test_only_a_recipe(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text("name: bare\nmodel: embedded:nano\ndata: {train: x.jsonl}\n")
    text = read(tmp_path).text
    assert "This run has not come to its end" in text
    assert "luthier run RUN/recipe.yaml --out runs/again" in text


def test_an_empty_manifest_and_empty_evidence(tmp_path: Path):
    (tmp_path / "manifest.json").write_text(
        '{"training": {"sft": {}}, "stages": {"x": {}}, "energy": {}, "machine": null}'
    )
    (tmp_path / "evidence.json").write_text("{}")
    assert "The recipe sets no gates." in read(tmp_path).text


def test_no_run_folder_and_a_damaged_file(tmp_path: Path):
    with pytest.raises(DataError, match="no run folder"):
        write_report(tmp_path)
    (tmp_path / "evidence.json").write_text('{"findings": [')
    with pytest.raises(DataError, match=r"evidence\.json: the file is damaged"):
        write_report(tmp_path)


def test_undefined_values(run_folder: Path):
    undefined = [finding("text_match", "bleu", name, float("nan")) for name in ("base", "tuned", "change")]
    values = [asdict(one) for one in undefined]
    values[0]["value"] = None
    change_evidence(
        run_folder, findings=values, gates=[asdict(Verdict("text_match.bleu > 0", None, 0.0, False, "undefined"))]
    )
    text = read(run_folder).text
    assert "undefined" in text
    assert "The gate does not hold." in text


def test_a_failed_gate_is_said_first_and_digits_suffice(run_folder: Path):
    gates = [
        Verdict("text_match.exact >= 0.925", 0.92496, 0.925, False),
        Verdict("perplexity.perplexity < 9", 3.9, 9.0, True),
    ]
    change_evidence(run_folder, gates=[asdict(gate) for gate in gates])
    page = read(run_folder)
    assert "1 of 2 gates does not hold: text_match.exact >= 0.925." in page.text
    assert "✗ fails 0.92496 0.925" in page.text
    assert any(attributes.get("class") == "verdict fails" for _, attributes in page.tags)


@pytest.mark.parametrize(
    ("low", "high", "better", "words"),
    [
        (0.62, 0.755, "lower", "a clear loss"),
        (-0.1, 0.755, "higher", "a difference this small may be chance"),
        (None, None, "higher", "rose from 0.020 to 0.710 (+0.690; higher is better)."),
    ],
)
def test_the_verdict_follows_the_interval(
    run_folder: Path, low: float | None, high: float | None, better: str, words: str
):
    changed = [
        replace(f, better=better, **({"low": low, "high": high} if f.subject == "change" else {})) for f in FINDINGS[:3]
    ]
    change_evidence(run_folder, findings=[asdict(one) for one in changed])
    assert words in read(run_folder).text


def test_an_interval_and_a_test_that_do_not_agree_are_both_told(run_folder: Path):
    changed = [
        replace(f, **({"low": 0.1, "high": 0.7, "p": 0.062} if f.subject == "change" else {})) for f in FINDINGS[:3]
    ]
    change_evidence(run_folder, findings=[asdict(one) for one in changed])
    assert "better by its interval but not by its test (p = 0.062)." in read(run_folder).text


def test_notes_shared_by_rows_are_written_once(run_folder: Path):
    note = "base is this recipe with the body frozen"
    notes = [replace(f, note=note if f.subject == "base" else None) for f in FINDINGS[:6]]
    change_evidence(run_folder, findings=[asdict(one) for one in notes])
    assert read(run_folder).text.count(note) == 1


def test_several_seeds(tmp_path: Path):
    values = {1: 0.92, 2: 0.94, 11: 0.93}
    for seed, value in values.items():
        place = tmp_path / "seeds" / f"seed-{seed}"
        place.mkdir(parents=True)
        findings = [finding("classification", "accuracy", "tuned", value, value - 0.01, value + 0.01)]
        (place / "evidence.json").write_text(json.dumps({"findings": [asdict(one) for one in findings]}))
    note = "mean of 3 seeds (1: 0.92, 2: 0.94, 11: 0.93)"
    mean = finding("classification", "accuracy", "tuned", 0.93, 0.905, 0.955, n=3, note=note)
    (tmp_path / "evidence.json").write_text(json.dumps({"findings": [asdict(mean)], "gates": []}))
    (tmp_path / "recipe.yaml").write_text("name: intents\nseed: [1, 2, 11]\n")
    page = read(tmp_path)
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == [f"seeds/seed-{seed}/report.html" for seed in (1, 2, 11)]
    assert "classification.accuracy 0.920 0.940 0.930 0.020" in page.text
    assert note in page.text
    assert "t intervals over them" in page.text


def test_half_a_surrogate_pair_from_data_can_be_written(run_folder: Path):
    change_evidence(run_folder, samples={"text_match": [{"row": "1", "prompt": "\ud83d", "wanted": "a", "tuned": "b"}]})
    assert "prompt 1 ?" in read(run_folder).text


def test_the_page_is_the_same_for_the_same_folder(run_folder: Path):
    first = write_report(run_folder).read_bytes()
    assert write_report(run_folder).read_bytes() == first


def luminance(color: str) -> float:
    """WCAG 2.2, relative luminance of #rrggbb."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrasts_are_aa(scheme: int):
    css = files("luthier.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, flags=re.S)
    color = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[scheme]))
    for text in ("ink", "soft", "tuned", "base", "good", "bad"):
        for ground in ("paper", "band"):
            assert contrast(color[text], color[ground]) >= 4.5, (text, ground)
    for text, ground in [
        ("ink", "del"),
        ("ink", "ins"),
        ("ink", "warnband"),
        ("warn", "warnband"),
        ("soft", "warnband"),
    ]:
        assert contrast(color[text], color[ground]) >= 4.5, (text, ground)
    assert contrast(color["gone"], color["paper"]) >= 3
    assert contrast(color["valid"], color["paper"]) >= 3
