"""New tokens: rows by hand, ties kept, never shrunk, the same after plain transformers reloads it, learned in a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_runs import chat_records, class_recipe, label_records, lm_recipe, write_jsonl
from tiny import make_bert, make_llama, make_tokenizer

from luthier.core.errors import ModelError
from luthier.core.recipe import Recipe
from luthier.models.export import save_model
from luthier.models.vocabulary import grow

TOKENS = ("BWV", "fingerboard")


def test_rows_are_the_mean_of_the_old_pieces_in_both_tables() -> None:
    model, tokenizer, old = make_llama(tie_word_embeddings=False), make_tokenizer(), make_tokenizer()
    table, output = model.model.embed_tokens.weight.clone(), model.lm_head.weight.clone()
    state = torch.random.get_rng_state()
    grown = grow(model, tokenizer, TOKENS)
    assert (grown.added, grown.first, grown.known) == (TOKENS, 400, ())
    assert torch.equal(torch.random.get_rng_state(), state)
    for id, token in enumerate(TOKENS, 400):
        pieces = old(token, add_special_tokens=False)["input_ids"]
        assert len(pieces) > 1
        for after, before in ((model.model.embed_tokens.weight, table), (model.lm_head.weight, output)):
            by_hand = torch.stack([before[piece] for piece in pieces]).sum(0) / len(pieces)
            torch.testing.assert_close(after[id], by_hand, rtol=0, atol=1e-8)
    assert torch.equal(model.model.embed_tokens.weight[:400], table)
    assert torch.equal(model.lm_head.weight[:400], output)
    assert (model.config.vocab_size, model.lm_head.out_features, model.vocab_size) == (402, 402, 402)


def test_the_texts_are_single_tokens_that_answers_keep() -> None:
    model, tokenizer = make_llama(), make_tokenizer()
    grow(model, tokenizer, TOKENS)
    ids = tokenizer("aBWVb fingerboard", add_special_tokens=False)["input_ids"]
    assert ids.count(400) == ids.count(401) == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == "aBWVb fingerboard"
    assert not {"BWV", "fingerboard"} & set(tokenizer.all_special_tokens)


def test_tied_stays_tied() -> None:
    model, tokenizer = make_llama(), make_tokenizer()
    grow(model, tokenizer, TOKENS)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.lm_head.weight.shape == (402, 32)
    assert model.config.vocab_size == 402


def test_a_padded_embedding_lends_its_rows_and_stays_as_large() -> None:
    model, tokenizer, old = make_llama(vocabulary=448), make_tokenizer(), make_tokenizer()
    before = model.model.embed_tokens.weight.detach().clone()
    grow(model, tokenizer, TOKENS)
    after = model.model.embed_tokens.weight
    assert after.shape == (448, 32)
    assert model.config.vocab_size == 448
    assert torch.equal(after[402:], before[402:])
    assert not torch.equal(after[400], before[400])
    pieces = old("BWV", add_special_tokens=False)["input_ids"]
    torch.testing.assert_close(after[400], before[pieces].mean(0), rtol=0, atol=1e-8)


def test_pieces_are_told_and_not_added_again() -> None:
    model, tokenizer = make_llama(), make_tokenizer()
    piece = next(text for text, id in tokenizer.get_vocab().items() if text.isalpha() and text.isascii() and id > 300)
    grown = grow(model, tokenizer, [piece, "BWV", "<|im_end|>"])
    assert (grown.added, grown.known, len(tokenizer)) == (("BWV",), (piece, "<|im_end|>"), 401)
    assert "BWV" in grown.note
    assert piece in grown.note
    again = grow(model, tokenizer, ["BWV"])
    assert (again.added, again.known, len(tokenizer)) == ((), ("BWV",), 401)


def test_what_the_tokenizer_would_garble_is_refused() -> None:
    with pytest.raises(ModelError, match="Straße"):
        grow(make_llama(), make_tokenizer(), ["Straße"])


def test_a_vocabulary_with_holes_is_refused() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "x": 7}, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]")
    with pytest.raises(ModelError, match="holes"):
        grow(make_llama(vocabulary=11), tokenizer, ["BWV"])


def test_bfloat16_rows_are_rounded_once() -> None:
    model, tokenizer, old = make_llama().to(torch.bfloat16), make_tokenizer(), make_tokenizer()
    grow(model, tokenizer, ["fingerboard"])
    table = model.get_input_embeddings().weight
    pieces = old("fingerboard", add_special_tokens=False)["input_ids"]
    assert torch.equal(table[400], table[pieces].float().mean(0).to(torch.bfloat16))


def test_an_output_bias_and_a_classifier_grow_too() -> None:
    from transformers import GPTJConfig, GPTJForCausalLM

    tokenizer, old = make_tokenizer(), make_tokenizer()
    torch.manual_seed(0)
    small = GPTJConfig(vocab_size=400, n_embd=32, n_layer=1, n_head=2, rotary_dim=4, n_positions=64)
    model = GPTJForCausalLM(small)
    torch.nn.init.normal_(model.lm_head.bias)
    bias = model.lm_head.bias.detach().clone()
    grow(model, tokenizer, ["BWV"])
    pieces = old("BWV", add_special_tokens=False)["input_ids"]
    torch.testing.assert_close(model.lm_head.bias[400], bias[pieces].mean())
    bert = make_bert()
    grow(bert, make_tokenizer(template=None), ["BWV"])
    assert bert.get_input_embeddings().num_embeddings == 401
    assert bert(torch.tensor([[400, 5]])).logits.isfinite().all()


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_learn_and_plain_transformers_reads_them(tmp_path: Path, tied: bool) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = make_llama(tie_word_embeddings=tied), make_tokenizer()
    grow(model, tokenizer, TOKENS)
    start = [weight.detach().clone() for weight in (model.model.embed_tokens.weight, model.lm_head.weight)]
    ids = torch.tensor([tokenizer("the BWV of the fingerboard, BWV")["input_ids"]])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    for weight, before in zip((model.model.embed_tokens.weight, model.lm_head.weight), start, strict=True):
        assert not torch.equal(weight[400], before[400])
        assert not torch.equal(weight[401], before[401])
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    save_model(model, tokenizer, tmp_path / "model")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    spelled = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert again.config.vocab_size == 402
    assert spelled("the BWV of the fingerboard, BWV")["input_ids"] == ids[0].tolist()
    assert "BWV" in spelled.decode(ids[0], skip_special_tokens=True)


def test_a_run_trains_them(llama_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from luthier.pipeline import run

    data = write_jsonl(tmp_path / "rows.jsonl", chat_records(24))
    chosen = {"adaptation": "full", "steps": 3, "new_tokens": ["viola", "cello"], "checks": ["perplexity"]}
    recipe = lm_recipe(llama_folder, data, **chosen)
    done = run(recipe, out=tmp_path / "run")
    tokenizer = AutoTokenizer.from_pretrained(done.model)
    ids = tokenizer.convert_tokens_to_ids(["viola", "cello"])
    assert ids == [400, 401]
    trained = AutoModelForCausalLM.from_pretrained(done.model).get_input_embeddings().weight
    fresh, old = make_llama(), make_tokenizer()
    grow(fresh, old, ["viola", "cello"])
    assert trained.shape == (402, 32)
    assert not torch.equal(trained[400], fresh.get_input_embeddings().weight[400])
    assert done.value("perplexity.perplexity", "base") != done.value("perplexity.perplexity")
    manifest = json.loads((done.folder / "manifest.json").read_text())
    assert manifest["model"]["vocabulary"] == 402
    assert any("'viola', 'cello'" in note for note in manifest["model"]["notes"])
    assert "2 new tokens: 'viola', 'cello'" in (done.folder / "events.jsonl").read_text()
    keys = manifest["stages"]
    run(recipe | {"new_tokens": ["viola"]}, out=tmp_path / "run", until="train")
    changed = json.loads((done.folder / "manifest.json").read_text())["stages"]
    assert changed["prepare"]["key"] == keys["prepare"]["key"]
    assert changed["train sft"]["key"] != keys["train sft"]["key"]
    assert changed["base"]["key"] != keys["base"]["key"]


def test_what_cannot_learn_them_is_a_problem(llama_folder: Path, bert_folder: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", chat_records(8))

    def found(*phases: dict[str, object], tokens: tuple[str, ...] = TOKENS) -> list[tuple[str | None, str]]:
        recipe = lm_recipe(llama_folder, data, new_tokens=tokens) | {"phases": list(phases)}
        return [(problem.where, problem.found) for problem in Recipe.model_validate(recipe).problems()]

    full, bias = {"adaptation": "full"}, {"adaptation": "bitfit"}
    assert found(full) == []
    assert found({"adaptation": {"frozen": {"embeddings": True}}}) == []
    assert [where for where, _ in found(bias)] == ["phases.0.adaptation"]
    assert [where for where, _ in found({"adaptation": "frozen"})] == ["phases.0.adaptation"]
    assert found({"name": "one"} | full, {"name": "two"} | bias) == []
    outside = {"name": "two", "from": str(llama_folder)} | bias
    assert [where for where, _ in found({"name": "one"} | full, outside)] == ["phases.1.adaptation"]
    assert [where for where, _ in found(full, tokens=("a", "a", ""))] == ["new_tokens", "new_tokens"]
    texts = write_jsonl(tmp_path / "labels.jsonl", label_records(6))
    assert Recipe.model_validate(class_recipe(bert_folder, texts, new_tokens=["BWV"])).problems() == []


def test_a_plan_counts_them(llama_folder: Path, tmp_path: Path) -> None:
    from luthier.plan.plan import plan

    data = write_jsonl(tmp_path / "rows.jsonl", chat_records(12))
    recipe = lm_recipe(llama_folder, data, adaptation="full", steps=2)
    without, with_them = plan(recipe), plan(recipe | {"new_tokens": ["viola", "cello"]})
    assert with_them.phases[0].parameters - without.phases[0].parameters == 2 * 32
    assert with_them.phases[0].splits["train"].tokens < without.phases[0].splits["train"].tokens


def test_a_lora_phase_goes_on_with_what_an_earlier_phase_learned(llama_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    from luthier.pipeline import run

    data = write_jsonl(tmp_path / "rows.jsonl", chat_records(16))
    recipe = lm_recipe(llama_folder, data, new_tokens=["viola"])
    first = recipe["phases"][0] | {"adaptation": {"frozen": {"train": "last:1", "embeddings": True}}}
    first |= {"name": "words", "optimizer": {"adamw": {"lr": 1e-2}}}
    done = run(recipe | {"phases": [first, recipe["phases"][0]]}, out=tmp_path / "run", until="export")
    learned = load_file(done.folder / "phases" / "1-words" / "merged" / "model.safetensors")
    exported = load_file(done.model / "model.safetensors")
    fresh, tokenizer = make_llama(), make_tokenizer()
    grow(fresh, tokenizer, ["viola"])
    rows = exported["model.embed_tokens.weight"]
    assert rows.shape == (401, 32)
    assert not torch.equal(rows[400], fresh.get_input_embeddings().weight[400])
    assert torch.equal(rows, learned["model.embed_tokens.weight"])
    assert AutoTokenizer.from_pretrained(done.model).convert_tokens_to_ids("viola") == 400


def test_the_embedded_model_takes_them() -> None:
    from luthier.models.load import load_model

    loaded = load_model("embedded:nano", "causal_lm")
    before = loaded.tokenizer("a fingerboard-xyzzy", add_special_tokens=False)["input_ids"]
    grown = grow(loaded.model, loaded.tokenizer, ["xyzzy"])
    after = loaded.tokenizer("a fingerboard-xyzzy", add_special_tokens=False)["input_ids"]
    assert len(after) < len(before)
    assert after[-1] == grown.first
    assert loaded.tokenizer.decode(after).strip() == "a fingerboard-xyzzy"
