"""Whatever the engine: company, order, padding and batch size do not change a score by more than its float noise."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhichun.core import schema
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.score.engine import predict_with
from zhichun.score.scorer import Scorer

# Of logits of about 1. In bf16 a number has 8 bits; in int8 what is rounded is the same, so only bf16's noise is left.
TOLERANCES = {"onnx": 1e-5, "onnx-int8": 1e-5, "openvino": 1e-5, "openvino-bf16": 0.03, "openvino-int8": 0.03}


@pytest.fixture(scope="module")
def uneven(tiny_dataset, tiny_export):
    """Pairs of all lengths: the titles are cut after no word, one, two …"""
    scorer, dataset = Scorer.load(tiny_export, engine="onnx"), Dataset.open(tiny_dataset)
    pairs = open_pairs(dataset, scorer.featurizer, scorer.max_length)
    titles = [text or "" for batch in dataset.product_batches() for text in batch.column(schema.TITLE).to_pylist()]
    cut = [" ".join(title.split()[: row % 8]) for row, title in enumerate(titles)]
    return replace(pairs, products=scorer.featurizer.products({schema.TITLE: cut}))


@pytest.fixture(scope="module", params=TOLERANCES)
def engine(request, tiny_export):
    return Scorer.load(tiny_export, engine=request.param).engine


@pytest.fixture(scope="module")
def alone(engine, uneven):
    """Every pair by itself, without any padding."""
    made = [next(engine.run([uneven.collate(np.array([row]))])) for row in range(len(uneven))]
    logits_PC = np.concatenate(made)
    assert logits_PC.std(axis=0).max() > 0.01
    return logits_PC


@settings(max_examples=15, deadline=None)
@given(places=st.lists(st.integers(0, 999), min_size=1, max_size=40))
def test_company_order_and_padding_do_not_change_a_score(engine, uneven, alone, places):
    rows = np.array(places) % len(uneven)
    found = predict_with(engine, uneven, rows)
    assert np.abs(found - alone[rows]).max() < TOLERANCES[engine.name]


def test_the_batch_size_does_not_change_a_score(engine, uneven, alone):
    rows = np.arange(60)
    if engine.pairs_per_batch == 1:
        pytest.skip("every pair is a batch of its own")
    for size in (2, 60):
        made = engine.run(uneven.collate(rows[start : start + size]) for start in range(0, 60, size))
        assert np.abs(np.concatenate(list(made)) - alone[rows]).max() < TOLERANCES[engine.name], size
