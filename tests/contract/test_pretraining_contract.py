"""The contract that every pretext task is held to: one table, one test for each clause, as for losses and methods."""

import json
from dataclasses import replace
from itertools import chain

import numpy as np
import pretraining_worker
import pytest
import torch
from pretraining_worker import begin
from safetensors.torch import load_file
from worker import InOneEpoch, Interrupted, as_tensors, fit, gradients

from zhichun.fit.loop import make_optimizer
from zhichun.fit.recipe import PretrainingRecipe
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train_settings import PretrainSettings
from zhichun.model.encoder_settings import EncoderSettings, TinyEncoder
from zhichun.objective.pretext.task import ITEMS
from zhichun.objective.pretraining import STEP_ITEMS

ALONE = ("objective.mlm=null", "train.metric=loss")
SPLIT = 'model.interaction={"kind": "Split", "product_layers": 1, "query_tokens": 12, "state": 16}'
SMALL = '{"kind": "%s", "size": 8}'
ROWS = {
    "PairMLM": ("objective.pair_mlm=PairMLM", *ALONE),
    "Product2Query": ('objective.product2query={"kind": "Product2Query", "dropout": 0.0, "draws": 2}', *ALONE),
    "Product2Query of a split encoder": (
        SPLIT,
        'objective.product2query={"kind": "Product2Query", "dropout": 0.0, "draws": 2}',
        "objective.mlm=null",
        "train.metric=product2query.loss",
    ),
    "PairMLM of a split encoder": (SPLIT, "objective.pair_mlm=PairMLM", *ALONE),
    "Product2Brand": (f"objective.product2brand={SMALL % 'Product2Brand'}", *ALONE),
    "Product2Color": (f"objective.product2color={SMALL % 'Product2Color'}", *ALONE),
}
# Blocks are packed and negatives found within a micro-batch.
OF_A_MICRO_BATCH = {
    "MLM": (),
    "MLM of words": ("objective.mlm.unit=word",),
    "MLM, activations computed again": ("train.activation_checkpointing=layers",),
    "Contrastive": ('objective.contrastive={"kind": "Contrastive", "repetition": 0.32, "queue": 20}', *ALONE),
    "Contrastive without a queue": (
        'objective.contrastive={"kind": "Contrastive", "repetition": 0.32, "queue": null}',
        *ALONE,
    ),
    "all of them, averaged": (
        'objective.pair_mlm={"kind": "PairMLM", "weight": 0.5}',
        'objective.product2query={"kind": "Product2Query", "weight": 5.0, "dropout": 0.0}',
        f"objective.product2brand={SMALL % 'Product2Brand'}",
        f"objective.product2color={SMALL % 'Product2Color'}",
        'objective.contrastive={"kind": "Contrastive", "repetition": 0.32, "queue": 40}',
        "objective.ema=EMA",
    ),
}
TASKS = ROWS | OF_A_MICRO_BATCH
# The others have the same state as one of these, or none.
RESUMED = [name for name in TASKS if name not in ("MLM of words", "Product2Color", "Contrastive without a queue")]


@pytest.fixture(scope="module")
def base():
    shape = TinyEncoder(layers=2, hidden=32, heads=2, pieces=500, matching_layers=1)
    settings = PretrainSettings(
        epochs=1, batch_size=24, micro_batch_size=6, learning_rate=5e-4, precision="fp32", clip=None
    )
    return PretrainingRecipe(model=EncoderSettings(tiny=shape, max_length=32), train=settings)


@pytest.fixture(params=TASKS)
def recipe(request, base):
    return base.with_settings(TASKS[request.param])


def losses_of(run):
    return [record["loss"] for record in run.records() if "loss" in record]


def largest_difference(one, other):
    assert max(float(gradient.abs().max()) for gradient in one.values()) > 1e-3
    return max(float((one[name] - other[name]).abs().max()) for name in one)


class TheSameStep:
    """Batches that are those of the first step each time; by themselves no two steps have the same examples."""

    steps_per_epoch = 30

    def __init__(self, batches):
        self.micro_batch = next(batches.micro_batches(0, 0, 1))

    def size(self, step):
        return 6

    def micro_batches(self, step, rank, processes):
        yield self.micro_batch


def test_it_learns_a_batch_by_heart(recipe, tiny_dataset, tmp_path):
    recipe = recipe.with_settings(["train.learning_rate=0.01"])
    objective, batches = begin(recipe, tiny_dataset)
    losses = losses_of(fit(recipe, objective, TheSameStep(batches), tmp_path))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])  # a sample differs at each step


@pytest.mark.parametrize("name", RESUMED)
def test_stopped_and_resumed_it_ends_with_the_same_bits(name, base, tiny_dataset, tmp_path):
    """The state holds the queue with its pointer, the momentum encoder and the average too."""
    stops = (1, 3, 5) if name == "all of them, averaged" else (3,)
    # A checkpoint after each epoch of two steps.
    recipe = base.with_settings([*TASKS[name], f"train.epochs={stops[-1] // 2 + 1}"])
    whole, batches = begin(recipe, tiny_dataset, steps=2)
    expected = losses_of(fit(recipe, whole, batches, tmp_path / "whole"))
    for stop in stops:
        with pytest.raises(InterruptedError):
            fit(recipe, begin(recipe, tiny_dataset)[0], Interrupted(batches, stop), tmp_path / "stopped")
    resumed = begin(recipe, tiny_dataset)[0]
    assert losses_of(fit(recipe, resumed, batches, tmp_path / "stopped")) == expected
    weights = whole.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in resumed.state_dict().items())


def test_bf16_is_finite_and_near_fp32(recipe, tiny_dataset, tmp_path):
    runs = []
    for precision in ("fp32", "bf16"):
        made = recipe.with_settings([f"train.precision={precision}"])
        objective, batches = begin(made, tiny_dataset)
        runs.append(losses_of(fit(made, objective, InOneEpoch(batches, 3), tmp_path / precision)))
    assert runs[0] != runs[1]
    assert runs[1] == pytest.approx(runs[0], rel=0.05)


@pytest.mark.parametrize("name", ROWS)
def test_accumulated_micro_batches_equal_one_batch(name, base, tiny_dataset):
    cut = base.with_settings(ROWS[name])
    objective, batches = begin(cut, tiny_dataset)
    parts = list(batches.micro_batches(0, 0, 1))
    assert len(parts) == 4
    accumulated = gradients(objective, iter(parts))
    objective, batches = begin(cut.with_settings(["train.micro_batch_size=24"]), tiny_dataset)
    assert largest_difference(accumulated, gradients(objective, batches.micro_batches(0, 0, 1))) < 2e-6


def test_every_parameter_gets_a_gradient_where_a_task_scores_nothing_too(recipe, tiny_dataset):
    """Or DistributedDataParallel waits for it for ever."""
    objective, batches = begin(recipe, tiny_dataset)
    for arrays in (next(batches.micro_batches(0, 0, 1)), {STEP_ITEMS: np.zeros(len(objective.weights), np.int64)}):
        found = gradients(objective, iter([arrays]))
        assert [name for name, gradient in found.items() if gradient is None] == []
    assert all(float(gradient.abs().max()) == 0 for gradient in found.values())


def test_the_parts_of_a_step_are_means_over_all_that_was_scored(recipe, tiny_dataset):
    objective, batches = begin(recipe, tiny_dataset)
    parts = list(batches.micro_batches(0, 0, 1))
    objective.eval()
    with torch.no_grad():
        totals = [objective(as_tensors(arrays)) for arrays in parts]
        outcomes = [objective.model(as_tensors(arrays)) for arrays in parts]
    expected = 0.0
    for name, weight in objective.weights.items():
        loss = torch.cat([outcome[name].loss_N for outcome in outcomes if name in outcome])
        assert len(loss) == sum(int(arrays.get(f"{name}.{ITEMS}", 0)) for arrays in parts)
        mean = float(loss.mean())
        assert float(sum(total.parts[f"{name}.loss"] for total in totals)) == pytest.approx(mean, rel=1e-5)
        expected += weight * mean
    assert float(sum(total.total for total in totals)) == pytest.approx(expected, rel=1e-5)


def test_the_recipe_goes_through_json_unchanged(recipe):
    assert PretrainingRecipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_the_gradient_on_two_processes_is_that_of_one_that_computes_the_same_micro_batches(
    forks, base, tiny_dataset, tmp_path
):
    recipes = {name: base.with_settings(settings) for name, settings in TASKS.items()}
    file = tmp_path / "recipes.json"
    file.write_text(json.dumps({name: recipe.to_json() for name, recipe in recipes.items()}))
    assert forks.in_two(pretraining_worker.__file__, tiny_dataset, file, tmp_path) == [0, 0]
    differences = {}
    for name, recipe in recipes.items():
        one, other = (load_file(tmp_path / name / f"process-{rank}.safetensors") for rank in (0, 1))
        assert [key for key, value in one.items() if not torch.equal(value, other[key])] == []  # queues are among them
        objective, batches = begin(recipe, tiny_dataset)
        parts = list(chain(*(batches.micro_batches(0, rank, 2) for rank in (0, 1))))
        whole = parts[0][STEP_ITEMS] + parts[-1][STEP_ITEMS]
        single = gradients(objective, iter([{**arrays, STEP_ITEMS: whole} for arrays in parts]))
        optimizer = make_optimizer(objective, recipe.train)
        optimizer.load_state_dict(RunFolder(tmp_path / name).checkpoints.latest()[1])
        trained = {key: weight for key, weight in objective.named_parameters() if weight.requires_grad}
        found = {key: optimizer.state[weight]["exp_avg"] / (1 - 0.9) for key, weight in trained.items()}
        differences[name] = largest_difference(found, single)
    assert {name: found for name, found in differences.items() if found > 2e-6} == {}


def test_micro_batches_are_as_many_on_every_process_and_read_every_product_once(base, tiny_dataset):
    batches = replace(begin(base, tiny_dataset, steps=3)[1], batch_size=23)
    for processes in (1, 2, 5, 7):
        for step in range(batches.steps_per_epoch):
            counts = {len(list(batches.micro_batches(step, rank, processes))) for rank in range(processes)}
            assert len(counts) == 1
    steps = batches.steps_per_epoch
    first, second = ([place for step in range(steps) for place in batches.places(step + start)] for start in (0, steps))
    assert sorted(first) == sorted(second) == list(range(len(batches.rows)))
    assert first != second
