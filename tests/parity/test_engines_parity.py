"""Every engine says what torch says of the same pairs: all tasks, all parts on and off, all kinds of encoder."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertConfig, BertTokenizerFast, DebertaV2Config, ModernBertConfig

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.files import write_hashes
from zhichun.core.tasks import TASKS, Floats
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.fit.train import build_model, make_featurizer
from zhichun.model.model_folder import TrainedModel
from zhichun.score.engine import Engine, predict_with
from zhichun.score.export.export_folder import ExportConfig
from zhichun.score.scorer import Scorer
from zhichun.score.torch_engine import TorchEngine
from zhichun.text.pairs import Pairs

pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

from zhichun.score.export.export_run import export
from zhichun.score.export.exported import open_engine
from zhichun.score.export.graph import inputs_of, write_onnx
from zhichun.score.export.quantise import write_openvino

FP32 = 1e-4
PAIRS = 60
SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WORDS = {"vocab_size": 150, "max_position_embeddings": 64}
ENCODERS = {
    "bert": BertConfig(**WORDS, **SIZE),
    "deberta-v2": DebertaV2Config(
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type="p2c|c2p",
        position_biased_input=False,
        **WORDS,
        **SIZE,
    ),
    "modernbert": ModernBertConfig(
        pad_token_id=0, bos_token_id=2, cls_token_id=2, eos_token_id=3, sep_token_id=3, **WORDS, **SIZE
    ),
}
# Each part is on and off, each task is there, with as few exports as that takes; all with the tiny XLM-R, whose second
# layer says no more where only what stands beside it is another.
ONE_LAYER = "model.tiny.layers=1"
MODELS: dict[str, tuple[str, list[str]]] = {
    "all parts": ("esci", []),
    "no trigrams, no brand": ("substitute", [ONE_LAYER, "model.trigrams=null", "model.brand=null"]),
    "no country, no color": ("gain", [ONE_LAYER, "model.country=null", "model.color=null"]),
    "text alone": (
        "esci",
        [ONE_LAYER, "model.trigrams=null", "model.brand=null", "model.country=null", "model.color=null"],
    ),
    "fields pooled": ("esci", ["model.pooling=fields"]),
}


def word_piece() -> BertTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(["red running shoes, size 9", "leather hand bag", "usb c cable 2 m"], trainer)
    return BertTokenizerFast(vocab=tokenizer.get_vocab())


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> Path:
    """A folder with one encoder of each kind, with random weights."""
    from transformers import AutoModel

    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    for name, config in ENCODERS.items():
        AutoModel.from_config(config).save_pretrained(folder / name)
        word_piece().save_pretrained(folder / name)
    return folder


@pytest.fixture
def made(tiny_recipe, tiny_dataset, tmp_path) -> Callable[[str, list[str]], tuple[Pairs, Floats, dict[str, Engine]]]:
    """Make a model with random weights: its pairs, what torch says of them, and its engines."""

    def make(task: str, changes: list[str]) -> tuple[Pairs, Floats, dict[str, Engine]]:
        dataset, recipe = Dataset.open(tiny_dataset), tiny_recipe.with_settings(changes)
        featurizer = make_featurizer(recipe.model, dataset)
        torch.manual_seed(1)
        model = build_model(recipe.model, featurizer, TASKS[task]).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "head" in name and weight.ndim == 2:
                    weight.mul_(8)  # answers that differ from pair to pair
        trained = TrainedModel(model, featurizer, recipe.model, TASKS[task])
        pairs = open_pairs(dataset, featurizer, recipe.model.max_length)
        return pairs, predict_with(TorchEngine.of(model), pairs, rows_of(pairs)), engines_of(trained, tmp_path)

    return make


def rows_of(pairs: Pairs) -> Int64:
    return np.random.default_rng(0).permutation(len(pairs))[:PAIRS]


def engines_of(trained: TrainedModel, folder: Path) -> dict[str, Engine]:
    inputs = inputs_of(trained)
    for name in ("onnx", "openvino"):
        (folder / name).mkdir()
    write_onnx(trained, inputs, folder / "onnx" / "model.onnx")
    write_openvino(folder / "onnx" / "model.onnx", folder / "openvino" / "model.xml")
    inputs.save(folder)
    config = ExportConfig(
        task=trained.task.name,
        max_length=trained.settings.max_length,
        fields=trained.settings.fields,
        inputs=inputs.names,
        side_features=inputs.sizes,
        checks={},
        about={},
    )
    return {name: open_engine(folder, config, name) for name in ("onnx", "openvino")}


def assert_equal_to_torch(pairs: Pairs, expected_PC: Floats, engines: dict[str, Engine]) -> None:
    assert expected_PC.std(axis=0).min() > 0.01, "the pairs differ, or nothing would be seen"
    for name, engine in engines.items():
        found_PC = predict_with(engine, pairs, rows_of(pairs))
        assert np.abs(found_PC - expected_PC).max() < FP32, name


@pytest.mark.parametrize("name", MODELS)
def test_fp32_says_what_torch_says(name, made):
    assert_equal_to_torch(*made(*MODELS[name]))


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_of_other_kinds_too(name, encoders, made):
    assert_equal_to_torch(*made("esci", [f"model.encoder={encoders / name}", "model.tiny=TinyEncoder"]))


@pytest.fixture(scope="module")
def uncertain(tiny_run, once) -> tuple[Path, Path]:
    """A run that gives every label to some pairs and is often unsure, and its export: where rounding would be seen."""
    folder = once("uncertain", partial(make_uncertain, tiny_run))
    return folder / "run", folder / "run" / "export"


def make_uncertain(tiny_run: Path, folder: Path) -> None:
    run = shutil.copytree(tiny_run, folder / "run")
    predictions = pq.read_table(run / "predictions.parquet")
    logits_PC = np.log(np.stack([predictions[f"p_{label}"].to_numpy() for label in schema.LABELS], axis=1))
    state = load_file(run / "model" / "model.safetensors")
    state["head.4.weight"] *= 8
    state["head.4.bias"] = 8 * (state["head.4.bias"] - torch.from_numpy(logits_PC.mean(axis=0)))
    save_file(state, run / "model" / "model.safetensors")
    write_hashes(run / "model")
    export(run, ["onnx-int8", "openvino", "openvino-int8"], shown=False)


# onnxruntime's weights have 7 bits, so that sums are the same on processors with and without units for int8.
MOST_CHANGED = {"openvino-bf16": 0.05, "openvino-int8": 0.05, "onnx-int8": 0.1}


@pytest.mark.parametrize("name", MOST_CHANGED)
def test_fewer_bits_change_few_labels_and_only_where_torch_is_unsure(name, uncertain, tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    rows = np.arange(len(dataset.labels))
    expected, found = (
        scorer.predict(open_pairs(dataset, scorer.featurizer, scorer.max_length), rows)
        for scorer in (Scorer.load(uncertain[0], device="cpu"), Scorer.load(uncertain[1], engine=name))
    )
    assert set(expected.labels) == set(schema.LABELS)
    changed_P = np.array(found.labels) != np.array(expected.labels)
    two_P2 = np.sort(expected.probabilities, axis=1)[:, -2:]
    assert changed_P.mean() < MOST_CHANGED[name]
    assert (two_P2[:, 1] - two_P2[:, 0])[changed_P].max(initial=0) < 0.25
