"""Contrastive learning: InfoNCE by hand, the two readings, the queue and the momentum encoder."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.model.encoder import new_encoder
from zhichun.model.encoder_settings import TinyEncoder, tiny_config
from zhichun.objective.pretext import Contrastive
from zhichun.objective.pretext.contrastive import EMPTY, ContrastiveHead, KeyQueue, pooled
from zhichun.objective.pretext.task import Draw, Sizes
from zhichun.text.pairs import ProductTexts

DRAW = Draw(seed=0, epoch=0)
SIZES = Sizes(brands=10, colors=10)


class Looked(nn.Module):
    """An encoder that looks each token's vector up, so that a text of one token is what the table says."""

    hidden = 2

    def __init__(self, vectors):
        super().__init__()
        self.table = nn.Embedding.from_pretrained(torch.tensor(vectors), freeze=False)

    def read(self, batch):
        return self.table(batch["input_ids"])


def batch_of(first, second, rows):
    ids = torch.tensor([*first, *second])[:, None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "row": torch.tensor(rows)}


@pytest.fixture
def axes():
    """Tokens 0 and 1 are the axes; token 2 lies between them."""
    return Looked([[2.0, 0.0], [0.0, 5.0], [1.0, 1.0]])


def test_infonce_in_the_batch_by_hand(axes):
    """Cosines of the axes with themselves 1, with each other 0; the temperature makes that ln 3."""
    head = ContrastiveHead(axes, Contrastive(temperature=1 / math.log(3), queue=None))
    outcome = head(axes, batch_of([0, 1], [0, 1], [7, 8]))
    assert outcome.loss_N.tolist() == pytest.approx([math.log(4 / 3)] * 2)  # -log(3 / (3 + 1))
    assert outcome.right_N.tolist() == [True, True]
    outcome = head(axes, batch_of([0, 1], [1, 0], [7, 8]))
    assert outcome.loss_N.tolist() == pytest.approx([math.log(4)] * 2)  # -log(1 / (1 + 3))
    assert outcome.right_N.tolist() == [False, False]


def test_infonce_with_the_queue_by_hand(axes):
    head = ContrastiveHead(axes, Contrastive(temperature=1 / math.log(3), queue=5))
    batch = batch_of([0], [0], [7])
    assert head(axes, batch).loss_N.item() == pytest.approx(0)  # empty places are no negatives
    head.queue.push(torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]), torch.tensor([8, 9, 7]))
    # Key 8 has cosine 0 and key 9 has 1; key 7 is the text's own.
    assert head(axes, batch).loss_N.item() == pytest.approx(math.log(3 + 1 + 3) - math.log(3))


def test_pooling_is_the_mean_over_tokens_that_are_there(axes):
    batch = {"input_ids": torch.tensor([[0, 1, 1], [1, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 0], [1, 0, 0]])}
    mean = torch.tensor([1.0, 2.5])
    assert torch.allclose(pooled(axes, batch), torch.stack([mean / mean.norm(), torch.tensor([0.0, 1.0])]))


def test_the_queue_holds_the_latest_keys_in_a_ring():
    queue = KeyQueue(places=5, size=1)
    for first in (1, 3, 5):  # keys 1, 2; 3, 4; 5, 6
        keys = torch.tensor([float(first), first + 1])
        queue.push(keys[:, None], keys.long())
    assert queue.rows_Q.tolist() == [6, 2, 3, 4, 5]
    assert queue.keys_QD[:, 0].tolist() == [6, 2, 3, 4, 5]
    queue.push(torch.arange(10.0, 18.0)[:, None], torch.arange(10, 18))
    assert sorted(queue.rows_Q.tolist()) == [13, 14, 15, 16, 17]
    assert queue.pointer.item() == 14 % 5
    queue.push(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64))
    queue.push(torch.tensor([[99.0]]), torch.tensor([99]))
    assert sorted(queue.rows_Q.tolist()) == [14, 15, 16, 17, 99]  # the oldest went


def test_keys_wait_for_the_step_s_end_and_then_enter_in_order(axes):
    head = ContrastiveHead(axes, Contrastive(queue=6)).train()
    for rows in ([7, 8], [9, 5]):
        head(axes, batch_of([0, 1], [0, 2], rows))
        assert head.queue.rows_Q.tolist() == [EMPTY] * 6  # no text of the step sees the key of another micro-batch
    head.after_step(axes)
    assert head.queue.rows_Q.tolist() == [7, 8, 9, 5, EMPTY, EMPTY]
    assert torch.allclose(head.queue.keys_QD[:4], torch.eye(2).repeat(2, 1))
    head.after_step(axes)
    assert head.queue.rows_Q.tolist() == [7, 8, 9, 5, EMPTY, EMPTY]  # once only


def test_in_validation_nothing_is_queued(axes):
    head = ContrastiveHead(axes, Contrastive(queue=4)).eval()
    head(axes, batch_of([0, 1], [0, 1], [7, 8]))
    head.after_step(axes)
    assert head.queue.rows_Q.tolist() == [EMPTY] * 4


def test_the_momentum_encoder_follows_slowly_and_without_gradient(axes):
    head = ContrastiveHead(axes, Contrastive(momentum=0.75))
    with torch.no_grad():
        axes.table.weight += 1.0
    before = head.momentum.table.weight.clone()
    head.after_step(axes)
    assert torch.allclose(head.momentum.table.weight, before + 0.25)
    head.train()(axes, batch_of([0, 1], [0, 1], [7, 8])).loss_N.sum().backward()
    assert head.momentum.table.weight.grad is None
    assert [name for name, parameter in head.named_parameters() if parameter.requires_grad] == []


def test_queue_encoder_and_pointer_survive_a_resume(axes):
    head = ContrastiveHead(axes, Contrastive(queue=3, momentum=0.5)).train()
    for step in range(4):
        head(axes, batch_of([0, 1], [0, 1], [2 * step, 2 * step + 1]))
        with torch.no_grad():
            axes.table.weight *= 1.5
        head.after_step(axes)
    resumed = ContrastiveHead(axes, Contrastive(queue=3, momentum=0.5))
    resumed.load_state_dict(head.state_dict())
    batch = batch_of([0, 1], [2, 1], [20, 21])
    for one in (head, resumed):
        one.train()(axes, batch)
        one.after_step(axes)
    state = resumed.state_dict()
    assert state.keys() == {"momentum.table.weight", "queue.keys_QD", "queue.rows_Q", "queue.pointer"}
    assert all(torch.equal(tensor, state[name]) for name, tensor in head.state_dict().items())


@pytest.fixture
def make_encoder(reader):
    def make(dropout):
        torch.manual_seed(0)
        shape = TinyEncoder(layers=1, hidden=32, heads=2, dropout=dropout)
        return new_encoder(tiny_config(shape, reader.tokenizer, reader.max_length))

    return make


def test_an_encoder_without_dropout_needs_repetition(make_encoder):
    with pytest.raises(UserError, match=r"objective\.contrastive\.repetition=0\.32"):
        Contrastive().head(make_encoder(0.0), SIZES)
    assert Contrastive(repetition=0.32).head(make_encoder(0.0), SIZES)
    assert Contrastive().head(make_encoder(0.1), SIZES)


def test_dropout_makes_two_readings_and_the_momentum_encoder_has_none(make_encoder, catalogue, reader):
    encoder = make_encoder(0.5).train()
    task = Contrastive(queue=8)
    arrays = task.examples(catalogue.take(catalogue.rows[:4]), catalogue, reader, DRAW)
    batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    first, second = pooled(encoder, batch).chunk(2)
    assert (first - second).abs().max() > 0.01
    head = task.head(encoder, SIZES).train()
    for _ in range(2):
        head(encoder, batch)
    head.after_step(encoder)
    assert torch.equal(head.queue.keys_QD[:4], head.queue.keys_QD[4:])


def test_half_precision_keeps_the_cosine_in_float32(make_encoder, catalogue, reader):
    encoder = make_encoder(0.1)
    task = Contrastive(queue=4)
    arrays = task.examples(catalogue.take(catalogue.rows[:4]), catalogue, reader, DRAW)
    batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    head = task.head(encoder, SIZES).train()
    for _ in range(2):  # the second time with a queue
        with torch.autocast("cpu", torch.bfloat16):
            outcome = head(encoder, batch)
        head.after_step(encoder)
    assert outcome.loss_N.dtype == head.queue.keys_QD.dtype == torch.float32
    assert head.queue.keys_QD.norm(dim=1).tolist() == pytest.approx([1.0] * 4, rel=1e-5)


def test_the_second_reading_repeats_words(catalogue, reader):
    texts = catalogue.take(np.concatenate([catalogue.of_locale(locale)[:5] for locale in ("us", "es", "jp")]))
    plain = Contrastive().examples(texts, catalogue, reader, DRAW)
    arrays = Contrastive(repetition=0.32).examples(texts, catalogue, reader, DRAW)
    assert int(arrays["items"]) == len(arrays["input_ids"]) // 2 == 15
    assert arrays["row"].tolist() == texts.rows.tolist()
    first, second = np.split(arrays["input_ids"], 2)
    assert (plain["input_ids"][15:] == plain["input_ids"][:15]).all()
    assert (first == plain["input_ids"][:15]).all()
    assert (first != second).any(axis=1).all()
    for one, other in zip(first, second, strict=True):
        assert len(set(other.tolist()) - set(one.tolist())) == 0


def test_products_without_any_text_are_left_out(reader):
    columns = {name: ["", ""] for name in schema.TEXT_COLUMNS} | {schema.BULLETS: ["", "warm"]}
    nothing = np.zeros(2, np.int64)
    texts = ProductTexts(np.asarray([4, 6]), ["us", "us"], columns, nothing, nothing)
    arrays = Contrastive().examples(texts, None, reader, DRAW)
    assert (arrays["row"].tolist(), int(arrays["items"]), len(arrays["input_ids"])) == ([6], 1, 2)


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.0}, {"repetition": 0.0}, {"queue": 0}, {"momentum": 1.0}, {"weight": 0.0}]
)
def test_settings_that_make_nothing_are_refused(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        Contrastive(**settings)
