"""Field-token pooling and multi-sample dropout: what the head reads and says, by hand."""

import numpy as np
import pytest
import torch

from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.fit.train import build_model, make_featurizer
from zhichun.model.attention import tokens_of
from zhichun.model.parts import FieldPooling, Head
from zhichun.score.torch_engine import to_tensors
from zhichun.text.pairs import assemble, packed, padded
from zhichun.text.tokenizer import PairLayout

PAD = 1
XLMR = PairLayout(prefix=(0,), middle=(2, 2), suffix=(2,), first_type=0, second_type=0)
BERT = PairLayout(prefix=(101,), middle=(102,), suffix=(102,), first_type=0, second_type=1)
ONE_FOR_ALL = PairLayout(prefix=(5,), middle=(5,), suffix=(5,), first_type=0, second_type=0)


def product(layout, *fields):
    parts = [np.asarray(fields[0], np.int32)]
    for field in fields[1:]:
        parts += [np.asarray(layout.middle, np.int32), np.asarray(field, np.int32)]
    return np.concatenate(parts)


def pooled(layout, query, fields, *, max_length=64, longer=0):
    """Pool token vectors that are the tokens' ids, padded and packed; another pair stands before, longer by some."""
    rows = [
        assemble(np.asarray(text, np.int32), product(layout, *parts), layout, max_length)
        for text, parts in (([9] * longer, fields), (query, fields))
    ]
    pooling, found = FieldPooling(layout, len(fields), 1), []
    for arrays in (padded(rows, layout, PAD), packed(rows, layout)):
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        ids_BT = batch["input_ids"]
        found.append(pooling(ids_BT.float()[..., None], ids_BT, tokens_of(batch))[1].tolist())
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("layout", [XLMR, BERT, ONE_FOR_ALL])
def test_each_part_is_the_mean_of_its_own_tokens(layout):
    fields = [[10, 20], [30], [40, 50, 60]]
    assert pooled(layout, [7, 8], fields) == [7.5, 15.0, 30.0, 50.0]
    assert pooled(layout, [7, 8], fields, longer=9) == [7.5, 15.0, 30.0, 50.0]  # padding is nobody's


@pytest.mark.parametrize("layout", [XLMR, BERT, ONE_FOR_ALL])
def test_an_empty_field_is_zeros_and_the_next_is_still_itself(layout):
    assert pooled(layout, [7], [[10], [], [], [40]]) == [7.0, 10.0, 0.0, 0.0, 40.0]
    assert pooled(layout, [7], [[], [20], []]) == [7.0, 0.0, 20.0, 0.0]


@pytest.mark.parametrize("layout", [XLMR, BERT])
def test_of_a_field_that_was_cut_the_rest_counts(layout):
    whole = layout.specials + 1 + 2 + len(layout.middle) + 3  # query, two tokens, separator, three tokens
    fields = [[10, 20], [30, 40, 50]]
    assert pooled(layout, [7], fields, max_length=whole) == [7.0, 15.0, 40.0]
    assert pooled(layout, [7], fields, max_length=whole - 1) == [7.0, 15.0, 35.0]
    assert pooled(layout, [7], fields, max_length=whole - 3) == [7.0, 15.0, 0.0]
    assert pooled(layout, [7], fields, max_length=whole - 4) == [7.0, 15.0, 0.0]  # half of a separator of two


def test_a_tokenizer_without_separators_is_refused():
    with pytest.raises(UserError, match=r"no separator .*\n.*model\.pooling=first"):
        FieldPooling(PairLayout((0,), (), (2,), 0, 0), 2, 8)


def test_the_head_reads_the_parts_behind_the_first_vector(tiny_recipe, tiny_dataset):
    recipe = tiny_recipe.with_settings(
        ['model.fields=["title","color"]', "model.pooling=fields", "model.max_length=64"]
    )
    dataset = Dataset.open(tiny_dataset)
    featurizer = make_featurizer(recipe.model, dataset)
    model = build_model(recipe.model, featurizer, TASKS["esci"]).eval()
    pairs = open_pairs(dataset, featurizer, 64)
    batch = to_tensors(pairs.collate(np.arange(4)), torch.device("cpu"))
    features_BF = model.features(batch)
    hidden_BTD = model.encoder(batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids"))
    size = model.encoder.hidden
    for row in range(4):
        query, title_and_color = (
            pairs.queries.tokens[pairs.query_row_P[row]],
            pairs.products.tokens[pairs.product_row_P[row]],
        )
        before = len(featurizer.tokenizer.layout.prefix)
        assert torch.equal(features_BF[row, :size], hidden_BTD[row, 0])
        mean_D = hidden_BTD[row, before : before + len(query)].mean(dim=0)
        assert torch.allclose(features_BF[row, size : 2 * size], mean_D, atol=1e-6)
        title = int(np.argmax(title_and_color == featurizer.tokenizer.layout.middle[0]))
        start = before + len(query) + len(featurizer.tokenizer.layout.middle)
        mean_D = hidden_BTD[row, start : start + title].mean(dim=0)
        assert torch.allclose(features_BF[row, 2 * size : 3 * size], mean_D, atol=1e-6)


def test_in_training_the_head_says_as_much_as_it_draws_masks_and_once_otherwise():
    torch.manual_seed(0)
    head = Head(6, 5, 4, 0.5, samples=3)
    features_BF = torch.randn(2, 6)
    logits_KBC = head.train()(features_BF)
    assert logits_KBC.shape == (3, 2, 4)
    assert not torch.equal(logits_KBC[0], logits_KBC[1])
    plain = Head(6, 5, 4, 0.5)
    plain.load_state_dict(head.state_dict())
    assert torch.equal(head.eval()(features_BF), plain.eval()(features_BF))


def test_a_single_sample_is_refused(tiny_recipe):
    with pytest.raises(UserError, match=r"dropout_samples=1 .*\n.*model\.dropout_samples=null"):
        tiny_recipe.with_settings(["model.dropout_samples=1"])
