"""The last layer computed for [CLS] alone says, and learns, what the whole layer does."""

import copy

import pytest
import torch
from transformers import BertConfig, DebertaV2Config, ModernBertConfig, XLMRobertaConfig

from zhichun.model.attention import Packed
from zhichun.model.encoder import Encoder, new_encoder
from zhichun.model.layers import recompute_activations

SIZE = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
KINDS = {"xlm-roberta": XLMRobertaConfig, "bert": BertConfig}
OTHERS = {
    "deberta-v2": DebertaV2Config(max_position_embeddings=64, **SIZE),
    "modernbert": ModernBertConfig(pad_token_id=0, cls_token_id=2, sep_token_id=3, **SIZE),
}
IDS = torch.tensor([[2, 7, 8, 3, 9, 3, 0, 0], [2, 7, 3, 5, 9, 11, 12, 3], [2, 7, 8, 3, 9, 3, 0, 0]])
MASK = (IDS != 0).long()


def encoder(kind: str = "bert", attention_dropout: float = 0.0, hidden_dropout: float = 0.0) -> Encoder:
    torch.manual_seed(0)
    dropout = {"attention_probs_dropout_prob": attention_dropout, "hidden_dropout_prob": hidden_dropout}
    return new_encoder(KINDS[kind](max_position_embeddings=66, pad_token_id=0, **dropout, **SIZE))


def packed(ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> tuple[torch.Tensor, Packed]:
    lengths_B = mask_BT.sum(dim=1)
    bounds = torch.nn.functional.pad(lengths_B.cumsum(0), (1, 0)).int()
    return ids_BT[mask_BT.bool()][None], Packed(bounds, int(lengths_B.max()), int(lengths_B.sum()))


def learnt(made: Encoder, *read: object, first_only: bool) -> list[torch.Tensor]:
    """Give the first tokens' vectors, a loss, and its gradient by each weight."""
    if first_only:
        first_BD = made(*read, None, first_only=True)
    else:
        hidden_BTD = made(*read, None)
        first_BD = read[1].first(hidden_BTD) if isinstance(read[1], Packed) else hidden_BTD[:, 0]
    loss = (first_BD * torch.linspace(-1, 1, first_BD.numel()).view_as(first_BD)).tanh().mean()
    return [first_BD, loss, *torch.autograd.grad(loss, list(made.parameters()))]


def difference(ones: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    return max(float((one - other).detach().abs().max()) for one, other in zip(ones, others, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["sdpa", "eager", "packed"])
def test_vectors_and_gradients_are_those_of_the_whole_layer(kind, attention):
    made = encoder(kind).train()
    read = (IDS, MASK)
    if attention == "packed":
        made.use_attention("packed")
        read = packed(IDS, MASK)
    else:
        made.model.set_attn_implementation(attention)
    whole = learnt(made, *read, first_only=False)
    assert whole[0].std() > 0.1
    assert difference(learnt(made, *read, first_only=True), whole) < 1e-6


def test_the_last_layer_computes_one_token_of_each_pair():
    made, seen = encoder(), []
    made.model.encoder.layer[-1].intermediate.dense.register_forward_hook(lambda *call: seen.append(call[1][0].shape))
    made(IDS, MASK, None, first_only=True)
    made.use_attention("packed")
    made(*packed(IDS, MASK), None, first_only=True)
    made(IDS, MASK, None)
    assert seen == [(3, 1, 16), (1, 3, 16), (3, 8, 16)]


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("dropout", ["attention_dropout", "hidden_dropout"])
def test_dropout_is_that_of_the_layer(dropout, packs):
    """Where all is dropped nothing is left to chance; a part of it is drawn anew each time, in training alone."""
    for share in (0.999999, 0.5):
        made = encoder(**{dropout: share}).train()
        if packs:
            made.use_attention("packed")
        read = packed(IDS, MASK) if packs else (IDS, MASK)
        if share > 0.9:
            assert difference(learnt(made, *read, first_only=True), learnt(made, *read, first_only=False)) < 1e-6
        for layer in made.model.encoder.layer[:-1]:
            layer.eval()
        made.model.embeddings.eval()
        one, other = (made(*read, None, first_only=True) for _ in range(2))
        assert torch.equal(one, other) == (share > 0.9)
        made.eval()
        assert torch.equal(made(*read, None, first_only=True), made(*read, None, first_only=True))


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_give_the_first_of_all_tokens(name):
    made = new_encoder(OTHERS[name]).eval()
    assert torch.equal(made(IDS, MASK, None, first_only=True), made(IDS, MASK, None)[:, 0])


def test_a_copy_computes_with_weights_of_its_own():
    made = encoder().eval()
    before = made(IDS, MASK, None, first_only=True)
    copied = copy.deepcopy(made)
    for weight in made.parameters():
        weight.data.zero_()
    assert torch.equal(copied(IDS, MASK, None, first_only=True), before)
    assert not torch.equal(made(IDS, MASK, None, first_only=True), before)
    assert copied.state_dict().keys() == made.state_dict().keys()
    assert not any("forward" in name for name in made.state_dict())


def test_activations_can_be_computed_again():
    plain, saving = encoder(hidden_dropout=0.3).train(), encoder(hidden_dropout=0.3).train()
    recompute_activations(saving)
    made = []
    for one in (plain, saving):
        torch.manual_seed(1)
        made.append(learnt(one, IDS, MASK, first_only=True))
    assert difference(*made) == 0
