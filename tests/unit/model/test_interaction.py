"""Query and product read apart, against the same computed plainly, pair by pair."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import BertConfig, ModernBertConfig, XLMRobertaConfig

from zhichun.core.arrays import Int32
from zhichun.core.errors import UserError
from zhichun.model.absorbed import Absorbed
from zhichun.model.encoder import load_encoder, new_encoder, save_encoder
from zhichun.model.encoder_settings import EncoderSettings
from zhichun.model.interaction import Split, SplitEncoder
from zhichun.model.relevance_model import ModelSettings
from zhichun.text.pairs import assemble, packed, padded
from zhichun.text.tokenizer import PairLayout

SIZE = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
KINDS = {"bert": BertConfig, "xlm-roberta": XLMRobertaConfig}
LAYOUTS = {
    "bert": PairLayout((2,), (3,), (3,), 0, 1, query_tokens=8),
    "xlm-roberta": PairLayout((2,), (3, 3), (3,), 0, 0, query_tokens=8),
}
LENGTH = 20
QUERIES = [[7, 8], [9], [7, 8], list(range(10, 20)), [5, 5, 5]]
PRODUCTS = [[11, 12, 13, 14], [15, 16], list(range(20, 39)), [11, 12, 13, 14], [17]]


def made(kind: str = "bert", **settings: object) -> SplitEncoder:
    torch.manual_seed(0)
    types = 2 if kind == "bert" else 1
    encoder = new_encoder(KINDS[kind](max_position_embeddings=40, type_vocab_size=types, **SIZE, **NO_DROPOUT))
    for weight in encoder.parameters():  # biases and gains too, which begin at zero and one
        torch.nn.init.normal_(weight, std=0.3)
    split = EncoderSettings(interaction=Split(query_tokens=8, **{"product_layers": 2, **settings})).encoder_of(encoder)
    assert isinstance(split, SplitEncoder)
    if split.expand is not None:
        torch.nn.init.normal_(split.expand.bias)
    return split.eval()


def rows(
    kind: str, queries: list[list[int]] = QUERIES, products: list[list[int]] = PRODUCTS
) -> list[tuple[Int32, int]]:
    given = zip(queries, products, strict=True)
    return [assemble(np.asarray(q, np.int32), np.asarray(p, np.int32), LAYOUTS[kind], LENGTH) for q, p in given]


def batch(kind: str, made_of: list[tuple[Int32, int]], pack: bool = True) -> dict[str, torch.Tensor]:
    arrays = packed(made_of, LAYOUTS[kind]) if pack else padded(made_of, LAYOUTS[kind], 0)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def layer(one, own_MD: torch.Tensor, seen_ND: torch.Tensor) -> torch.Tensor:
    """One layer, head by head."""
    attention, size = one.attention.self, SIZE["hidden_size"] // SIZE["num_attention_heads"]
    heads = []
    for start in range(0, SIZE["hidden_size"], size):
        part = slice(start, start + size)
        query, key, value = (
            functional.linear(of, linear.weight[part], linear.bias[part])
            for of, linear in ((own_MD, attention.query), (seen_ND, attention.key), (seen_ND, attention.value))
        )
        heads.append(torch.softmax(query @ key.T / size**0.5, dim=1) @ value)
    attended = one.attention.output.LayerNorm(own_MD + one.attention.output.dense(torch.cat(heads, dim=1)))
    inner = functional.gelu(one.intermediate.dense(attended))
    return one.output.LayerNorm(attended + one.output.dense(inner))


def segment(of: SplitEncoder, ids: Int32, first_position: int, type_: int) -> torch.Tensor:
    table = of.model.embeddings
    places = torch.arange(len(ids)) + first_position + of.first_position
    words = table.word_embeddings(torch.from_numpy(ids).long()) + table.token_type_embeddings.weight[type_]
    hidden_TD = table.LayerNorm(words + table.position_embeddings(places))
    for one in of.model.encoder.layer[: of.settings.product_layers]:
        hidden_TD = layer(one, hidden_TD, hidden_TD)
    return hidden_TD


def reference(of: SplitEncoder, kind: str, row: tuple[Int32, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """All vectors of the query and of the product, in one pair by itself."""
    ids, second_start = row
    layout = LAYOUTS[kind]
    own = segment(of, ids[:second_start], 0, layout.first_type)
    state = segment(of, ids[second_start:], layout.query_tokens, layout.second_type)
    if of.shrink is not None:
        state = state @ of.shrink.weight.T @ of.expand.weight.T + of.expand.bias
    for one in of.model.encoder.layer[of.settings.product_layers :]:
        seen = torch.cat([own, state])
        own = layer(one, own, seen)
        if of.settings.updates == "both":
            state = layer(one, seen[len(own) :], seen)
    return own, state


FORMS = {
    "as it is": {},
    "both sides": {"updates": "both"},
    "smaller states": {"state": 6},
    "smaller states, both sides": {"state": 6, "updates": "both"},
    "one layer below": {"product_layers": 1},
    "one layer above": {"product_layers": 3},
    "layers dropped": {"product_layers": 1, "query_layers": 2},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("form", FORMS)
@torch.inference_mode()
def test_each_pair_is_as_computed_plainly_by_itself(form, pack, kind):
    encoder, given = made(kind, **FORMS[form]), rows(kind)
    expected = [reference(encoder, kind, row) for row in given]
    read = batch(kind, given, pack)
    first_BD, all_BTD = encoder.read(read, first_only=True), encoder.read(read)
    assert expected[0][0].std() > 0.1
    assert torch.allclose(first_BD, torch.stack([own[0] for own, _ in expected]), atol=1e-5)
    tokens_BTD = [part for pair in expected for part in pair]
    found = all_BTD[0] if pack else all_BTD[read["attention_mask"].bool()]
    assert torch.allclose(found, torch.cat(tokens_BTD), atol=1e-5)


@torch.inference_mode()
def test_a_state_never_depends_on_the_query_its_length_or_the_batch():
    encoder, kept = made(), {}
    encoder.kept = lambda hidden_ND: kept.setdefault("states", hidden_ND)  # type: ignore[method-assign]

    def states_of(queries: list[list[int]], products: list[list[int]]) -> list[torch.Tensor]:
        kept.clear()
        encoder.read(batch("bert", rows("bert", queries, products)), first_only=True)
        apart = {tuple(ids[start:]) for ids, start in rows("bert", queries, products)}  # each is read once
        return list(kept["states"].split(sorted(map(len, apart), reverse=True)))

    product = list(range(20, 39))  # cut, and the longest: its states come first
    alone = states_of([[7]], [product])[0]
    for queries, products in (
        ([[9, 10, 11]], [product]),
        ([list(range(10, 30))], [product]),
        ([[7], [8, 9]], [product, [11, 12]]),
        ([[7, 5], *QUERIES], [product, *PRODUCTS]),
    ):
        assert torch.equal(states_of(queries, products)[0], alone)


@torch.inference_mode()
def test_vectors_that_are_given_belong_to_their_pair_though_ids_are_the_same():
    encoder = made()
    given = batch("bert", rows("bert", [[7, 8]] * 2, [[11, 12]] * 2))
    vectors_1ND = encoder.look_up(given["input_ids"])
    assert torch.allclose(encoder.read(given, vectors_1ND), encoder.read(given), atol=1e-6)
    vectors_1ND[:, vectors_1ND.shape[1] // 2 :] *= -1
    first, second = encoder.read(given, vectors_1ND, first_only=True)
    assert torch.allclose(first, encoder.read(given, first_only=True)[0], atol=1e-6)
    assert not torch.allclose(first, second, atol=1e-3)


def test_query_and_product_are_cut_separately():
    layout = LAYOUTS["xlm-roberta"]
    (ids, start), (other, other_start) = rows("xlm-roberta", [[7], list(range(5, 25))], [list(range(5, 30))] * 2)
    assert ids[start:].tolist() == other[other_start:].tolist()  # whatever the query
    assert ids.tolist() == [2, 7, 3, 3, *range(5, 15), 3]
    assert other[:other_start].tolist() == [2, *range(5, 11), 3]
    lengths = layout.lengths(np.asarray([1, 20]), np.asarray([25, 25]), LENGTH)
    assert lengths.tolist() == [len(ids), len(other)] == [15, 20]


def test_every_weight_learns_and_order_changes_no_gradient():
    given, losses, gradients = rows("bert"), [], []
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        encoder = made(state=6)
        first_BD = encoder.read(batch("bert", [given[row] for row in order]), first_only=True)
        loss = (first_BD.sum(dim=1) * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])[order]).tanh().sum()
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: weight.grad for name, weight in encoder.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    assert torch.allclose(losses[0], losses[1], atol=1e-5)
    assert all(torch.allclose(one, gradients[1][name], atol=1e-5) for name, one in gradients[0].items())


@torch.inference_mode()
def test_a_single_text_is_read_as_a_whole():
    encoder, whole = made(), copy.deepcopy(made())
    given = {"input_ids": torch.tensor([[2, 7, 8, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    hidden_TD = whole.model.embeddings(given["input_ids"])[0]
    for one in whole.model.encoder.layer:
        hidden_TD = layer(one, hidden_TD, hidden_TD)
    assert torch.allclose(encoder.read(given)[0], hidden_TD, atol=1e-5)
    assert torch.allclose(encoder.read(given, first_only=True)[0], hidden_TD[0], atol=1e-5)


def test_it_is_pre_trained_and_goes_on_with_its_projection(tmp_path):
    encoder = made(state=6, query_layers=1)
    save_encoder(encoder, tmp_path)
    assert len(load_encoder(str(tmp_path)).model.encoder.layer) == 3
    from zhichun.model.encoder_settings import start_encoder

    settings = EncoderSettings(encoder=str(tmp_path), max_length=20, interaction=replace(encoder.settings))
    started = start_encoder(settings, None)
    assert all(torch.equal(weight, started.state_dict()[name]) for name, weight in encoder.state_dict().items())
    wrong = replace(settings, interaction=replace(encoder.settings, state=5))
    with pytest.raises(UserError, match=r"states of 6 numbers, not 5(.|\n)*interaction\.state=6"):
        start_encoder(wrong, None)


def test_what_cannot_be_split_is_refused_with_the_reason():
    modern = new_encoder(ModernBertConfig(pad_token_id=0, cls_token_id=2, sep_token_id=3, **SIZE))
    with pytest.raises(UserError, match=r"type 'modernbert' has them within its attention(.|\n)*interaction=Full"):
        EncoderSettings(interaction=Split()).encoder_of(modern)
    with pytest.raises(UserError, match=r"product_layers=4, and the encoder 4 layers(.|\n)*product_layers=3"):
        made(product_layers=4)
    with pytest.raises(UserError, match=r"product_layers=3 and query_layers=2, and the encoder 4 layers"):
        made(product_layers=3, query_layers=2)
    with pytest.raises(UserError, match=r"state=16 is no smaller than the encoder's 16"):
        made(state=16)
    with pytest.raises(UserError, match=r"pooling='fields' averages the product's vectors"):
        ModelSettings(interaction=Split(), pooling="fields")
    with pytest.raises(UserError, match=r"query_tokens=32 leave a product nothing of model\.max_length=32"):
        EncoderSettings(interaction=Split(), max_length=32)
    with pytest.raises(UserError, match=r"model\.interaction\.product_layers=0 must be at least 1"):
        Split(product_layers=0)


ASKED = ([7, 8], [9], list(range(10, 20)))
NOTHING = np.zeros(0, np.int32)


def side(encoder, kind: str, texts: list[list[int]], *, product: bool) -> list[torch.Tensor]:
    """The vectors of one side's texts, each computed with the others."""
    layout = LAYOUTS[kind]
    pairs = [(NOTHING, np.asarray(text, np.int32)) for text in texts]
    segments = [layout.segments(*(pair if product else pair[::-1]), LENGTH)[product] for pair in pairs]
    arrays = packed([(ids, 0 if product else len(ids)) for ids in segments], layout)
    given = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return list(encoder.side(given, product=product).split([len(ids) for ids in segments]))


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
@pytest.mark.parametrize("form", [name for name, form in FORMS.items() if form.get("updates") != "both"])
@torch.inference_mode()
def test_it_is_the_plain_form(form, kind):
    encoder = made(kind, **FORMS[form])
    states = side(encoder, kind, PRODUCTS, product=True)
    state_BPS = torch.nn.utils.rnn.pad_sequence(states, batch_first=True, padding_value=100.0)
    there_BP = torch.arange(state_BPS.shape[1]) < torch.tensor([[len(state)] for state in states])
    for query, own_MD in zip(ASKED, side(encoder, kind, list(ASKED), product=False), strict=True):
        given = batch(kind, rows(kind, [query] * len(PRODUCTS), PRODUCTS))
        expected_BD = encoder.read(given, first_only=True)
        assert expected_BD.std() > 0.1
        assert torch.allclose(Absorbed(encoder)(own_MD[None], state_BPS, there_BP), expected_BD, atol=1e-5)
        halved = Absorbed(encoder)(own_MD[None], state_BPS * 4, there_BP, torch.full(there_BP.shape, 0.25))
        assert torch.allclose(halved, expected_BD, atol=1e-5)
