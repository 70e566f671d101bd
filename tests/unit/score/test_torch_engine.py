"""Torch as an engine: how it chooses batches and precision for its device, and that a GPU says the same."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from zhichun.core.tasks import softmax
from zhichun.score import torch_engine
from zhichun.score.engine import predict_with
from zhichun.score.scorer import Scorer, tokens_read
from zhichun.score.torch_engine import MOST_TOKENS_PER_BATCH, TOKENS_PER_BATCH, on_each_core, tokens_at_once
from zhichun.text.pairs import PairTexts

GPU, CPU = torch.device("cuda"), torch.device("cpu")
GIB = 2**30
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture
def memory(monkeypatch):
    """Let a GPU have so much free memory, of which some is kept by torch and not in use."""

    def of(free, reserved=0, allocated=0):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 80 * GIB))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: reserved)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: allocated)

    return of


def test_a_processor_takes_small_batches():
    assert tokens_at_once(CPU, 1024) == TOKENS_PER_BATCH


def test_each_core_computes_one_by_itself_and_others_keep_theirs():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = list(on_each_core(lambda number: (number, torch.get_num_threads()), range(20)))
        assert found == [(number, 1) for number in range(20)]
        with pytest.raises(ZeroDivisionError):
            list(on_each_core(lambda number: 1 // number, [1, 0]))
        next(on_each_core(abs, range(20)))
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)


def test_a_gpu_takes_what_fits_into_a_quarter_of_its_free_memory(memory):
    memory(8 * GIB)
    assert tokens_at_once(GPU, 1024) == 2 * GIB // (100 * 1024)
    memory(6 * GIB, reserved=3 * GIB, allocated=1 * GIB)
    assert tokens_at_once(GPU, 1024) == 2 * GIB // (100 * 1024)


def test_batches_on_a_gpu_have_bounds(memory):
    memory(80 * GIB)
    assert tokens_at_once(GPU, 384) == MOST_TOKENS_PER_BATCH
    memory(1000)
    assert tokens_at_once(GPU, 384) == TOKENS_PER_BATCH


@pytest.mark.parametrize(
    ("device", "has_units", "engine"),
    [("cpu", True, "torch"), ("cuda", True, "torch-bf16"), ("cuda", False, "torch"), ("cuda:1", True, "torch-bf16")],
)
def test_auto_is_bf16_on_a_gpu_with_units_for_it(device, has_units, engine, monkeypatch):
    monkeypatch.setattr(torch_engine, "has_bf16", lambda _: has_units)
    assert torch_engine.chosen_by_auto(device) == engine


def test_on_a_processor_nothing_is_read_ahead(tiny_run):
    assert Scorer.load(tiny_run, device="cpu").lookahead == 0


def scored(scorer, texts):
    return scorer.predict(scorer.read(PairTexts(*texts)))


def test_progress_counts_the_pairs_that_are_chosen(tiny_run):
    scorer = Scorer.load(tiny_run, device="cpu")
    titles = {"product_title": ["red shoes", "blue hat", ""]}
    pairs = scorer.read(PairTexts(["red shoes"] * 3, titles, ["us", "es", "jp"]))
    progress = []
    chosen = scorer.predict(pairs, np.array([2, 0]), progress=progress.append)
    assert sum(progress) == 2
    assert np.abs(chosen.probabilities - scorer.predict(pairs).probabilities[[2, 0]]).max() < 1e-6
    assert tokens_read(pairs).tolist() == pairs.lengths.tolist()


def test_an_encoder_wholly_in_bf16_says_nearly_the_same(tiny_run):
    """As on a GPU; the head's input is float32, and so is what is beside the encoder."""
    titles = {"product_title": ["red shoes", "blue hat", ""]}
    scorer = Scorer.load(tiny_run, device="cpu")
    pairs = scorer.read(PairTexts(["red shoes"] * 3, titles, ["us", "es", "jp"]))
    expected, model = scorer.predict(pairs).probabilities, scorer.engine.model
    torch_engine.to_bf16(model.encoder, whole=True)
    assert {weight.dtype for weight in model.encoder.parameters()} == {torch.bfloat16}
    engine = torch_engine.TorchEngine.of(model, in_bf16=True)
    found = softmax(predict_with(engine, pairs, np.arange(3)))
    assert 0 < np.abs(found - expected).max() < 0.05


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(("engine", "within"), [("torch", 1e-4), ("torch-bf16", 0.05)])
def test_a_gpu_says_what_the_processor_says(tiny_run, engine, within, monkeypatch):
    """In many batches, so that answers land while later ones are computed."""
    titles = [f"red shoes {'leather ' * (number % 9)}{number}" for number in range(200)]
    given = ["red shoes"] * len(titles), {"product_title": titles}, ["us"] * len(titles)
    expected = scored(Scorer.load(tiny_run, device="cpu"), given)
    monkeypatch.setattr(torch_engine, "tokens_at_once", lambda *_: 256)
    scorer = Scorer.load(tiny_run, device="cuda", engine=engine)
    assert scorer.engine_name == engine
    assert scorer.lookahead == 1
    found = scored(scorer, given)
    assert np.abs(found.probabilities - expected.probabilities).max() < within
    assert found.probabilities.dtype == np.float32


@pytest.mark.gpu
@needs_gpu
def test_auto_on_a_gpu_is_bf16_and_batches_are_large(tiny_run):
    scorer = Scorer.load(tiny_run, device="cuda")
    assert scorer.engine_name == torch_engine.chosen_by_auto("cuda")
    assert scorer.engine.tokens_per_batch > TOKENS_PER_BATCH
