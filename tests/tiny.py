"""Tiny models and tokenizers made on the spot, for tests to import."""

from __future__ import annotations

CHATML_MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m['content'] + '<|im_end|>' + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML with generation marks."""

CHATML_PLAIN = CHATML_MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")
"""The same text without the marks."""

REASONING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and not loop.last %}{{ m['content'].split('</think>')[-1] }}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The reasoning of all answers but the last is removed, as Qwen3's template does."""

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
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
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


def make_t5(vocabulary: int = 400, seed: int = 0, **changes: object):
    """A T5 encoder-decoder, two layers on each side, 32 wide, float32, in eval mode."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    settings: dict[str, object] = {
        "vocab_size": vocabulary,
        "d_model": 32,
        "d_ff": 64,
        "d_kv": 8,
        "num_layers": 2,
        "num_heads": 4,
        "dropout_rate": 0.0,
        "pad_token_id": 0,
        "eos_token_id": 2,
        "decoder_start_token_id": 0,
    }
    return T5ForConditionalGeneration(T5Config(**(settings | changes))).eval()
