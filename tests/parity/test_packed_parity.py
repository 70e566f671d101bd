"""Packed batches against padded ones: the same loss and the same gradients, whatever the encoder and the methods."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import BertConfig, DebertaV2Config, ModernBertConfig, PretrainedConfig, XLMRobertaConfig

from zhichun.core.errors import UserError
from zhichun.fit.train import train
from zhichun.model import attention as packed_attention
from zhichun.model.attention import Packed, tokens_of
from zhichun.model.encoder import Encoder, new_encoder
from zhichun.model.layers import recompute_activations
from zhichun.model.relevance_model import ModelSettings, RelevanceModel, VocabularySizes
from zhichun.objective import FineTuning, FineTuningSettings
from zhichun.objective.losses import Poly1
from zhichun.objective.methods import AWP, EMA, FGM, FGSM, PGD, SMART, FreeLB, Mixup, RDrop
from zhichun.score.scorer import Scorer
from zhichun.text.pairs import assemble, packed, padded
from zhichun.text.tokenizer import PairLayout

SIZE = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
SPECIAL = {"bos_token_id": 0, "cls_token_id": 0, "eos_token_id": 2, "sep_token_id": 2}
PAD = 1
SEPARATED_TWICE = PairLayout(prefix=(0,), middle=(2, 2), suffix=(2,), first_type=0, second_type=0)
SEPARATED = PairLayout(prefix=(0,), middle=(2,), suffix=(2,), first_type=0, second_type=0)
KINDS: dict[str, tuple[PretrainedConfig, PairLayout]] = {
    "xlm-roberta": (XLMRobertaConfig(max_position_embeddings=66, pad_token_id=PAD, **SIZE), SEPARATED_TWICE),
    "xlm-roberta with types": (
        XLMRobertaConfig(max_position_embeddings=66, type_vocab_size=2, pad_token_id=PAD, **SIZE),
        replace(SEPARATED, second_type=1),
    ),
    "bert": (
        BertConfig(max_position_embeddings=64, type_vocab_size=2, pad_token_id=PAD, **SIZE),
        replace(SEPARATED, second_type=1),
    ),
    # A global layer, then two that see 8 tokens to either side.
    "modernbert": (
        ModernBertConfig(max_position_embeddings=64, local_attention=16, pad_token_id=PAD, **SPECIAL, **SIZE),
        SEPARATED,
    ),
}
WAYS = {
    "the loss alone": FineTuningSettings(loss=Poly1()),
    "the paper's recipe": FineTuningSettings(loss=Poly1(), second_view=FGM(), rdrop=RDrop(), mixup=Mixup(), ema=EMA()),
    "the paper's recipe at the output": FineTuningSettings(
        loss=Poly1(), second_view=FGM(at="output"), rdrop=RDrop(), mixup=Mixup(), ema=EMA()
    ),
    "FGSM at the output": FineTuningSettings(second_view=FGSM(at="output", epsilon=0.05)),
    "PGD": FineTuningSettings(second_view=PGD()),
    "PGD at the output": FineTuningSettings(second_view=PGD(at="output")),
    "FreeLB": FineTuningSettings(second_view=FreeLB()),
    "SMART": FineTuningSettings(second_view=SMART(noise=0.1)),
    "AWP": FineTuningSettings(second_view=AWP(gamma=0.05)),
}
LENGTHS = (9, 14, 30, 9, 21, 9, 6, 30)
Batch = dict[str, Tensor]


def rows_of(layout: PairLayout, lengths: tuple[int, ...] = LENGTHS) -> list[tuple[np.ndarray, int]]:
    """Make pairs of a query and a product of two fields, of so many tokens."""
    random, made = np.random.default_rng(0), []
    for length in lengths:
        rest = length - layout.specials - 2
        title = random.integers(3, 60, rest // 2)
        brand = random.integers(3, 60, rest - rest // 2)
        product = np.concatenate([title, layout.middle, brand]).astype(np.int32)
        made.append(assemble(random.integers(3, 60, 2).astype(np.int32), product, layout, length))
    return made


def batch_of(arrays: dict[str, np.ndarray], pairs: int = len(LENGTHS)) -> Batch:
    """Add to its tokens what training needs."""
    rest = {
        "country": torch.arange(pairs) % 4,
        "brand": torch.arange(pairs) % 5,
        "target": torch.arange(pairs) % 4,
        "weight": torch.linspace(0.5, 2, pairs),
        "normaliser": torch.tensor(3.0),
    }
    for name in ("query_trigrams", "product_trigrams", "description_trigrams"):
        rest |= {name: torch.arange(2 * pairs) % 11, f"{name}_offsets": torch.arange(0, 2 * pairs + 1, 2)}
    return {name: torch.from_numpy(array) for name, array in arrays.items()} | rest


def both(layout: PairLayout, lengths: tuple[int, ...] = LENGTHS) -> tuple[Batch, Batch]:
    rows = rows_of(layout, lengths)
    return batch_of(padded(rows, layout, PAD), len(rows)), batch_of(packed(rows, layout), len(rows))


def encoder_of(kind: str) -> Encoder:
    torch.manual_seed(0)
    config = KINDS[kind][0]
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "mlp_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    encoder = new_encoder(config)
    encoder.use_attention("packed")
    return encoder


def objective_of(kind: str, way: FineTuningSettings, pooling: str = "first") -> FineTuning:
    model = ModelSettings(
        trigrams=4, country=4, brand=4, color=None, dropout=0.0, pooling=pooling, fields=("title", "brand")
    )
    sizes = VocabularySizes(trigrams=11, brands=5)
    return FineTuning(RelevanceModel(model, encoder_of(kind), sizes, 4, KINDS[kind][1]), way).train()


def draw_alike(monkeypatch, mask_BT: Tensor) -> None:
    """Let noise be the same for a token wherever it lies."""

    def alike(kind: str) -> Callable[[Tensor], Tensor]:
        drawn_BTD = getattr(torch, kind)(
            *mask_BT.shape, SIZE["hidden_size"], generator=torch.Generator().manual_seed(3)
        )
        return lambda like: drawn_BTD if like.shape == drawn_BTD.shape else drawn_BTD[mask_BT.bool()][None]

    monkeypatch.setattr(torch, "randn_like", alike("randn"))
    monkeypatch.setattr(torch, "rand_like", alike("rand"))


def step(objective: FineTuning, batch: Batch) -> dict[str, Tensor]:
    """Give the loss, its parts and its gradients."""
    torch.manual_seed(5)
    result = objective(batch)
    result.total.backward()
    gradients = {name: weight.grad for name, weight in objective.named_parameters() if weight.grad is not None}
    objective.zero_grad()
    return {"total": result.total, **result.parts, **gradients}


def differ(ones: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    assert ones.keys() == others.keys()
    return max(float((ones[name] - others[name]).detach().abs().max()) for name in ones)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pooling", ["first", "fields"])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_the_padded_batch(kind, pooling, way, monkeypatch):
    padded_batch, packed_batch = both(KINDS[kind][1])
    draw_alike(monkeypatch, padded_batch["attention_mask"])
    objective = objective_of(kind, WAYS[way], pooling)
    expected = step(objective, padded_batch)
    assert max(float(found.detach().abs().max()) for found in expected.values()) > 1e-2
    assert len(expected) > 20
    assert differ(step(objective, packed_batch), expected) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_activations_computed_again_change_no_bit(kind):
    plain, saving = (objective_of(kind, WAYS["the paper's recipe"]) for _ in range(2))
    recompute_activations(saving.model.encoder)
    batch = both(KINDS[kind][1])[1]
    assert differ(step(saving, batch), step(plain, batch)) == 0


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(8, 40), min_size=2, max_size=6), other=st.integers(0, 5))
def test_no_pair_sees_another(kind, lengths, other):
    encoder, layout = encoder_of(kind).eval(), KINDS[kind][1]
    other %= len(lengths)
    batch = both(layout, tuple(lengths))[1]
    tokens = tokens_of(batch)
    vectors_1ND = encoder.look_up(batch["input_ids"]).detach().requires_grad_()
    types = batch.get("token_type_ids")
    hidden_1ND = encoder(batch["input_ids"], tokens, types, vectors_1ND)
    owned_N = tokens.pair_N == other
    (gradient_1ND,) = torch.autograd.grad((hidden_1ND[0, owned_N] * torch.randn(16)).sum(), vectors_1ND)
    assert float(gradient_1ND[0, owned_N].abs().min(dim=1).values.max()) > 0
    assert float(gradient_1ND[0, ~owned_N].abs().sum()) == 0
    moved_1ND = encoder(batch["input_ids"], tokens, types, vectors_1ND + owned_N[None, :, None])
    assert torch.allclose(moved_1ND[0, ~owned_N], hidden_1ND[0, ~owned_N], atol=1e-6)


@pytest.mark.parametrize(("kind", "first"), [("xlm-roberta", 2), ("bert", 0)])
def test_positions_begin_anew_in_every_pair(kind, first):
    encoder, seen = encoder_of(kind), []
    table = encoder.model.embeddings.position_embeddings
    table.register_forward_pre_hook(lambda _, read: seen.append(read[0].flatten().tolist()))
    batch = both(KINDS[kind][1])[1]
    encoder(batch["input_ids"], tokens_of(batch), batch.get("token_type_ids"))
    assert seen == [[first + place for length in LENGTHS for place in range(length)]]


def test_an_encoder_that_cannot_is_refused_and_left_padded_by_auto():
    deberta = new_encoder(DebertaV2Config(max_position_embeddings=64, **SIZE))
    with pytest.raises(UserError, match=r"'deberta-v2' does not support packed batches.*\n.*train\.attention=padded"):
        deberta.use_attention("packed")
    deberta.use_attention("auto")
    assert not deberta.packs


@pytest.mark.parametrize("kind", KINDS)
def test_auto_packs_where_it_can(kind):
    encoder = new_encoder(KINDS[kind][0])
    for asked, packs in (("padded", False), ("auto", True), ("packed", True), ("padded", False)):
        encoder.use_attention(asked)
        assert encoder.packs == packs


def test_a_whole_training_says_and_leaves_the_same(tiny_recipe, tiny_dataset, tmp_path):
    methods = ["objective.second_view=FGM", "objective.rdrop=RDrop", "objective.mixup=Mixup", "objective.ema=EMA"]
    recipe = tiny_recipe.with_settings([*methods, "model.dropout=0.0", "train.micro_batch_tokens=400"])
    losses, scorers = [], []
    for attention in ("padded", "packed"):
        run = train(recipe.with_settings([f"train.attention={attention}"]), tiny_dataset, tmp_path / attention)
        losses.append([record["loss"] for record in run.records() if "loss" in record])
        scorers.append(Scorer.load(run.path, device="cpu"))
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    texts = ["red running shoes", "usb cable", "a much longer title of a product that nobody has ever asked for"]
    padded_scores, packed_scores = (scorer.score("red shoes", texts).score for scorer in scorers)
    assert packed_scores == pytest.approx(padded_scores, abs=1e-4)


def test_scores_are_those_of_padded_batches(tiny_run):
    texts = ["red running shoes", "", "usb cable", "靴 " * 40, "red running shoes"]
    scorer, scored = Scorer.load(tiny_run, device="cpu"), []
    for attention in ("padded", "packed"):
        scorer.engine.model.encoder.use_attention(attention)
        assert scorer.engine.packs == (attention == "packed")
        scored.append(scorer.score("red shoes", texts).probabilities)
    assert scored[1] == pytest.approx(scored[0], abs=1e-5)


def test_an_empty_pair_of_one_token_each_packs():
    """The shortest pair that there is: special tokens alone."""
    objective = objective_of("bert", WAYS["the paper's recipe"])
    rows = [assemble(np.zeros(0, np.int32), np.zeros(0, np.int32), SEPARATED, 8)] * 2
    expected = step(objective, batch_of(padded(rows, SEPARATED, PAD), 2))
    assert differ(step(objective, batch_of(packed(rows, SEPARATED), 2)), expected) < 1e-5


@pytest.mark.parametrize(
    ("dtype", "size", "window", "training", "expected"),
    [
        (torch.bfloat16, 32, 4, True, True),
        (torch.bfloat16, 12, None, False, False),
        (torch.float32, 32, None, False, True),
        (torch.float32, 32, None, True, False),
        (torch.float32, 32, 4, False, False),
        (torch.float64, 32, None, False, False),
    ],
)
def test_a_gpu_has_a_kernel_for_half_precision_and_for_float32_without_gradients(
    dtype, size, window, training, expected
):
    lie = Packed.of(torch.tensor([3, 2]))
    with torch.set_grad_enabled(training):
        how = packed_attention._How(lie, lie, dropout=0.1, window=window)
        assert packed_attention._has_kernel(torch.zeros(2, 5, size, dtype=dtype), how) == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_the_kernel_for_many_lengths_says_the_same(kind, monkeypatch):
    """In bf16, so within its rounding; and in fp32, where training goes by length."""
    device, batches = torch.device("cuda"), both(KINDS[kind][1])
    moved = [
        {name: array if name == "longest" else array.to(device) for name, array in batch.items()} for batch in batches
    ]
    objective = objective_of(kind, WAYS["the paper's recipe"]).to(device)
    assert differ(step(objective, moved[1]), step(objective, moved[0])) < 1e-4
    calls = []
    in_one_call = packed_attention._in_one_call
    monkeypatch.setattr(packed_attention, "_in_one_call", lambda *given: calls.append(1) or in_one_call(*given))
    with torch.autocast("cuda", torch.bfloat16):
        expected, found = objective(moved[0]), objective(moved[1])
    assert calls
    assert abs(float(found.parts["loss"] - expected.parts["loss"])) < 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@torch.no_grad()
def test_on_a_gpu_both_ways_attend_alike(dtype, window):
    query_HNE, *rest, lie = attended(dtype)
    for asking in (lie,) if window else (lie, lie.firsts):
        given, how = (query_HNE[:, : asking.total], *rest), packed_attention._How(asking, lie, window=window)
        if packed_attention._has_kernel(query_HNE, how):
            one, other = packed_attention._by_length(*given, how), packed_attention._in_one_call(*given, how)
            assert torch.allclose(one, other, atol=0.02 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_on_a_gpu_the_backward_pass_drops_the_same_weights(dtype):
    """Attention is linear in its values, ``⟨P v, g⟩ = ⟨v, Pᵀ g⟩``, and what is kept is scaled to a mean of 1."""
    query_HNE, key_HNE, value_HNE, lie = attended(dtype)
    how = packed_attention._How(lie, lie, dropout=0.3)
    one_call = packed_attention._has_kernel(query_HNE, how)
    attend = packed_attention._in_one_call if one_call else packed_attention._by_length
    context_NHE = attend(query_HNE, key_HNE, value_HNE.requires_grad_(), how)
    weight_NHE = torch.randn_like(context_NHE)
    (gradient_HNE,) = torch.autograd.grad(context_NHE, value_HNE, weight_NHE)
    forward, backward = context_NHE.detach() * weight_NHE, value_HNE.detach() * gradient_HNE
    assert float((forward.double().sum() - backward.double().sum()).abs()) < 0.01 * float(forward.abs().sum())
    kept_NHE = attend(query_HNE, key_HNE, torch.ones_like(value_HNE), how).float().detach()
    assert float(kept_NHE.std()) > 0.01
    assert float(kept_NHE.mean()) == pytest.approx(1, abs=0.2)


def attended(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Packed]:
    """Make what attention is given, and how it lies."""
    torch.manual_seed(0)
    lengths = torch.tensor([5, 9, 9, 2])
    bounds = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int().cuda()
    query_HNE, key_HNE, value_HNE = (torch.randn(2, 25, 32, device="cuda", dtype=dtype) for _ in range(3))
    return query_HNE, key_HNE, value_HNE, Packed(bounds, 9, 25)
