"""The network: each part by hand, each part off, and its tiny encoder's start."""

from dataclasses import replace

import pytest
import torch

from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.fit.train import build_model, make_featurizer
from zhichun.model.encoder import new_encoder
from zhichun.model.encoder_settings import TinyEncoder, start_matching, tiny_config
from zhichun.model.parts import Head, IdEmbeddings, NgramUnit
from zhichun.score.torch_engine import to_tensors

SIZES = {"trigrams": 3 * 8, "country": 4, "brand": 8, "color": 8}  # as in `tiny_recipe`; three bags of trigrams
INPUTS = {"trigrams": "query_trigrams", "country": "country", "brand": "brand", "color": "color"}


def model_and_batch(recipe, folder, pairs=6):
    dataset = Dataset.open(folder)
    featurizer = make_featurizer(recipe.model, dataset)
    torch.manual_seed(0)
    model = build_model(recipe.model, featurizer, TASKS[recipe.task]).eval()
    rows = torch.arange(pairs).numpy()
    return model, to_tensors(
        open_pairs(dataset, featurizer, recipe.model.max_length).collate(rows), torch.device("cpu")
    )


@pytest.mark.parametrize("task", ["esci", "substitute"])
def test_the_logits_have_a_column_for_each_class(tiny_recipe, tiny_dataset, task):
    model, batch = model_and_batch(replace(tiny_recipe, task=task), tiny_dataset)
    logits_BC = model(batch)
    assert logits_BC.shape == (6, len(TASKS[task].classes))
    assert model.head[1].in_features == 32 + sum(SIZES.values())


@pytest.mark.parametrize("part", SIZES)
def test_a_part_that_is_off_takes_no_room_and_reads_nothing(tiny_recipe, tiny_dataset, part):
    recipe = tiny_recipe.with_settings([f"model.{part}=null"])
    model, batch = model_and_batch(recipe, tiny_dataset)
    assert model.head[1].in_features == 32 + sum(SIZES.values()) - SIZES[part]
    needless = {name for name in batch if name.startswith(INPUTS[part])}
    assert needless == ({"country"} if part == "country" else set())
    kept = {name: array for name, array in batch.items() if name not in needless}
    assert torch.isfinite(model(kept)).all()


@pytest.mark.parametrize("part", SIZES)
def test_a_part_that_is_on_is_heard(tiny_recipe, tiny_dataset, part):
    model, batch = model_and_batch(tiny_recipe, tiny_dataset)
    before = model(batch)
    name = INPUTS[part]
    batch[name] = torch.where(batch[name] == 1, 2, 1)
    assert ((model(batch) - before).abs().amax(dim=1) > 1e-6).all()


def test_logits_are_float32_in_half_precision_too(tiny_recipe, tiny_dataset):
    model, batch = model_and_batch(tiny_recipe, tiny_dataset)
    expected = model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(batch)
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    assert torch.allclose(found, expected, atol=0.05)


def test_trigrams_are_pooled_by_their_mean_bag_by_bag():
    unit = NgramUnit(trigrams=4, size=2)
    unit.start_from(torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0], [5.0, 0.0]]))
    batch = {
        "query_trigrams": torch.tensor([1, 2, 3]),
        "query_trigrams_offsets": torch.tensor([0, 2, 3]),
        "product_trigrams": torch.tensor([3, 3, 1]),
        "product_trigrams_offsets": torch.tensor([0, 0, 3]),  # the first product has none
        "description_trigrams": torch.tensor([0, 2]),
        "description_trigrams_offsets": torch.tensor([0, 2, 2]),  # padding does not count towards the mean
    }
    expected = [[2.0, 3.0, 0.0, 0.0, 3.0, 4.0], [5.0, 0.0, 11 / 3, 2 / 3, 0.0, 0.0]]
    assert unit(batch).tolist() == [pytest.approx(row) for row in expected]


def test_id_embeddings_stand_side_by_side():
    ids = IdEmbeddings({"country": (4, 1), "brand": (3, 2)})
    rows = ids({"country": torch.tensor([3, 0]), "brand": torch.tensor([0, 2])})
    assert ids.size == 3
    assert torch.equal(rows[0], torch.cat([ids.tables["country"].weight[3], ids.tables["brand"].weight[0]]))
    assert torch.equal(rows[1], torch.cat([ids.tables["country"].weight[0], ids.tables["brand"].weight[2]]))


def test_the_head_is_a_tanh_between_two_linear_layers():
    head = Head(features=2, hidden=2, outputs=1, dropout=0.9).eval()
    with torch.no_grad():
        head[1].weight.copy_(torch.eye(2))
        head[1].bias.copy_(torch.tensor([0.0, 1.0]))
        head[4].weight.fill_(1.0)
        head[4].bias.fill_(0.5)
    expected = torch.tensor(0.3).tanh() + torch.tensor(0.8).tanh() + 0.5
    assert head(torch.tensor([[0.3, -0.2]])).item() == pytest.approx(expected.item())


def test_under_autocast_the_head_is_still_computed_in_float32():
    """In bf16 all these pairs, which differ in the fourth digit, would have one of a few logits."""
    torch.manual_seed(0)
    head = Head(8, 16, 4, dropout=0.1, samples=2)
    features_BF = torch.randn(8) + 1e-4 * torch.randn(500, 8)
    for training in (True, False):
        head.train(training)
        found = []
        for enabled in (True, False):
            torch.manual_seed(1)
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                found.append(head(features_BF))
        assert torch.equal(*found)
    assert len(found[0][:, 0].unique()) > 450
    assert len(found[0][:, 0].bfloat16().unique()) < 20


def test_the_tiny_encoder_reads_exactly_max_length_tokens(tiny_recipe, tiny_dataset):
    model, _ = model_and_batch(tiny_recipe, tiny_dataset)
    assert model.encoder.room == tiny_recipe.model.max_length
    ids = torch.full((1, 32), 7)
    assert model.encoder(ids, torch.ones_like(ids), torch.zeros_like(ids)).shape == (1, 32, 32)


def test_a_tokenizer_too_small_for_the_catalogue_s_characters_is_refused(tiny_recipe, tiny_dataset):
    recipe = tiny_recipe.with_settings(["model.tiny.pieces=50"])
    with pytest.raises(UserError, match=r"no tokenizer of 50 pieces (.|\n)*Raise model\.tiny\.pieces"):
        model_and_batch(recipe, tiny_dataset)
    assert not (tiny_dataset / "tokenizers" / "unigram-50").exists()


def test_heads_must_divide_the_hidden_size(tiny_recipe, tiny_dataset):
    recipe = tiny_recipe.with_settings(["model.tiny.heads=5"])
    with pytest.raises(UserError, match=r"hidden=32 cannot be divided by model\.tiny\.heads=5"):
        model_and_batch(recipe, tiny_dataset)


def test_the_matching_start_looks_for_the_same_token_on_the_other_side(tiny_recipe, tiny_dataset):
    tokenizer = make_featurizer(tiny_recipe.model, Dataset.open(tiny_dataset)).tokenizer
    torch.manual_seed(0)
    encoder = new_encoder(tiny_config(TinyEncoder(layers=1, hidden=128, heads=1), tokenizer, 32)).eval()
    start_matching(encoder, 1)
    query, product = torch.arange(10, 18), torch.arange(17, 7, -1)  # the same tokens backwards, and two more
    ids = torch.cat([query, product])[None]
    types = torch.cat([torch.zeros(8, dtype=torch.int64), torch.ones(10, dtype=torch.int64)])[None]
    states_TD = encoder.model.embeddings(input_ids=ids, token_type_ids=types)[0]
    attention = encoder.model.encoder.layer[0].attention.self
    scores_TT = attention.query(states_TD) @ attention.key(states_TD).T
    assert ids[0, scores_TT[:8].argmax(dim=1)].tolist() == query.tolist()
    assert (scores_TT[:8].argmax(dim=1) >= 8).all()
