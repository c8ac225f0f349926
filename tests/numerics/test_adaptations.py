"""What every adaptation must hold, on a tiny Llama and a tiny BERT; LoRA and L2-SP beside PEFT and dense arithmetic."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from luthier.core.component import build
from luthier.core.contracts import Adaptation
from luthier.core.errors import ModelError
from luthier.functional.adapters import Bottleneck
from luthier.models.cast import cast

BOTH = [
    "full",
    {"full": {"layer_decay": 0.7}},
    {"frozen": {"train": "last:1"}},
    {"frozen": {"train": [0], "embeddings": True, "layer_decay": 0.5}},
    "lora",
    {"lora": {"rank": 4, "rank_stabilized": True, "layers": [-1]}},
    {"lora": {"rank": 4, "init": "pissa", "b_scale": 16.0}},
    {"lora": {"rank": 4, "init": "olora", "rank_stabilized": True}},
    {"lora": {"rank": 4, "dora": True}},
    "bottleneck",
    {"bottleneck": {"placement": "houlsby", "activation": "gelu"}},
]
ENCODER = ["head", "bitfit", {"full": {"head_scale": 10.0}}, {"lora": {"targets": ["query", "attention.output.dense"]}}]
CASES = [(kind, value) for value in BOTH for kind in ("llama", "bert")] + [("bert", value) for value in ENCODER]
every = pytest.mark.parametrize(("kind", "value"), CASES, ids=[f"{kind}-{json.dumps(value)}" for kind, value in CASES])


def adaptation_of(value) -> Adaptation:
    return build("adaptations", value)


@pytest.fixture
def base(request, kind):
    return request.getfixturevalue(kind)


def inputs(model: nn.Module, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 400, (4, 12), generator=generator)
    labels = ids if "CausalLM" in type(getattr(model, "base_model", model)).__name__ else None
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | (
        {"labels": labels} if labels is not None else {}
    )


def log_probabilities(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs(model)).logits.float().log_softmax(-1)


def train(adaptation: Adaptation, model: nn.Module, steps: int = 3, lr: float = 1e-3) -> None:
    """Plain AdamW steps on the mean log-probability of class or token 1."""
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for _, p in group.parameters], "lr": lr * group.scale, "weight_decay": 0.0}
            for group in adaptation.groups(model)
        ]
    )
    for step in range(steps):
        adaptation.at(step / steps, model)
        logits = model(**inputs(model, seed=step)).logits.float()
        wanted = torch.arange(logits[..., 0].numel()) % 3
        loss = nn.functional.cross_entropy(logits.flatten(0, -2), wanted)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@every
def test_step_zero_is_the_base(base, value) -> None:
    before = log_probabilities(base)
    assert torch.equal(log_probabilities(adaptation_of(value).apply(base).eval()), before)


@every
def test_after_three_steps_what_trains_has_moved_and_nothing_else(base, value) -> None:
    adaptation = adaptation_of(value)
    model = adaptation.apply(base)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    train(adaptation, model)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == trained
    assert trained


@every
def test_groups_hold_each_trained_parameter_once_in_a_stable_order(base, value) -> None:
    adaptation = adaptation_of(value)
    model = adaptation.apply(base)
    listed = [name for group in adaptation.groups(model) for name, _ in group.parameters]
    parameters = dict(model.named_parameters())
    assert sorted(listed) == sorted(name for name, parameter in parameters.items() if parameter.requires_grad)
    assert listed == [name for group in adaptation.groups(model) for name, _ in group.parameters]
    for group in adaptation.groups(model):
        assert all(parameters[name] is parameter for name, parameter in group.parameters)
        assert all((parameter.ndim > 1) == group.decay for _, parameter in group.parameters)
    assert len({group.name for group in adaptation.groups(model)}) == len(adaptation.groups(model))


@every
def test_saved_and_loaded_gives_the_same_model_and_the_same_bytes(base, value, tmp_path: Path) -> None:
    adaptation, fresh = adaptation_of(value), copy.deepcopy(base)
    model = adaptation.apply(base)
    train(adaptation, model)
    adaptation.save(model, tmp_path / "a")
    adaptation.save(model, tmp_path / "b")
    again = adaptation.apply(fresh).eval()
    adaptation.load(again, tmp_path / "a")
    assert torch.equal(log_probabilities(again), log_probabilities(model.eval()))
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


@every
def test_loading_is_strict(base, value, tmp_path: Path) -> None:
    adaptation = adaptation_of(value)
    model = adaptation.apply(base)
    adaptation.save(model, tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    tensors = load_file(file)
    last = sorted(tensors)[-1]
    less = {name: tensor for name, tensor in tensors.items() if name != last}
    for wrong, expected in (
        (less, "1 weights are missing"),
        (tensors | {"strange": torch.zeros(1)}, "1 weights have no place"),
        (less | {last: torch.zeros(7, 7, 7)}, "1 weights have another shape"),
    ):
        save_file(wrong, file)
        with pytest.raises(ModelError, match=expected):
            adaptation.load(model, tmp_path)
    file.write_bytes(b"torn")
    with pytest.raises(ModelError, match="cannot be read"):
        adaptation.load(model, tmp_path)
    file.unlink()
    with pytest.raises(ModelError, match="absent"):
        adaptation.load(model, tmp_path)


@every
def test_merged_is_a_plain_model_that_reloads(base, value, tmp_path: Path) -> None:
    adaptation, plain_type = adaptation_of(value), type(base)
    model = adaptation.apply(base)
    train(adaptation, model)
    before = log_probabilities(model.eval())
    if "bottleneck" in value:
        with pytest.raises(ModelError, match="cannot be folded"):
            adaptation.merge(model)
        return
    merged = adaptation.merge(model)
    assert type(merged) is plain_type
    assert not hasattr(merged, "peft_config")
    assert (log_probabilities(merged) - before).abs().max() < 2e-6
    merged.save_pretrained(tmp_path)
    reloaded = plain_type.from_pretrained(tmp_path).eval()
    assert torch.equal(log_probabilities(reloaded), log_probabilities(merged))


@pytest.mark.parametrize("kind", ["llama", "bert"])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"rank_stabilized": True, "alpha": 5.0},
        {"layers": [1]},
        {"dora": True},
        {"rank": 4, "init": "pissa"},
        {"rank": 4, "init": "olora", "rank_stabilized": True},
    ],
)
def test_plain_peft_loads_the_adapter(base, kind, parameters, tmp_path: Path) -> None:
    adaptation, fresh = adaptation_of({"lora": parameters}), copy.deepcopy(base)
    model = adaptation.apply(base)
    train(adaptation, model)
    adaptation.save(model, tmp_path)
    theirs = PeftModel.from_pretrained(fresh, str(tmp_path)).eval()
    assert (log_probabilities(theirs) - log_probabilities(model.eval())).abs().max() < 1e-6
    assert load_file(tmp_path / "adapter_model.safetensors").keys() == get_peft_model_state_dict(theirs).keys()
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    assert config["inference_mode"] is True


@pytest.mark.parametrize(
    ("parameters", "scale"),
    [
        ({"rank": 8}, 2.0),
        ({"rank": 8, "alpha": 4.0}, 0.5),
        ({"rank": 16, "rank_stabilized": True}, 2.0),
        ({"rank": 4, "rank_stabilized": True}, 4.0),
        ({"rank": 4, "rank_stabilized": True, "alpha": 5.0}, 2.5),
    ],
)
def test_scale_of_lora_is_alpha_over_rank_or_its_root(llama, parameters, scale) -> None:
    adaptation = adaptation_of({"lora": parameters})
    model = adaptation.apply(llama)
    found = {module.scaling["default"] for module in model.modules() if hasattr(module, "lora_A")}
    assert found == {scale}


@pytest.mark.parametrize("value", ["lora", "bottleneck", {"bottleneck": {"placement": "houlsby"}}])
@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_adapters_stay_float32_over_a_bfloat16_base(base, kind, value) -> None:
    before = log_probabilities(cast(base, torch.bfloat16))
    adaptation = adaptation_of(value)
    model = adaptation.apply(base)
    assert torch.equal(log_probabilities(model.eval()), before)
    train(adaptation, model)
    dtypes = {name: p.dtype for name, p in model.named_parameters() if p.requires_grad}
    adapters = {name for name in dtypes if "lora_" in name or ".bottleneck." in name}
    assert adapters
    assert {dtypes[name] for name in adapters} == {torch.float32}
    assert {dtype for name, dtype in dtypes.items() if name not in adapters} == (
        {torch.bfloat16} if kind == "bert" else set()
    )
    assert not torch.equal(log_probabilities(model.eval()), before)


def test_merging_over_bfloat16_rounds_once(llama) -> None:
    adaptation = adaptation_of("lora")
    model = adaptation.apply(cast(llama, torch.bfloat16))
    train(adaptation, model, lr=1e-2)
    layer = next(module for module in model.modules() if hasattr(module, "lora_A"))
    weight, a, b = layer.base_layer.weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = (weight.float() + 2.0 * b @ a).to(torch.bfloat16)
    assert torch.equal(adaptation.merge(model).model.layers[0].self_attn.q_proj.weight, expected)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_bottleneck_is_its_equation(activation) -> None:
    torch.manual_seed(0)
    module = Bottleneck(6, 2, activation)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    hidden = torch.randn(3, 6)
    function = {"relu": nn.ReLU(), "gelu": nn.GELU(), "silu": nn.SiLU()}[activation]
    double = copy.deepcopy(module).double()
    inner = function(hidden.double() @ double.down.weight.T + double.down.bias)
    expected = hidden.double() + inner @ double.up.weight.T + double.up.bias
    torch.testing.assert_close(module(hidden).double(), expected, rtol=1e-6, atol=1e-6)


def test_a_bottleneck_over_bfloat16_copies_no_hidden_state() -> None:
    """What backward keeps is bfloat16, the output's bits are those of bfloat16 products; float32 weights learn."""
    torch.manual_seed(0)
    module = Bottleneck(64, 8, "silu")
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    hidden = torch.randn(3, 50, 64).bfloat16().requires_grad_()
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        found = module(hidden)
    assert {tensor.dtype for tensor in kept} == {torch.bfloat16}

    half = copy.deepcopy(module).bfloat16()
    assert torch.equal(found, hidden + half.up(nn.functional.silu(half.down(hidden))))
    found.sin().sum().backward()

    exact, given = copy.deepcopy(module).double(), hidden.detach().double().requires_grad_()
    exact.zero_grad()
    exact(given).sin().sum().backward()
    for (name, parameter), wanted in zip(module.named_parameters(), exact.parameters(), strict=True):
        assert parameter.grad.dtype == torch.float32, name
        assert float((parameter.grad.double() - wanted.grad).norm()) <= 0.02 * float(wanted.grad.norm()), name
    assert float((hidden.grad.double() - given.grad).norm()) <= 0.02 * float(given.grad.norm())


def test_bottlenecks_survive_a_deepcopy(bert) -> None:
    adaptation = adaptation_of("bottleneck")
    model = adaptation.apply(bert)
    train(adaptation, model)
    double = copy.deepcopy(model)
    kept = log_probabilities(double.eval())
    train(adaptation, model)
    assert torch.equal(log_probabilities(double), kept)


# ---- L2-SP -----------------------------------------------------------------------------------------------------------


def l2_sp(model: nn.Module, state, **weights: float) -> torch.Tensor:
    models = SimpleNamespace(policy=SimpleNamespace(model=model))
    (term,) = build("penalties", {"l2_sp": weights}).terms(models, None, state)
    assert term.totals.shape == (1,)
    return term.totals[0]


def test_l2_sp_for_lora_is_the_dense_change(bert) -> None:
    adaptation, start = adaptation_of({"lora": {"rank": 4}}), copy.deepcopy(bert)
    model = adaptation.apply(bert)
    state = build("penalties", "l2_sp").begin(model)
    train(adaptation, model, lr=1e-2)
    penalty = l2_sp(model, state, weight=0.3, head_weight=0.0)
    penalty.backward()
    layer = next(module for module in model.modules() if hasattr(module, "lora_A"))
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    dense = 2.0 * b.detach().double() @ a.detach().double()
    torch.testing.assert_close(b.grad.double(), 0.3 * 2.0 * dense @ a.detach().double().T, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(a.grad.double(), 0.3 * 2.0 * b.detach().double().T @ dense, rtol=1e-5, atol=1e-9)
    merged = dict(adaptation.merge(model).named_parameters())
    head = ("classifier", "bert.pooler")
    apart = sum(
        (merged[name].double() - p.double()).square().sum()
        for name, p in start.named_parameters()
        if not name.startswith(head)
    )
    assert penalty.item() == pytest.approx(0.15 * apart.item(), rel=1e-5)


def test_l2_sp_for_lora_counts_from_where_the_phase_began(llama) -> None:
    adaptation = adaptation_of({"lora": {"rank": 4}})
    model = adaptation.apply(llama)
    train(adaptation, model, lr=1e-2)
    state = build("penalties", "l2_sp").begin(model)
    assert l2_sp(model, state, weight=1.0).item() == pytest.approx(0.0, abs=1e-5)
    before = {n: m.get_delta_weight("default").double() for n, m in model.named_modules() if hasattr(m, "lora_A")}
    train(adaptation, model, lr=1e-2)
    after = {n: m.get_delta_weight("default").double() for n, m in model.named_modules() if hasattr(m, "lora_A")}
    dense = sum((after[name] - before[name]).square().sum() for name in before)
    assert l2_sp(model, state, weight=1.0).item() == pytest.approx(0.5 * dense.item(), rel=1e-4)
