"""How the methods make one objective: what adds up, what is shipped, what is refused and with what remedy."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.fit.recipe import Recipe, load_recipe
from zhichun.fit.train import build_model, judged_batches, make_featurizer, open_pairs, train
from zhichun.model.layers import recompute_activations
from zhichun.model.model_folder import TrainedModel
from zhichun.objective import FineTuning
from zhichun.objective.methods import AWP, EMA, FGM, Mixup, RDrop

WHOLE = ("objective.second_view=FGM", "objective.rdrop=RDrop", "objective.mixup=Mixup", "objective.ema=EMA")
STILL = "model.dropout=0.0"


@pytest.fixture
def begin(tiny_recipe, tiny_dataset):
    """Make an objective of some settings, and a batch for it."""

    def made(*settings: str) -> tuple[FineTuning, dict[str, torch.Tensor]]:
        recipe: Recipe = tiny_recipe.with_settings(settings)
        dataset = Dataset.open(tiny_dataset)
        featurizer = make_featurizer(recipe.model, dataset)
        rows = dataset.split(recipe.train.validation_fold)[0][:8]
        batches = judged_batches(recipe, dataset, open_pairs(dataset, featurizer, recipe.model.max_length), rows)
        torch.manual_seed(0)
        objective = FineTuning(build_model(recipe.model, featurizer, TASKS[recipe.task]), recipe.objective)
        (arrays,) = batches.micro_batches(0, 0, 1)
        return objective, {name: torch.from_numpy(array) for name, array in arrays.items()}

    return made


def parts_of(objective: FineTuning, batch: dict[str, torch.Tensor]) -> tuple[float, dict[str, float]]:
    torch.manual_seed(0)
    total, parts = objective(batch)
    return total.item(), {name: float(part) for name, part in parts.items()}


def test_the_losses_add_up_as_the_paper_writes(begin):
    total, parts = parts_of(*begin(*WHOLE))
    assert set(parts) == {"loss", "mixup", "second_view", "rdrop"}
    assert min(parts.values()) > 0
    main = (parts["loss"] + parts["mixup"]) / 2
    assert total == pytest.approx(main + parts["second_view"] + parts["rdrop"], rel=1e-6)


RANKED = ("train.lists=Lists", "objective.ranking=RankNet", "train.micro_batch_tokens=100000")


def test_a_ranking_loss_is_added_by_its_weight(begin):
    total, parts = parts_of(*begin(*RANKED))
    assert set(parts) == {"loss", "ranking"}
    assert total == pytest.approx(parts["loss"] + parts["ranking"], rel=1e-6)
    weighted = parts_of(*begin(*RANKED, "objective.ranking.weight=3"))[1]
    assert weighted["ranking"] == pytest.approx(3 * parts["ranking"], rel=1e-6)
    objective, batch = begin(*RANKED)
    torch.manual_seed(0)
    loss_L = objective.settings.ranking(objective.model(batch), batch["gain"], batch["list"])
    mean = (batch["list_weight"] * loss_L).sum() / batch["list_normaliser"]
    assert parts["ranking"] == pytest.approx(mean.item())


def test_the_second_view_has_the_ranking_loss_and_mixup_has_not(begin):
    total, parts = parts_of(*begin(*WHOLE, *RANKED))
    main = (parts["loss"] + parts["mixup"]) / 2 + parts["ranking"]
    assert total == pytest.approx(main + parts["second_view"] + parts["rdrop"], rel=1e-6)
    still = (STILL, *RANKED, "objective.second_view=FGM", "objective.second_view.epsilon=1e-6")
    total, parts = parts_of(*begin(*still))  # a view that hardly moves costs what the first one does
    assert parts["second_view"] == pytest.approx(parts["loss"] + parts["ranking"], rel=1e-4)
    assert "ranking" not in parts_of(*begin(*RANKED, "objective.ranking=null"))[1]


def test_fgm_ascends_the_ranking_loss_too(begin):
    """With hardly any loss of pairs, what the view moves along is the gradient of the ranking loss."""
    settings = (STILL, *RANKED, "objective.second_view=FGM")
    ranked, plain = (begin(*settings, f"objective.ranking.weight={weight}") for weight in (1e6, 1e-6))

    def direction(objective, batch):
        from zhichun.objective.views import PLACES, FirstView

        first = FirstView.of(objective.model, batch, objective.loss, objective.settings.ranking, moved=True)
        return first.ascent(PLACES["table"](batch))

    one, other = direction(*ranked), direction(*plain)
    assert one.norm().item() == pytest.approx(1, rel=1e-5)
    assert (one * other).sum().item() < 0.99


def test_without_methods_there_is_the_weighted_loss_and_nothing_else_bit_for_bit(begin):
    objective, batch = begin()
    total, parts = parts_of(objective, batch)
    torch.manual_seed(0)
    loss_B = objective.loss(objective.model(batch), batch["target"])
    assert total == ((batch["weight"] * loss_B).sum() / batch["normaliser"]).item()
    assert parts == {"loss": total}
    assert [name for name in objective.state_dict() if not name.startswith("model.")] == []


def test_or_their_mean_is_taken_as_in_the_released_code(begin):
    total, parts = parts_of(*begin(*WHOLE, "objective.mixup=null", "objective.total=mean"))
    assert total == pytest.approx((parts["loss"] + parts["second_view"] + parts["rdrop"]) / 3, rel=1e-6)


def test_fgm_finds_a_higher_loss(begin):
    _, parts = parts_of(*begin(STILL, "objective.second_view=FGM"))
    assert parts["second_view"] > parts["loss"] + 0.01


def test_out_of_training_there_is_the_loss_alone(begin):
    objective, batch = begin(*WHOLE)
    with torch.inference_mode():
        total, parts = parts_of(objective.eval(), batch)
    assert parts == {"loss": total}


def test_the_average_is_shipped_and_follows_each_step(begin):
    objective, _ = begin("objective.ema=EMA")
    assert objective.shipped is not objective.model
    assert objective.shipped.head[1].weight.data_ptr() != objective.model.head[1].weight.data_ptr()
    start = objective.shipped.head[1].weight.clone()
    for value in (1.0, 2.0):
        nn.init.constant_(objective.model.head[1].weight, value)
        objective.after_step()
    assert not torch.equal(objective.shipped.head[1].weight, start)
    assert objective.shipped.head[1].weight[0, 0].item() == pytest.approx(1 + 9 / 11)  # η = 2 / 11 at the second
    assert "average.module.head.1.weight" in objective.state_dict()


def test_awp_begins_with_its_step_and_the_count_is_kept(begin):
    settings = ('objective.second_view={"kind": "AWP", "first_step": 3}', "objective.rdrop=RDrop")
    objective, batch = begin(*settings)
    seen = []
    for _ in range(4):
        seen.append("second_view" in parts_of(objective, batch)[1])
        objective.after_step()
    assert seen == [False, False, True, True]
    resumed, _ = begin(*settings)
    resumed.load_state_dict(objective.state_dict())
    assert "rdrop" in parts_of(resumed, batch)[1]
    assert "steps" not in begin()[0].state_dict()


def test_raw_and_averaged_weights_are_both_kept(tiny_recipe, tiny_dataset, tmp_path):
    run = train(tiny_recipe.with_settings(["objective.ema=EMA", "train.epochs=2"]), tiny_dataset, tmp_path / "run")
    raw, averaged = load_file(run.path / "raw.safetensors"), load_file(run.model / "model.safetensors")
    assert raw.keys() == averaged.keys()
    assert not torch.equal(raw["head.1.weight"], averaged["head.1.weight"])
    trained = TrainedModel.load(run.model)
    trained.model.load_state_dict(raw)  # as docs/training.md says


def gradients(objective: FineTuning, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    objective.zero_grad()
    torch.manual_seed(0)
    objective(batch).total.backward()
    return {name: weight.grad.clone() for name, weight in objective.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("kind", ["FGM", "FGSM", "PGD", "FreeLB", "SMART"])
def test_recomputed_activations_give_the_same_gradient(begin, kind):
    settings = [f"objective.second_view={kind}", *([] if kind == "SMART" else ["objective.rdrop=RDrop"])]
    objective, batch = begin(*settings)
    expected = gradients(objective, batch)
    recompute_activations(objective.model.encoder)
    found = gradients(objective, batch)
    assert max(float((found[name] - expected[name]).abs().max()) for name in expected) < 1e-6


@pytest.mark.parametrize("kind", ["FGM", "FGSM", "PGD", "FreeLB", "SMART", "AWP"])
def test_bf16_is_finite_with_logits_that_are_certain(begin, kind):
    objective, batch = begin(f"objective.second_view={kind}")
    nn.init.constant_(objective.model.head[4].bias, 0.0)
    objective.model.head[4].bias.data[0] = 60.0  # every probability but one is zero in bf16
    with torch.autocast("cpu", torch.bfloat16):
        total = objective(batch).total
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(weight.grad).all() for weight in objective.parameters() if weight.requires_grad)


def test_the_perturbation_is_of_this_batch_alone(begin):
    """The classic code takes it from the gradients that micro-batches before have left."""
    objective, batch = begin(STILL, "objective.second_view=FGM")
    once = gradients(objective, batch)
    torch.manual_seed(0)
    objective(batch).total.backward()
    assert all(torch.allclose(weight.grad, 2 * once[name]) for name, weight in objective.named_parameters())


FROZEN = "FGM perturbs the word embeddings, but they are frozen.\nTrain them, or perturb their output"


def test_a_frozen_table_is_refused_and_its_output_is_not(begin, tiny_recipe):
    model = begin()[0].model
    model.encoder.table.requires_grad_(False)
    with pytest.raises(UserError, match=FROZEN):
        FineTuning(model, tiny_recipe.with_settings(["objective.second_view=FGM"]).objective)
    at_output = tiny_recipe.with_settings(['objective.second_view={"kind": "FGM", "at": "output"}']).objective
    objective = FineTuning(model, at_output)
    assert "second_view" in objective(begin()[1]).parts


def test_a_dropout_view_without_dropout_is_refused(begin):
    with pytest.raises(UserError, match=r"no effect on a model without dropout\.\nUse --set model\.dropout=0\.1"):
        begin("objective.second_view=DropoutView", STILL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["objective.rdrop=RDrop"],
            "R-Drop needs a second view, and objective.second_view is null.\nUse --set objective",
        ),
        (["objective.total=mean"], "objective.total='mean' has no effect without a second view"),
        (["objective.second_view=SMART", "objective.rdrop=RDrop"], "would add the same divergence twice"),
        (["task=gain", "train.metric=ndcg", 'objective={"loss": "SquaredError", "mixup": "Mixup"}'], "mixup=null"),
        (
            ['objective.second_view={"kind": "FGM", "epsilon": 0}'],
            "FGM with epsilon=0.0: must be above 0.\nSwitch",
        ),
        (['objective.second_view={"kind": "FGSM", "epsilon": -1}'], "FGSM with epsilon=-1.0: must be above 0"),
        (['objective.second_view={"kind": "PGD", "steps": 0}'], "PGD with steps=0: must be above 0"),
        (
            ['objective.second_view={"kind": "FreeLB", "start": 0}'],
            "Start from zero with objective.second_view.start=null",
        ),
        (['objective.second_view={"kind": "FreeLB", "at": "table"}'], "no setting 'objective.second_view.at'"),
        (['objective.second_view={"kind": "SMART", "weight": 0}'], "SMART with weight=0.0: must be above 0"),
        (
            ['objective.second_view={"kind": "AWP", "gamma": NaN}'],
            "gamma=nan is not a finite number",
        ),
        (["objective.ranking=RankNet"], "RankNet needs steps of whole lists.\nUse --set train.lists=Lists."),
        (["objective.ranking=RankNets"], "no kind 'RankNets'.\nDid you mean 'RankNet'?"),
        (
            [
                *RANKED,
                "task=gain",
                "objective.loss=SquaredError",
                "train.metric=ndcg",
                "objective.ranking.gains=official-script",
            ],
            "has no effect on the task 'gain', whose targets are gains of esci already.\nUse --set objective",
        ),
        (
            [*RANKED, "task=substitute", "objective.ranking.gains=official-script"],
            "has no effect on the task 'substitute', whose two classes have the gains 0 and 1.\nUse --set objective",
        ),
        (["objective.second_view=FGN"], "no kind 'FGN'.\nDid you mean 'FGM'?"),
        (
            ["objective.second_view=AWP", "train.activation_checkpointing=layers"],
            "would not move again.\nUse --set train",
        ),
        (['objective={"second_view": "FGM", "rdrop": {"alpha": 0}}'], "RDrop with alpha=0.0: must be above 0"),
        (['objective.mixup={"kind": "Mixup", "alpha": 0}'], "Switch it off with objective.mixup=null"),
        (
            ['objective.ema={"kind": "EMA", "decay": 1}'],
            "EMA with decay=1.0: must be above 0 and below 1.\nSwitch it off with objective.ema=null",
        ),
        (['objective.ema={"kind": "EMA", "warm_up": 0}'], "Switch the warm-up off with objective.ema.warm_up=null"),
    ],
)
def test_settings_without_sense_are_answered_with_the_remedy(settings, message):
    with pytest.raises(UserError) as error:
        load_recipe("tiny").with_settings(settings)
    assert message in str(error.value)


def test_methods_are_set_by_name_changed_one_by_one_and_switched_off():
    recipe = load_recipe("tiny").with_settings(WHOLE)
    recipe = recipe.with_settings(["objective.second_view.epsilon=0.5", "objective.mixup=null"])
    assert recipe.objective.second_view == FGM(epsilon=0.5)
    assert recipe.objective.rdrop == RDrop()
    assert recipe.objective.mixup is None
    assert recipe.objective.ema == EMA()
    assert recipe.with_settings(["objective.second_view=AWP"]).objective.second_view == AWP()
    off = ["objective.rdrop=null", "objective.second_view=null", "objective.ema=null"]
    with pytest.raises(UserError, match="R-Drop needs a second view"):
        recipe.with_settings(off[1:])
    assert recipe.with_settings(off) == load_recipe("tiny")


def test_the_paper_s_recipes_have_the_paper_s_values():
    written, released = load_recipe("kdd2022:task2"), load_recipe("kdd2022:task2_as_released")
    assert written.objective.second_view == FGM(epsilon=1.0)
    assert written.objective.mixup == Mixup(alpha=0.2)
    assert (written.train.batch_size, written.train.warmup, written.train.clip) == (32, 0.1, 1.0)
    assert (released.train.batch_size, released.train.warmup, released.train.clip) == (256, 0.02, None)
    assert (released.objective.total, released.objective.rdrop.reduction) == ("mean", "sum")
    assert load_recipe("kdd2022:baseline").objective == load_recipe("tiny").objective
    members = [load_recipe(f"kdd2022:task1_member{k}") for k in range(1, 7)]
    assert [member.task for member in members] == ["esci"] * 3 + ["gain"] * 3
    assert len({json.dumps(member.to_json()) for member in members}) == 6
