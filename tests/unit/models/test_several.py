"""Several adapters on one base: switched, added up, folded in; from one recipe, from Python and by luthier merge."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from numerics.test_adaptations import log_probabilities, train
from small_runs import chat_records, lm_recipe, write_jsonl
from torch import nn

from luthier import Recipe, run
from luthier.cli.main import main
from luthier.core.component import build
from luthier.core.errors import ModelError
from luthier.models.load import load_model
from luthier.models.several import open_adapters

KINDS = {
    "one": {"lora": {"rank": 4}},
    "two": {"lora": {"rank": 2, "alpha": 3.0, "targets": ["q_proj", "down_proj"]}},
    "mlp": {"lora": {"rank": 4, "init": "pissa"}},
}


def changes(model: nn.Module) -> dict[str, torch.Tensor]:
    """What an adapted model adds to each weight."""
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }


def saved(base_folder: Path, folder: Path, value: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A trained adapter in `folder`: what the model answers with it, and its changes."""
    adaptation = build("adaptations", value)
    model = adaptation.apply(load_model(str(base_folder), "causal_lm").model)
    train(adaptation, model, lr=3e-3)
    adaptation.save(model, folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": str(base_folder)}))
    return log_probabilities(model.eval()), changes(model)


@pytest.fixture(scope="module")
def trained(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """name -> (folder, answers, changes). One has the name of a module, by which PEFT would mistake weights."""
    home = tmp_path_factory.mktemp("adapters")
    return {name: (home / name, *saved(llama_folder, home / name, value)) for name, value in KINDS.items()}


def folders(trained, *names: str) -> dict[str, Path]:
    return {name: trained[name][0] for name in names}


def summed(llama_folder: Path, trained, weights: dict[str, float]) -> nn.Module:
    """The base with weight * change added to each weight, by hand."""
    plain = load_model(str(llama_folder), "causal_lm").model
    with torch.no_grad():
        for name, weight in weights.items():
            for place, change in trained[name][2].items():
                plain.get_submodule(place).weight += weight * change
    return plain


def test_one_at_a_time_answers_as_if_it_were_alone(llama_folder: Path, trained) -> None:
    adapters = open_adapters(folders(trained, *KINDS))
    base = log_probabilities(load_model(str(llama_folder), "causal_lm").model)
    assert adapters.names == tuple(KINDS)
    for name in ("two", "one", "mlp", "two"):
        torch.testing.assert_close(log_probabilities(adapters.use(name)), trained[name][1], rtol=0, atol=1e-6)
        assert torch.equal(log_probabilities(adapters.use({})), base)
    assert not any(p.requires_grad for p in adapters.use("one").parameters())


@pytest.mark.parametrize("weights", [{"one": 0.5, "two": 2.0}, {"one": 1.0, "two": 1.0, "mlp": -0.5}, {"two": 0.25}])
def test_sums_are_those_of_the_weights(llama_folder: Path, trained, weights: dict[str, float]) -> None:
    adapters = open_adapters(folders(trained, *KINDS))
    wanted = log_probabilities(summed(llama_folder, trained, weights))
    adapters.use("mlp")
    torch.testing.assert_close(log_probabilities(adapters.use(weights)), wanted, rtol=0, atol=2e-6)
    merged = adapters.merge(weights)
    assert not hasattr(merged.model, "peft_config")
    torch.testing.assert_close(log_probabilities(merged.model), wanted, rtol=0, atol=2e-6)
    assert type(merged.model).__name__ == "LlamaForCausalLM"


def test_merging_nothing_is_the_base(llama_folder: Path, trained) -> None:
    base = load_model(str(llama_folder), "causal_lm").model
    merged = open_adapters(folders(trained, "one")).merge({}).model
    for (name, found), (own, wanted) in zip(merged.named_parameters(), base.named_parameters(), strict=True):
        assert name == own
        assert torch.equal(found, wanted)


def test_heads_are_switched_and_not_added_up(bert, tmp_path: Path) -> None:
    bert.save_pretrained(tmp_path / "base")
    from tiny import make_tokenizer

    make_tokenizer(template=None).save_pretrained(tmp_path / "base")
    answers = {}
    for name, rate in (("a", 1e-3), ("b", 5e-3)):
        adaptation = build("adaptations", {"lora": {"rank": 2}})
        model = adaptation.apply(copy.deepcopy(bert))
        train(adaptation, model, lr=rate)
        adaptation.save(model, tmp_path / name)
        answers[name] = log_probabilities(model.eval())
    adapters = open_adapters(
        {name: tmp_path / name for name in answers}, str(tmp_path / "base"), task="sequence_classification"
    )
    for name, wanted in answers.items():
        torch.testing.assert_close(log_probabilities(adapters.use(name)), wanted, rtol=0, atol=1e-6)
    with pytest.raises(ModelError, match="heads do not add up"):
        adapters.use({"a": 0.5, "b": 0.5})
    with pytest.raises(ModelError, match="brought a head of its own, and no task says which"):
        open_adapters({"a": tmp_path / "a"}, str(tmp_path / "base"))


def test_what_does_not_go_together_is_refused(trained, llama_folder: Path, tmp_path: Path) -> None:
    saved(llama_folder, tmp_path / "bits", {"lora": {"rank": 2, "base": "int8"}})
    saved(llama_folder, tmp_path / "dora", {"lora": {"rank": 2, "dora": True}})
    saved(llama_folder, tmp_path / "ia3", {"peft": {"method": "ia3"}})
    own = folders(trained, "one")
    with pytest.raises(ModelError, match="different numbers of bits: None, int8"):
        open_adapters(own | {"bits": tmp_path / "bits"})
    with pytest.raises(ModelError, match="DoRA adapters do not add up"):
        open_adapters(own | {"dora": tmp_path / "dora"})
    with pytest.raises(ModelError, match="IA3 adapters do not add up"):
        open_adapters(own | {"ia3": tmp_path / "ia3"})
    with pytest.raises(ModelError, match="no adapter is called 'won'") as caught:
        open_adapters(own).use("won")
    assert "did you mean 'one'?" in str(caught.value)
    with pytest.raises(ModelError):
        open_adapters({"model": llama_folder})
    with pytest.raises(ModelError):
        open_adapters({"absent": tmp_path / "absent"})


def test_a_recipe_leaves_an_adapter_a_task_and_the_command_adds_them_up(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two phases from one base; their sum by the command is their sum in memory; a run stands for its last phase."""
    data = write_jsonl(tmp_path / "rows.jsonl", chat_records(16))
    value = lm_recipe(llama_folder, data, epochs=1)
    first = dict(value["phases"][0])
    value["phases"] = [first, first | {"name": "other", "from": str(llama_folder), "adaptation": {"lora": {"rank": 2}}}]
    value["checks"], value["gates"], value["chat_template"] = [], [], "plain"
    run(Recipe.of(value), out=tmp_path / "run")
    one, two = (tmp_path / "run" / "phases" / name / "result" for name in ("1-sft", "2-other"))
    main(["merge", f"{one}=0.75", f"{tmp_path / 'run'}=0.5", "--out", str(tmp_path / "both")])
    assert "0.75" in capsys.readouterr().out
    adapters = open_adapters({"one": one, "two": two})
    wanted = log_probabilities(adapters.use({"one": 0.75, "two": 0.5}))
    both = load_model(str(tmp_path / "both"), "causal_lm")
    torch.testing.assert_close(log_probabilities(both.model), wanted, rtol=0, atol=2e-6)
    exported = load_model(str(tmp_path / "run" / "model"), "causal_lm").tokenizer.chat_template
    assert both.tokenizer.chat_template == exported != adapters.loaded.tokenizer.chat_template
    assert not torch.equal(log_probabilities(adapters.use("one")), log_probabilities(adapters.use("two")))

    for arguments, said in (
        ([f"{one}=much", "--out", str(tmp_path / "new")], "'much' is no weight"),
        ([f"{one}=nan", "--out", str(tmp_path / "new")], "'nan' is no weight"),
        ([str(one), "--out", str(tmp_path / "both")], "is there already"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["merge", *arguments])
        assert ended.value.code == 2
        assert said in "".join(capsys.readouterr())
    (two / "adapter_config.json").unlink()
    with pytest.raises(SystemExit):
        main(["merge", str(tmp_path / "run"), "--out", str(tmp_path / "new")])
    assert f"name what is meant: {one}" in "".join(capsys.readouterr()).replace("\n", "")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("finished", "said"), [(True, "its adaptation is prefix"), (False, "finish it with: luthier run")]
)
def test_a_run_that_left_no_adapter_is_told_from_one_that_is_not_done(
    finished: bool, said: str, llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    value = lm_recipe(llama_folder, tmp_path / "rows.jsonl", epochs=1)
    value["phases"][0]["adaptation"] = "prefix"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(json.dumps(value))
    if finished:
        (folder / "phases" / "1-sft" / "result").mkdir(parents=True)
    with pytest.raises(SystemExit):
        main(["merge", str(folder), "--out", str(tmp_path / "new")])
    told = "".join(capsys.readouterr())
    assert said in told
    assert ("luthier run" in told) is not finished
