"""Learning rates that decay by layer, activations that are computed again, and compiled encoders, by architecture."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import AlbertConfig, BertConfig, DebertaV2Config, ModernBertConfig, XLMRobertaConfig

from zhichun.core.errors import UserError
from zhichun.fit.loop import make_optimizer
from zhichun.fit.train import train
from zhichun.fit.train_settings import TrainSettings
from zhichun.model.encoder import Encoder, new_encoder
from zhichun.model.layers import layers_of, recompute_activations
from zhichun.model.model_folder import TrainedModel

SIZE = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
RELATIVE = {
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
CONFIGS = {
    "xlm-roberta": XLMRobertaConfig(max_position_embeddings=66, hidden_dropout_prob=0.2, **SIZE),
    "bert": BertConfig(max_position_embeddings=64, hidden_dropout_prob=0.2, **SIZE),
    "deberta-v2": DebertaV2Config(max_position_embeddings=64, hidden_dropout_prob=0.2, **RELATIVE, **SIZE),
    "modernbert": ModernBertConfig(max_position_embeddings=64, mlp_dropout=0.2, **SPECIAL, **SIZE),
}
# Where each architecture keeps its first and last layer, its embeddings, and what else is outside of the layers.
NAMES = {
    "xlm-roberta": ("encoder.layer.0.", "encoder.layer.2.", ("embeddings.",), ()),
    "bert": ("encoder.layer.0.", "encoder.layer.2.", ("embeddings.",), ()),
    "deberta-v2": (
        "encoder.layer.0.",
        "encoder.layer.2.",
        ("embeddings.", "encoder.rel_embeddings.", "encoder.LayerNorm."),
        (),
    ),
    "modernbert": ("layers.0.", "layers.2.", ("embeddings.",), ("final_norm.",)),
}


def objective(name: str) -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"encoder": new_encoder(CONFIGS[name]), "head": nn.Linear(16, 4)})


def scales(module: nn.Module, settings: TrainSettings) -> dict[str, float]:
    """Give the factor on the learning rate of each weight, by name."""
    groups = make_optimizer(module, settings).param_groups
    by_weight = {id(weight): group["scale"] for group in groups for weight in group["params"]}
    return {name: by_weight[id(weight)] for name, weight in module.named_parameters()}


def of(found: dict[str, float], starts: tuple[str, ...]) -> set[float]:
    return {scale for name, scale in found.items() if name.startswith(tuple(f"encoder.model.{s}" for s in starts))}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_rate_decays_from_the_head_down_to_the_embeddings(name):
    found = scales(objective(name), TrainSettings(layer_decay=0.5))
    first, last, bottom, top = NAMES[name]
    assert {scale for key, scale in found.items() if key.startswith("head.")} == {1.0}
    assert of(found, (last, *top)) == {0.5}
    assert of(found, (first,)) == {0.125}
    for start in bottom:
        assert of(found, (start,)) == {0.0625}
    assert set(found.values()) == {1.0, 0.5, 0.25, 0.125, 0.0625}


def test_without_decay_all_have_the_whole_rate():
    assert set(scales(objective("bert"), TrainSettings()).values()) == {1.0}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_groups_are_the_same_again_and_decay_weights_alone(name):
    settings = TrainSettings(layer_decay=0.9, weight_decay=0.3)
    names = []
    for made in (objective(name), objective(name)):
        names_of = {id(weight): key for key, weight in made.named_parameters()}
        groups = make_optimizer(made, settings).param_groups
        names.append([[names_of[id(weight)] for weight in group["params"]] for group in groups])
        assert all(
            (group["weight_decay"] == 0.3) == (weight.ndim > 1) for group in groups for weight in group["params"]
        )
        assert sum(map(len, names[-1])) == len(names_of)
    assert names[0] == names[1]


def test_an_encoder_whose_layers_share_their_weights_is_refused():
    albert = new_encoder(AlbertConfig(embedding_size=8, **SIZE))
    with pytest.raises(UserError, match=r"'albert' has no layers to tell apart\.\n.*train\.layer_decay=null"):
        make_optimizer(albert, TrainSettings(layer_decay=0.9))
    assert make_optimizer(albert, TrainSettings())


def run(encoder: Encoder, take: Callable[[torch.Tensor, list[nn.Parameter]], tuple[torch.Tensor, ...]]):
    ids = torch.tensor([[2, 7, 8, 3, 9, 3, 0, 0], [2, 7, 3, 5, 9, 11, 12, 3]])
    torch.manual_seed(1)
    loss = encoder.train()(ids, (ids != 0).long(), None)[:, 0].square().sum()
    return [loss, *take(loss, list(encoder.parameters()))]


def backward(loss, weights):
    loss.backward()
    return tuple(weight.grad for weight in weights)


@pytest.mark.parametrize("take", [backward, torch.autograd.grad])
@pytest.mark.parametrize("name", CONFIGS)
def test_activations_computed_again_change_no_bit(name, take):
    plain, saving = objective(name)["encoder"], objective(name)["encoder"]
    passes = []
    inner = [part for part in layers_of(saving)[1].modules() if isinstance(part, nn.Linear)]
    inner[-1].register_forward_pre_hook(lambda *_: passes.append(1))
    recompute_activations(saving)
    assert all(torch.equal(one, other) for one, other in zip(run(plain, take), run(saving, take), strict=True))
    assert len(passes) == 2  # forward, and again in the backward pass
    assert plain.state_dict().keys() == saving.state_dict().keys()


def test_nothing_is_computed_again_outside_of_training():
    encoder = objective("bert")["encoder"]
    expected = encoder.eval()(torch.tensor([[2, 7, 3]]), torch.ones(1, 3), None)
    recompute_activations(encoder)
    assert torch.equal(encoder(torch.tensor([[2, 7, 3]]), torch.ones(1, 3), None), expected)


@pytest.mark.parametrize("view", ["FGM", "SMART"])
def test_activations_can_be_computed_again_for_two_views(view, tiny_recipe, tiny_dataset, tmp_path):
    """A second view takes a gradient through the same layers before the step does."""
    settings = [f"objective.second_view={view}", "train.batch_size=1000", "train.epochs=2"]
    settings += ["model.tiny.dropout=0.1"] + ["objective.rdrop=RDrop"] * (view != "SMART")
    losses = []
    for option in ("null", "layers"):
        recipe = tiny_recipe.with_settings([*settings, f"train.activation_checkpointing={option}"])
        run = train(recipe, tiny_dataset, tmp_path / option)
        losses.append([record["loss"] for record in run.records() if "loss" in record])
    assert losses[0] == losses[1]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # the tracer looks at it
@pytest.mark.parametrize(("attention", "backend"), [("padded", "eager"), ("packed", "aot_eager")])
def test_a_compiled_encoder_learns_the_same(attention, backend, tiny_recipe, tiny_dataset, tmp_path, monkeypatch):
    """As far as tracing goes, of packed pairs also backwards: kernels are left out, which take a minute to be made."""
    compiled, whole = [], nn.Module.compile

    def traced(module, **options):
        compiled.append(options)
        whole(module, backend=backend, **options)

    monkeypatch.setattr(nn.Module, "compile", traced)
    settings = [f"train.attention={attention}", "train.batch_size=300", "objective.second_view=FGM"]
    losses, names = [], []
    for option in ("false", "true"):
        recipe = tiny_recipe.with_settings([*settings, f"train.compile={option}"])
        run = train(recipe, tiny_dataset, tmp_path / option)
        losses.append([record["loss"] for record in run.records() if "loss" in record])
        names.append(TrainedModel.load(run.model).model.state_dict().keys())
    assert compiled == [{"dynamic": True}] * 2  # the layers
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert names[0] == names[1]
