"""FGM and R-Drop against the code that most write: backward, attack in place, forward, backward, restore."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.fit.train import build_model, judged_batches, make_featurizer
from zhichun.objective import FineTuning

EPSILON, ALPHA = 1.0, 0.5
SETTINGS = ("model.dropout=0.0", "objective.second_view=FGM", "objective.rdrop=RDrop", "train.micro_batch_tokens=300")


@pytest.fixture
def objective_and_batches(tiny_recipe, tiny_dataset) -> tuple[FineTuning, list[dict[str, Tensor]]]:
    recipe = tiny_recipe.with_settings(SETTINGS)
    dataset = Dataset.open(tiny_dataset)
    featurizer = make_featurizer(recipe.model, dataset)
    rows = dataset.split(recipe.train.validation_fold)[0][:32]
    batches = judged_batches(recipe, dataset, open_pairs(dataset, featurizer, recipe.model.max_length), rows)
    torch.manual_seed(0)
    objective = FineTuning(build_model(recipe.model, featurizer, TASKS[recipe.task]), recipe.objective)
    return objective, [
        {name: torch.from_numpy(array) for name, array in arrays.items()} for arrays in batches.micro_batches(0, 0, 1)
    ]


def mean(batch: dict[str, Tensor], loss_B: Tensor) -> Tensor:
    return (batch["weight"] * loss_B).sum() / batch["normaliser"]


def classic(model: torch.nn.Module, batch: dict[str, Tensor]) -> None:
    """Leave the gradients of one batch in the weights, as the usual code does."""
    table = model.encoder.model.embeddings.word_embeddings.weight
    clean = model(batch)
    mean(batch, functional.cross_entropy(clean, batch["target"], reduction="none")).backward(retain_graph=True)
    backup = table.data.clone()
    table.data.add_(EPSILON * table.grad / table.grad.norm())
    attacked = model(batch)
    one, other = clean.log_softmax(dim=1), attacked.log_softmax(dim=1)
    both = [
        functional.kl_div(p, q, reduction="none", log_target=True).sum(dim=1) for p, q in ((one, other), (other, one))
    ]
    adversarial = functional.cross_entropy(attacked, batch["target"], reduction="none")
    mean(batch, adversarial + ALPHA * (both[0] + both[1])).backward()
    table.data.copy_(backup)


def gradients(model: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, weight in model.named_parameters():
        yield name, weight.grad.clone()
        weight.grad = None


def test_the_gradient_is_that_of_the_classic_code(objective_and_batches):
    objective, batches = objective_and_batches
    model = objective.model
    assert len(batches) > 2
    for batch in batches:
        before = {name: weight.clone() for name, weight in model.named_parameters()}
        objective(batch).total.backward()
        assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
        ours = dict(gradients(model))
        classic(model, batch)
        theirs = dict(gradients(model))
        assert max(float(gradient.abs().max()) for gradient in theirs.values()) > 1e-2
        differences = {name: float((ours[name] - theirs[name]).abs().max()) for name in theirs}
        assert max(differences.values()) < 1e-5, max(differences, key=differences.get)


def test_accumulated_the_classic_code_attacks_in_another_direction(objective_and_batches):
    """Its second micro-batch is attacked along the gradients of both; ours along its own."""
    objective, batches = objective_and_batches
    model = objective.model
    for batch in batches[:2]:
        objective(batch).total.backward()
    ours = dict(gradients(model))
    for batch in batches[:2]:
        classic(model, batch)
    accumulated = dict(gradients(model))
    fresh: dict[str, Tensor] = {}
    for batch in batches[:2]:
        classic(model, batch)
        fresh = {name: gradient + fresh.get(name, 0.0) for name, gradient in gradients(model)}
    assert max(float((ours[name] - fresh[name]).abs().max()) for name in fresh) < 1e-5
    assert max(float((ours[name] - accumulated[name]).abs().max()) for name in fresh) > 1e-3
