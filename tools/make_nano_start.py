"""Makes the folder that `embedded:nano` is trained from: a tokenizer learned here, and a fresh Llama.

    python tools/make_nano_start.py OUT            needs LUTHIER_DATA, the outside data's folder

The tokenizer is a byte-level BPE of 4,096 pieces, digits split, learned on the training text of recipes/nano.yaml.
The model is a Llama of 5.5 million parameters with random weights from a fixed seed, in float32.
"""

from __future__ import annotations

import json
import lzma
import os
import sys
from collections.abc import Iterator
from pathlib import Path

SPECIAL = ["<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PIECES = 4096
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m['content'] + '<|im_end|>' + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def texts(data: Path) -> Iterator[str]:
    """Every story, and the first 60,000 characters of every fourth book."""
    with lzma.open(data / "text/stories.jsonl.xz", "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["text"]
    with lzma.open(data / "text/books.jsonl.xz", "rt", encoding="utf-8") as file:
        for number, line in enumerate(file):
            if number % 4 == 0:
                yield json.loads(line)["text"][:60_000]


def main(out: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(Path(os.environ["LUTHIER_DATA"])), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>", model_max_length=512
    )
    fast.chat_template = TEMPLATE
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=PIECES,
            hidden_size=256,
            intermediate_size=688,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            rope_theta=10_000.0,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=fast.convert_tokens_to_ids("<|endoftext|>"),
            pad_token_id=fast.convert_tokens_to_ids("<|pad|>"),
        )
    )
    model.generation_config.eos_token_id = fast.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    model.save_pretrained(out)
    fast.save_pretrained(out)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(fast):,} pieces, in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
