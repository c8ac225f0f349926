"""Input that is made to harm: names that leave their folder, templates that run on, archives without end, lying
headers, rows that are markup or commands. Each is refused, or stays the text that it is.
"""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
import struct
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_runs
import yaml
import zstandard
from tiny import CHATML_PLAIN, make_tokenizer

import luthier
from luthier.cli.main import main
from luthier.core import sandbox
from luthier.core.errors import DataError, LuthierError, ModelError, RecipeError
from luthier.core.example import turns
from luthier.core.recipe import Data, Recipe
from luthier.data import unpack
from luthier.data.prepare import prepare
from luthier.data.template import ChatTemplate
from luthier.models.load import load_model
from luthier.models.tokens import stop_tokens
from luthier.models.weights import read_tensors


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# ---- names -----------------------------------------------------------------------------------------------------------

NAMES = (
    *("../up", "..", "/absolute", "a/b", "a\\b", "C:x", "nul\0", "line\n", "", ".hidden", "-flag", "$(id)", "a b"),
    *("nul", "COM1", "con.txt", "lpt9", "dot.", "x" * 101),
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_names_never_leave_their_folder(name: str) -> None:
    value: dict[str, Any] = {"name": "t", "model": "embedded:nano", "data": {"train": "a.jsonl"}}
    with pytest.raises(RecipeError, match="name"):
        Recipe.of({**value, "name": name})
    with pytest.raises(RecipeError, match=r"phases\.0\.name"):
        Recipe.of({**value, "phases": [{"name": name}]})
    Path("a.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    with pytest.raises(RecipeError):
        luthier.fit("embedded:nano", [{"text": "a"}], name=name)
    assert [path.name for path in Path().iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("name", ["embedded:../recipes/demo", "embedded:/etc/passwd", "embedded:.."])
def test_what_ships_is_named_and_not_looked_up_by_path(name: str) -> None:
    with pytest.raises(DataError, match="no data set called"):
        prepare(Data(train=name), 1)
    with pytest.raises(ModelError):
        load_model(name, "causal_lm")


def test_an_index_cannot_name_files_elsewhere(llama_folder: Path) -> None:
    model = Path("model")
    shutil.copytree(llama_folder, model)
    (model / "model.safetensors").rename("outside.safetensors")
    index = {"weight_map": {"model.norm.weight": "../outside.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelError, match="weight files are missing"):
        load_model(str(model), "causal_lm")


# ---- chat templates --------------------------------------------------------------------------------------------------

RUNS_ON = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
HOSTILE = {
    "nested loops": (RUNS_ON, "does not end"),
    "macro that calls itself twice": ("{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}"
                                      "{{ f(60) }}", "does not end"),
    "loop of a trillion": ("{% for i in range(1000000000000) %}{% endfor %}", "refuses the conversation"),
    "power": ("{{ 9 ** 9 ** 9 }}", "takes a power"),
    "text of 30 GB": ("{{ 'x' * 30000000000 }}", "more memory"),
    "padding of 100 GB": ("{{ 'x' | center(99999999999) }}", "more memory"),
    "number of 100 GB": ("{{ '%99999999999d' % 3 }}", "more memory"),
    "classes": ("{{ ''.__class__.__mro__[1].__subclasses__()[0]() }}", "refuses the conversation"),
    "globals": ("{{ cycler.__init__.__globals__.os.popen('touch owned').read() }}", "unsafe"),
    "globals by key": ("{{ lipsum.__globals__['os'].system('touch owned') }}", "unsafe"),
    "attribute by filter": ("{{ ('' | attr('__class__')).__base__.__subclasses__()[0]() }}", "refuses"),
    "format string": ("{{ '{0.__class__.__init__.__globals__}'.format(cycler).x() }}", "refuses"),
    "file": ("{% include '/etc/passwd' %}", "refuses the conversation"),
    "import": ("{% import 'os' as os %}{{ os.system('touch owned') }}", "refuses the conversation"),
    "rewriting the rows": ("{{ messages.append(1) }}", "unsafe"),
}  # fmt: skip
SAID = turns(("user", "a"), ("assistant", "b"))


def found_or_refused(tokenizer: Any, says: str) -> bool:
    """Loading a model looks for its end of turn as well: nothing more is found, or the template is refused there."""
    try:
        return stop_tokens(tokenizer) == [tokenizer.eos_token_id]
    except ModelError as error:
        return says in str(error)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_template_is_stopped_and_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, says = HOSTILE[kind]
    monkeypatch.setattr(sandbox, "SECONDS", 0.3)
    tokenizer = make_tokenizer(CHATML_PLAIN + source)
    started = time.monotonic()
    with pytest.raises((DataError, ModelError), match=says) as caught:
        ChatTemplate(tokenizer).render(SAID)
    assert caught.value.problems[0].remedy
    assert found_or_refused(tokenizer, says)
    assert time.monotonic() - started < 20
    assert not Path("owned").exists()


def test_a_template_that_writes_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "CHARACTERS", 1000)
    with pytest.raises(ModelError, match=r"makes 2,0\d\d characters of one conversation"):
        ChatTemplate(make_tokenizer("{{ 'x' * 2000 }}" + CHATML_PLAIN)).render(SAID)


def test_timers_and_limits_are_as_before_when_a_template_was_rendered() -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)
    left = signal.getitimer(signal.ITIMER_REAL)[0]
    ChatTemplate(make_tokenizer(CHATML_PLAIN)).render(SAID)
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)) == before
    assert left - 5 < signal.getitimer(signal.ITIMER_REAL)[0] <= left


# ---- files that unpack without end -----------------------------------------------------------------------------------

MEGABYTE = b'{"text": "' + b"a" * (2**20 - 13) + b'"}\n'


def stretched(pack: Callable[[bytes], bytes], megabytes: int) -> bytes:
    """A packed file of so many megabytes, in pieces of 100, as all three kinds allow."""
    return pack(MEGABYTE * 100) * (megabytes // 100)


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("a.jsonl.gz", lambda: stretched(gzip.compress, 10_000)),
        ("a.jsonl.xz", lambda: stretched(lambda data: lzma.compress(data, preset=0), 10_000)),
        ("a.jsonl.zst", lambda: stretched(zstandard.compress, 10_000)),
    ],
    ids=["gzip", "xz", "zstd"],
)
def test_a_small_file_of_ten_gigabytes_is_refused_without_unpacking_it(
    file: str, data: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "TIMES", 5)
    Path(file).write_bytes(data())
    for bad_rows in ("stop", "quarantine"):
        with pytest.raises(DataError, match=r"unpacks to more than 67,108,864 bytes[\s\S]*unpack it yourself"):
            prepare(Data(train=file, bad_rows=bad_rows), 1)


def test_what_packs_well_and_is_small_is_read() -> None:
    Path("a.jsonl.gz").write_bytes(gzip.compress(MEGABYTE * 40))  # a thousand times its size, and below 64 MiB
    assert len(prepare(Data(train="a.jsonl.gz"), 1).splits["train"]) == 40


def test_a_file_beyond_the_free_memory_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    class Full:
        available = 10

    monkeypatch.setattr(psutil, "virtual_memory", Full)
    Path("a.jsonl").write_text('{"text": "a"}\n' * 5, encoding="utf-8")
    with pytest.raises(LuthierError, match="70 bytes, and 10 bytes of memory are free"):
        prepare(Data(train="a.jsonl"), 1)


def repeated() -> pa.Table:
    numbers = pa.array(np.zeros(200_000, dtype=np.int32))
    return pa.table({"text": pa.DictionaryArray.from_arrays(numbers, pa.array(["a" * 10_000]))})


@pytest.mark.parametrize(
    "table",
    [lambda: pa.table({"text": pa.nulls(20_000_000, pa.string())}), repeated],
    ids=["20 million empty rows", "2 GB of one text"],
)
def test_a_parquet_file_that_unpacks_without_end_is_refused(table: Callable[[], pa.Table]) -> None:
    pq.write_table(table(), "a.parquet")
    assert Path("a.parquet").stat().st_size < 200_000
    with pytest.raises(DataError, match=r"the Parquet file of .* unpacks to more than"):
        prepare(Data(train="a.parquet"), 1)


def test_columns_without_number_are_told_in_a_few_words() -> None:
    columns = ",".join(f"column{number}" for number in range(300_000))
    Path("a.csv").write_text(columns + "\n" + "," * 299_999 + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="column19 and 299980 more") as caught:
        prepare(Data(train="a.csv"), 1)
    assert len(str(caught.value)) < 3000


# ---- safetensors -----------------------------------------------------------------------------------------------------


def safetensors(header: Any, body: bytes = bytes(64), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(begin: int = 0, end: int = 64, shape: Any = (16,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


LIES = {
    "header of 2^63 bytes": safetensors({}, length=2**63),
    "header beyond the file": safetensors({}, length=10_000),
    "header of 200 MB": safetensors({}, length=200_000_000),
    "no header": b"",
    "half a length": b"\x10\0\0",
    "header that is no JSON": safetensors(b"{'a': 1"),
    "header nested 100,000 deep": safetensors(b"[" * 100_000),
    "offsets beyond the file": safetensors({"w": tensor(0, 64_000, (16_000,))}),
    "offsets that run backward": safetensors({"w": tensor(64, 0)}),
    "offsets below zero": safetensors({"w": tensor(-64, 0)}),
    "shape that does not fill its bytes": safetensors({"w": tensor(shape=(15,))}),
    "shape whose product overflows": safetensors({"w": tensor(shape=(2**62, 2**62, 4))}),
    "shape below zero": safetensors({"w": tensor(shape=(-16,))}),
    "two tensors over each other": safetensors({"v": tensor(), "w": tensor()}),
    "hole between tensors": safetensors({"v": tensor(0, 16, (4,)), "w": tensor(32, 64, (8,))}),
    "bytes that no tensor claims": safetensors({"w": tensor(0, 16, (4,))}),
    "unknown dtype": safetensors({"w": tensor(dtype="pickle")}),
}


@pytest.mark.parametrize("lie", LIES)
def test_lying_headers_are_refused(lie: str, llama_folder: Path) -> None:
    Path("w.safetensors").write_bytes(LIES[lie])
    with pytest.raises(ModelError, match=r"w\.safetensors: .*cannot be read"):
        read_tensors(Path("w.safetensors"))
    adapter, model = Path("adapter"), Path("model")
    adapter.mkdir()
    settings = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "base_model_name_or_path": str(llama_folder)}
    (adapter / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (adapter / "adapter_model.safetensors").write_bytes(LIES[lie])
    shutil.copytree(llama_folder, model)
    (model / "model.safetensors").write_bytes(LIES[lie])
    for folder in (adapter, model):
        with pytest.raises(ModelError) as caught:
            load_model(str(folder), "causal_lm")
        assert caught.value.problems[0].remedy


# ---- rows that are markup, paths and commands ------------------------------------------------------------------------

SCRIPT = "</script></style><script>alert(1)</script><img src=x onerror=alert(1)>"
COMMANDS = "\x1b]0;owned\x07\x1b[2J[red]"
MARKDOWN = "---\nlicense: mit\n---\n# owned [x](javascript:alert(1)) ![](http://a.test/x)"


class Tags(HTMLParser):
    """Collects tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_hostile_rows_stay_text_in_all_that_is_written(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = (SCRIPT, COMMANDS + MARKDOWN, "../../up")
    rows = [
        {"id": f"../../{number}{SCRIPT}", "text": f"{labels[number % 3]} {number}", "label": labels[number % 3]}
        for number in range(30)
    ]
    rows += [{**rows[0], "id": "twin"}]
    data = small_runs.write_jsonl(Path("a.jsonl"), rows)
    changes = {"steps": 1, "checks": ["classification"], "about": MARKDOWN + SCRIPT, "license": SCRIPT}
    recipe = small_runs.class_recipe(llama_folder, data, **changes)
    recipe["data"] |= {"steps": ["clean", "deduplicate"]}
    Path("a.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    main(["run", "a.yaml", "--plain"])
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.yaml", "runs"]
    assert [path.name for path in Path("runs").iterdir()] == ["small"]
    assert not [path for path in Path("runs").rglob("*") if path.name.startswith(("up", "0<"))]
    tags = Tags(Path("runs/small/report.html").read_text(encoding="utf-8")).found
    assert [name for name, _ in tags].count("script") == 1
    assert not [name for name, attributes in tags if name == "img" or any(key.startswith("on") for key in attributes)]
    card = Path("runs/small/README.md").read_text(encoding="utf-8")
    front, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(front)["license"] == "other"
    assert "<script" not in body.replace("\\<script", "")
    assert not [line for line in body.splitlines() if line.startswith(("# owned", "license:"))]


def test_hostile_ids_and_file_names_are_shown_harmless(llama_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("a\x1b[31m[bold].jsonl")
    small_runs.write_jsonl(file, [{"text": "a", "id": COMMANDS}, {"text": "b", "id": COMMANDS}])
    Path("a.yaml").write_text(yaml.safe_dump(small_runs.lm_recipe(llama_folder, file)), encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        main(["run", "a.yaml"])
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert "\x1b" not in said
    assert "a\\x1b[31m[bold].jsonl:2: double id" in said
    assert "\\x1b]0;owned\\x07" in said
