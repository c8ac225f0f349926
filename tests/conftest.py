"""What the tests share: tiny models and tokenizers made on the spot, and the outside data where it is."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

# Two processes that both spin on two cores slow each other a thousandfold; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from tiny import make_bert, make_llama, make_t5, make_tokenizer

# Nothing is garbage while modules are imported and cases are made: looking for it took two fifths of that time.
gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with slow tests first: of two workers none is left with a long one when the other has nothing to do."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="module", autouse=True)
def _settled_heap() -> None:
    """What is there when a module begins, imported modules above all, is not looked through at every collection again.

    A checkpoint and a probe collect what is not used any more; of a million objects that takes a third of a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What runs remember of this machine, and keys, are neither read nor written by tests, their processes included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture
def llama():
    return make_llama()


@pytest.fixture
def bert():
    return make_bert()


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama and its tokenizer saved as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("llama")
    make_llama().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT (as an encoder with a head) and its tokenizer saved as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("bert")
    make_bert().save_pretrained(folder)
    make_tokenizer(template=None).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny T5 and its tokenizer saved as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("t5")
    make_t5().save_pretrained(folder)
    make_tokenizer(template=None).save_pretrained(folder)
    return folder


def outside_data(relative: str) -> Path:
    """A file of the outside data; skips the test by name where it is absent."""
    root = os.environ.get("LUTHIER_DATA")
    path = Path(root) / relative if root else None
    if path is None or not path.exists():
        pytest.skip(f"outside data '{relative}' is absent: set LUTHIER_DATA to the folder that holds it")
    return path


@pytest.fixture
def data_file() -> Callable[[str], Path]:
    return outside_data
