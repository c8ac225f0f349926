"""What `luthier generate` and `luthier chat` say of models that write nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luthier.cli.talk import Talker
from luthier.core.errors import LuthierError


def test_of_a_model_that_gives_vectors_it_is_told_how_to_have_them(tmp_path: Path) -> None:
    """A folder of sentence-transformers; a decoder's would load, with an output layer that nobody has trained."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaModel"]}))
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(LuthierError, match="gives vectors of texts") as caught:
        Talker(tmp_path, None, None, 1)
    assert f'load_embedder("{tmp_path}")' in str(caught.value)
