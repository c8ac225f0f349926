"""A tiny masked language model with a vocabulary of whole words, and tiny encoder-decoders, for tests to import."""

from __future__ import annotations

from pathlib import Path

VOCABULARY = (
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "small", "old", "wolf", "moon", "sang", "listened", "to",
    "and", "house", "river", "not", "##s", "##ing", ".", ",", "?", "card", "my", "lost", "new", "where", "is", "7",
)  # fmt: skip


def make_words():
    """A WordPiece tokenizer of VOCABULARY, uncased, as BERT's."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=32, **{f"{name}_token": text for name, text in names.items()}
    )


def masked_folder(folder: Path) -> Path:
    """A BERT for masked words, two layers, 32 wide, saved with its tokenizer."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=32, initializer_range=0.5,
    )  # fmt: skip
    BertForMaskedLM(config).eval().save_pretrained(folder)
    make_words().save_pretrained(folder)
    return folder


def seq2seq_folder(folder: Path, seed: int = 0) -> Path:
    """A T5, one layer on each side, 32 wide, saved with the same tokenizer, whose separator ends a text."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(VOCABULARY), d_model=32, d_ff=64, d_kv=8, num_layers=1, num_heads=4, pad_token_id=0,
        eos_token_id=3, decoder_start_token_id=0, initializer_factor=3.0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).eval().save_pretrained(folder)
    make_words().save_pretrained(folder)
    return folder
