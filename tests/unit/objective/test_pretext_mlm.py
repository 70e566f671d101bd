"""Masked language model: packing, masks, and the head tied to the embeddings."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForMaskedLM, BertConfig, DistilBertConfig, ModernBertConfig, XLMRobertaConfig

from zhichun.core.errors import UserError
from zhichun.model.encoder import load_encoder, load_lm_head, new_encoder
from zhichun.model.encoder_settings import TinyEncoder, tiny_config
from zhichun.objective.pretext import MLM, PairMLM
from zhichun.objective.pretext.mlm import MLMHead, hide
from zhichun.objective.pretext.task import Draw, Sizes

DRAW = Draw(seed=0, epoch=0)
SIZES = Sizes(brands=10, colors=10)


@pytest.fixture(scope="module")
def texts(catalogue):
    return catalogue.take(np.concatenate([catalogue.of_locale(locale)[:10] for locale in ("us", "es", "jp")]))


@pytest.fixture
def encoder(reader):
    torch.manual_seed(0)
    return new_encoder(tiny_config(TinyEncoder(layers=1, hidden=32, heads=2), reader.tokenizer, reader.max_length))


def before(arrays):
    """Give the batch's ids as they were before anything was hidden."""
    ids_BT = arrays["input_ids"].copy()
    ids_BT.reshape(-1)[arrays["masked"]] = arrays["target"]
    return ids_BT


def bodies(ids_BT, arrays):
    """Give what stands between the special tokens of each block."""
    return [ids[:length][1:-1] for ids, length in zip(ids_BT, arrays["attention_mask"].sum(axis=1), strict=True)]


def test_packing_loses_and_repeats_no_token(texts, catalogue, reader):
    arrays = MLM().examples(texts, catalogue, reader, DRAW)
    documents = zip(reader.tokens(texts.locales), reader.documents(texts), strict=True)
    expected = np.concatenate([tokens for document in documents for tokens in document])
    assert np.concatenate(bodies(before(arrays), arrays)).tolist() == expected.tolist()


def test_all_blocks_but_the_last_are_full(texts, catalogue, reader):
    lengths = MLM().examples(texts, catalogue, reader, DRAW)["attention_mask"].sum(axis=1)
    assert len(lengths) > 20
    assert set(lengths[:-1].tolist()) == {reader.max_length}


@pytest.mark.parametrize("task", [MLM(), MLM(unit="word"), PairMLM()], ids=["piece", "word", "pairs"])
def test_the_stated_shares_are_hidden_and_never_a_special_token(task, catalogue, reader):
    parts = [
        task.examples(catalogue.take(catalogue.rows), catalogue, reader, Draw(seed=0, epoch=epoch))
        for epoch in range(4)
    ]
    target = np.concatenate([arrays["target"] for arrays in parts])
    changed = np.concatenate([arrays["input_ids"].reshape(-1)[arrays["masked"]] for arrays in parts])
    ordinary = sum((~np.isin(before(arrays), reader.special_ids)).sum() for arrays in parts)
    assert sum(int(arrays["items"]) for arrays in parts) == len(target) > 5_000
    assert not np.isin(target, reader.special_ids).any()
    assert len(target) / ordinary == pytest.approx(0.15, abs=0.005)
    assert (changed == reader.tokenizer.mask_id).mean() == pytest.approx(0.8, abs=0.015)
    replaced = changed[(changed != reader.tokenizer.mask_id) & (changed != target)]
    assert len(replaced) / len(target) == pytest.approx(0.1, abs=0.012)
    assert not np.isin(replaced, reader.special_ids).any()
    assert len(set(replaced.tolist())) > 300  # any piece of 500, not a few


def test_a_whole_word_is_hidden_or_none_of_it(reader):
    tokens = reader.tokens(["running shoes for a long distance " * 20])[0]
    word = np.cumsum(reader.tokenizer.word_starts_V[tokens])
    for unit in ("word", "piece"):
        _, chosen = hide(tokens, np.random.default_rng(0), 0.3, unit, reader)
        parts = [chosen[word == number] for number in np.unique(word)]
        assert any(part.all() and len(part) > 1 for part in parts)
        cut = sum(part.any() and not part.all() for part in parts)
        assert bool(cut) == (unit == "piece")


def test_what_is_hidden_of_a_product_does_not_depend_on_its_company(texts, catalogue, reader):
    def hidden(products, draw=DRAW):
        """Give, for each place of the packed text, whether it is hidden, and the ids that are read."""
        arrays = MLM().examples(products, catalogue, reader, draw)
        marks = np.zeros(arrays["input_ids"].shape, np.bool_)
        marks.reshape(-1)[arrays["masked"]] = True
        return [np.concatenate(bodies(of, arrays)).tolist() for of in (marks, arrays["input_ids"])]

    alone = [hidden(texts.at([place])) for place in range(4)]
    together = hidden(texts.at([0, 1, 2, 3]))
    for part in (0, 1):
        assert [value for product in alone for value in product[part]] == together[part]
    assert all(hidden(texts.at([0]), other)[0] != alone[0][0] for other in (Draw(seed=0, epoch=1), Draw(1, 0)))


def test_pairs_hold_a_query_of_the_product_and_skip_products_without(catalogue, reader):
    texts = catalogue.take(catalogue.rows[:40])
    queries = catalogue.queries(texts.rows)
    with_query = [place for place, found in enumerate(queries) if found]
    assert with_query
    arrays = PairMLM().examples(texts, catalogue, reader, DRAW)
    assert len(arrays["input_ids"]) == len(with_query)
    separator = reader.tokenizer.layout.middle[0]
    for ids, place in zip(before(arrays), with_query, strict=True):
        query = ids[1 : np.flatnonzero(ids == separator)[0]]
        assert query.tolist() in [tokens.tolist() for tokens in reader.tokens(queries[place])]


def test_without_any_query_there_is_nothing_to_score(catalogue, reader, texts):
    class NoQueries:
        def queries(self, rows):
            return [[] for _ in rows]

    arrays = PairMLM().examples(texts, NoQueries(), reader, DRAW)
    assert (int(arrays["items"]), len(arrays["input_ids"]), len(arrays["target"])) == (0, 0, 0)


def test_the_head_reads_the_encoder_s_own_embeddings_and_keeps_none(encoder):
    head = MLM().head(encoder, SIZES)
    assert {tuple(parameter.shape) for parameter in head.parameters()} == {(32, 32), (32,), (500,)}
    batch = {
        "input_ids": torch.tensor([[0, 7, 8, 2]]),
        "attention_mask": torch.ones(1, 4, dtype=torch.int64),
        "masked": torch.tensor([1]),
        "target": torch.tensor([9]),
    }
    outcome = head(encoder, batch)
    hidden = encoder(batch["input_ids"], batch["attention_mask"], None)[0, 1]
    logits = head.transform(hidden) @ encoder.model.embeddings.word_embeddings.weight.T + head.bias
    assert outcome.loss_N.item() == pytest.approx((logits.logsumexp(0) - logits[9]).item(), rel=1e-5)
    assert outcome.right_N.tolist() == [logits.argmax().item() == 9]
    outcome.loss_N.sum().backward()
    assert encoder.model.embeddings.word_embeddings.weight.grad[9].abs().sum() > 0


@pytest.mark.parametrize("deviation", [0.02, 1.0])
def test_the_first_loss_is_near_chance_whatever_the_embeddings(deviation, encoder):
    nn.init.normal_(encoder.model.embeddings.word_embeddings.weight, std=deviation)
    torch.manual_seed(0)
    head = MLMHead(encoder)
    ids = torch.randint(5, 500, (8, 40))
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "masked": torch.arange(320),
        "target": torch.randint(5, 500, (320,)),
    }
    assert head(encoder, batch).loss_N.mean().item() == pytest.approx(math.log(500) + 0.5, abs=0.4)


def test_a_share_of_nothing_is_refused():
    for share in (0.0, 1.0):
        with pytest.raises(UserError, match="share"):
            MLM(share=share)
    with pytest.raises(UserError, match=r"objective\.pair_mlm=null"):
        PairMLM(weight=0.0)


SHAPE = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
CONFIGS = {
    "XLM-R": XLMRobertaConfig(**SHAPE, max_position_embeddings=40),
    "BERT": BertConfig(**SHAPE),
    "ModernBERT, which has no bias": ModernBertConfig(**SHAPE, **IDS),
    "DistilBERT": DistilBertConfig(vocab_size=60, dim=16, n_layers=1, n_heads=2, hidden_dim=32),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_checkpoint_s_own_head_is_taken_over_and_says_what_it_said(name, tmp_path):
    torch.manual_seed(0)
    whole = AutoModelForMaskedLM.from_config(CONFIGS[name]).eval()
    with torch.no_grad():
        for part in whole.parameters():
            part.add_(0.1 * torch.randn_like(part))  # biases start at zero and norms at one
    whole.save_pretrained(tmp_path / "whole")
    ids_BT = torch.randint(3, 60, (2, 9))
    mask_BT = torch.ones_like(ids_BT)
    with torch.inference_mode():
        expected_NV = whole(input_ids=ids_BT, attention_mask=mask_BT).logits.flatten(0, 1)
    encoder, start = load_encoder(str(tmp_path / "whole")).eval(), load_lm_head(str(tmp_path / "whole"))
    for task in (MLM(), PairMLM()):
        head = task.head(encoder, Sizes(brands=1, colors=1, lm_head=start)).eval()
        masked, target = torch.arange(18), torch.randint(3, 60, (18,))
        batch = {"input_ids": ids_BT, "attention_mask": mask_BT, "masked": masked, "target": target}
        loss_N = nn.functional.cross_entropy(expected_NV, target, reduction="none")
        with torch.inference_mode():
            assert head(encoder, batch).loss_N.tolist() == pytest.approx(loss_N.tolist(), abs=1e-5)


def test_a_checkpoint_without_a_head_or_with_a_part_of_one_gets_a_new_one(tmp_path):
    whole = AutoModelForMaskedLM.from_config(CONFIGS["XLM-R"])
    whole.base_model.save_pretrained(tmp_path / "bare")
    assert load_lm_head(str(tmp_path / "bare")) is None
    state = {name: part for name, part in whole.state_dict().items() if "lm_head.dense" not in name}
    whole.save_pretrained(tmp_path / "part", state_dict=state)
    assert load_lm_head(str(tmp_path / "part")) is None
    assert load_lm_head(str(tmp_path / "nowhere")) is None
    config = BertConfig(**SHAPE, hidden_act="relu")  # another function between dense and norm
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "relu")
    assert load_lm_head(str(tmp_path / "relu")) is None
