"""What the tests share: tiny models and tokenizers made on the spot, and the outside data where it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Two processes that both spin on two cores slow each other a thousandfold; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

CHATML_MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m['content'] + '<|im_end|>' + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML with generation marks."""

CHATML_PLAIN = CHATML_MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")
"""The same text without the marks."""

CORPUS = (
    "The luthier keeps the plates thin and the varnish thinner. A violin remembers the hands that made it.",
    "Once upon a time there was a small wolf who could not howl. The moon listened anyway, night after night.",
    "Question: how long does a setup take? Answer: about two hours, and it costs 60 euros with new strings.",
)


def make_tokenizer(template: str | None = CHATML_MARKED, size: int = 400):
    """A byte-level BPE tokenizer of `size` pieces with chat tokens; eos is <|im_end|>, pad is <|pad|>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>")
    fast.chat_template = template
    return fast


def make_llama(vocabulary: int = 400, seed: int = 0, **changes: object):
    """A Llama with grouped-query attention, two layers, 32 wide, float32, in eval mode."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings: dict[str, object] = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 2,
    }
    return LlamaForCausalLM(LlamaConfig(**(settings | changes))).eval()


def make_bert(labels: int = 3, vocabulary: int = 400, seed: int = 0, **changes: object):
    """A BERT for sequence classification, two layers, 32 wide, float32, in eval mode."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    settings: dict[str, object] = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "num_labels": labels,
        "pad_token_id": 0,
    }
    return BertForSequenceClassification(BertConfig(**(settings | changes))).eval()


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture()
def llama():
    return make_llama()


@pytest.fixture()
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


def outside_data(relative: str) -> Path:
    """A file of the outside data; skips the test by name where it is absent."""
    root = os.environ.get("LUTHIER_DATA")
    path = Path(root) / relative if root else None
    if path is None or not path.exists():
        pytest.skip(f"outside data '{relative}' is absent: set LUTHIER_DATA to the folder that holds it")
    return path


@pytest.fixture()
def data_file() -> Iterator[object]:
    yield outside_data
