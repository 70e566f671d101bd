"""Encoders by path: XLM-R, BERT, DeBERTa-v2 and ModernBERT with random weights; folders that lack something."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizerFast,
    DebertaV2Config,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
)

from zhichun.core.errors import UserError
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import train
from zhichun.model.encoder import load_encoder, load_tokenizer
from zhichun.score.scorer import Scorer

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
PIECES = 150
CONFIGS = {
    "xlm-roberta": XLMRobertaConfig(vocab_size=500, max_position_embeddings=66, type_vocab_size=1, **SIZE),
    "bert": BertConfig(vocab_size=PIECES, max_position_embeddings=64, **SIZE),
    "deberta-v2": DebertaV2Config(
        vocab_size=PIECES,
        max_position_embeddings=64,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type="p2c|c2p",
        position_biased_input=False,
        **SIZE,
    ),
    "modernbert": ModernBertConfig(
        vocab_size=PIECES,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=2,
        cls_token_id=2,
        eos_token_id=3,
        sep_token_id=3,
        **SIZE,
    ),
}
WEIGHTS = "model.safetensors"
OWN_SHAPE = "model.tiny=TinyEncoder"


def word_piece() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=PIECES, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(["red running shoes, size 9", "leather hand bag", "usb c cable 2 m"], trainer)
    return BertTokenizerFast(vocab=tokenizer.get_vocab())


def unigram() -> PreTrainedTokenizerFast:
    file = Path(__file__).parents[2] / "golden" / "tokenizer.json"
    return PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token="<pad>", unk_token="<unk>", cls_token="<s>")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> Path:
    """A folder with one encoder of each architecture, as `save_pretrained` writes them."""
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    for name, config in CONFIGS.items():
        AutoModel.from_config(config).save_pretrained(folder / name)
        (unigram() if name == "xlm-roberta" else word_piece()).save_pretrained(folder / name)
    return folder


@pytest.fixture
def bert(encoders, tmp_path) -> Path:
    """A copy of the BERT that a test may damage."""
    return shutil.copytree(encoders / "bert", tmp_path / "bert")


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("name", CONFIGS)
def test_an_encoder_by_path_is_trained_and_then_scores_without_it(name, encoders, tiny_recipe, tiny_dataset, tmp_path):
    source = shutil.copytree(encoders / name, tmp_path / name)
    recipe = tiny_recipe.with_settings(
        [f"model.encoder={source}", OWN_SHAPE, "train.batch_size=1000", "train.warmup=0.0"]
    )
    start = load_encoder(str(source)).state_dict()
    run = train(recipe, tiny_dataset, tmp_path / "run")
    assert [record["step"] for record in run.records()] == [1, 1]  # one step, one evaluation
    shutil.rmtree(source)
    scorer = Scorer.load(run.path)
    trained = scorer.engine.model.encoder.state_dict()
    assert start.keys() == trained.keys()
    assert all(not torch.equal(start[key], trained[key]) for key in start if key.endswith("weight"))
    predicted = scorer.score("red shoes", [{"product_title": "red running shoes"}, {"product_title": "usb cable"}])
    assert predicted.score[0] != predicted.score[1]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_weight_of_the_encoder_is_reached_by_the_gradient(name, encoders):
    encoder = load_encoder(str(encoders / name))
    ids = torch.tensor([[2, 7, 8, 3, 9, 3, 0, 0]])
    types = torch.tensor([[0, 0, 0, 0, 1, 1, 0, 0]])
    encoder(ids, (ids != 0).long(), types)[:, 0].square().sum().backward()
    assert [key for key, parameter in encoder.named_parameters() if parameter.grad is None] == []


def test_the_pooler_is_removed(encoders):
    assert any(key.startswith("pooler") for key in load_file(encoders / "bert" / WEIGHTS))
    assert not any("pooler" in key for key in load_encoder(str(encoders / "bert")).state_dict())


def test_a_checkpoint_without_pooler_is_whole(bert):
    rewrite(bert, lambda state: {key: weight for key, weight in state.items() if not key.startswith("pooler")})
    assert load_encoder(str(bert)).hidden == 16


def test_a_checkpoint_stored_in_half_precision_is_loaded_in_float32(bert):
    rewrite(bert, lambda state: {key: weight.half() for key, weight in state.items()})
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    assert {parameter.dtype for parameter in load_encoder(str(bert)).parameters()} == {torch.float32}


@pytest.mark.parametrize(("name", "room"), [("xlm-roberta", 64), ("bert", 64), ("modernbert", 64)])
def test_it_knows_how_many_tokens_it_reads(name, room, encoders):
    """XLM-R has 66 positions, of which two stand for padding."""
    encoder = load_encoder(str(encoders / name))
    assert encoder.room == room
    ids = torch.full((1, room), 7)
    assert torch.isfinite(encoder(ids, torch.ones_like(ids), None)).all()


def test_more_tokens_than_it_reads_are_refused(encoders, tiny_recipe, tiny_dataset, tmp_path):
    recipe = tiny_recipe.with_settings([f"model.encoder={encoders / 'xlm-roberta'}", OWN_SHAPE, "model.max_length=65"])
    with pytest.raises(UserError, match=r"reads 64 tokens at most\.\nUse --set model\.max_length=64"):
        train(recipe, tiny_dataset, tmp_path / "run")
    train(recipe.with_settings(["model.max_length=16"]), tiny_dataset, tmp_path / "run")  # nothing stands in the way
    assert RunFolder(tmp_path / "run").model.is_dir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "weights cut off": lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100]),
    "a pointer in place of weights": lambda folder: (folder / WEIGHTS).write_text("version https://git-lfs"),
    "a weight is missing": lambda folder: rewrite(folder, lambda state: dict(sorted(state.items())[1:])),
    "no configuration": lambda folder: (folder / "config.json").unlink(),
    "no such folder": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_encoder_that_lacks_something_is_named(damage, bert):
    DAMAGES[damage](bert)
    with pytest.raises(UserError, match=rf"the encoder '{bert}' (cannot be loaded|has 1 missing weights, e\.g\.)"):
        load_encoder(str(bert))


@pytest.mark.parametrize("left", ["no file of it", "its configuration alone", "a broken file"])
def test_an_encoder_without_tokenizer_is_named(left, bert):
    """Given only the configuration, transformers would make one up that knows no word."""
    (bert / "tokenizer.json").unlink()
    if left == "no file of it":
        (bert / "tokenizer_config.json").unlink()
    if left == "a broken file":
        (bert / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(UserError, match=rf"'{bert}'(.|\n)*tokenizer\.json"):
        load_tokenizer(str(bert))


@pytest.mark.parametrize("name", CONFIGS)
def test_it_reads_token_vectors_as_it_reads_tokens(name, encoders):
    encoder = load_encoder(str(encoders / name))
    ids = torch.tensor([[2, 7, 8, 3, 9, 3], [2, 9, 3, 0, 0, 0]])
    ids[1, 3:] = encoder.model.config.pad_token_id
    mask, types = (ids != encoder.model.config.pad_token_id).long(), torch.tensor([[0, 0, 0, 0, 1, 1]] * 2)
    expected = encoder(ids, mask, types)
    found = encoder(ids, mask, types, encoder.look_up(ids))
    assert torch.allclose(found[mask.bool()], expected[mask.bool()], atol=1e-6)
    moved = encoder(ids, mask, types, encoder.look_up(ids) + torch.randn(encoder.hidden))
    assert not torch.allclose(moved[:, 0], expected[:, 0], atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_fgm_and_r_drop_find_a_worse_view_on_it(name, precision, encoders, tiny_recipe, tiny_dataset, tmp_path):
    methods = [
        'objective.second_view={"kind": "FGM", "epsilon": 5.0}',
        "objective.rdrop=RDrop",
        "objective.ema=EMA",
        "train.activation_checkpointing=layers",
    ]
    one_step = ["train.batch_size=1000", "train.warmup=0.0", f"train.precision={precision}"]
    encoder = [f"model.encoder={encoders / name}", "model.tiny=TinyEncoder"]
    recipe = tiny_recipe.with_settings([*encoder, *methods, *one_step])
    run = train(recipe, tiny_dataset, tmp_path / "run")
    parts = next(run.records())["parts"]
    assert parts["second_view"] > parts["loss"] + 0.01
    assert parts["rdrop"] > 0
