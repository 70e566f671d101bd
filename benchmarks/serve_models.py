"""The models that the benchmarks of the server serve: quickly trained, with nothing beside the encoder.

Speed does not depend on quality, so one epoch on a small sample shop is enough for answers that differ.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from score_cpu import OFF, PLAIN, as_cross_encoder, fine_tuned
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from zhichun.core import schema
from zhichun.core.files import new_folder
from zhichun.data.dataset import Dataset
from zhichun.data.prepare.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop
from zhichun.fit.recipes.kdd2022 import task2
from zhichun.model.model_folder import TrainedModel
from zhichun.score.export.export_run import export

SHOP = {"products": 300, "queries": 60}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
FORMATS = ["onnx", "onnx-int8", "openvino-int8"]
CHOSEN = ['model.fields=["title"]', "train.epochs=1", "train.learning_rate=3e-4", "objective.loss=CrossEntropy"]


@dataclass(frozen=True)
class Shape:
    """An encoder's size: layers, hidden size, heads, and pieces of its vocabulary."""

    layers: int
    hidden: int
    heads: int
    pieces: int


SHAPES = {"tiny": Shape(4, 128, 4, 8000), "minilm": Shape(6, 384, 12, 30_522)}


@dataclass(frozen=True)
class Model:
    """One model as all sides serve it.

    Parameters
    ----------
    run, exported, theirs
        The run, its export, and the `CrossEncoder` with the same weights.
    """

    run: Path
    exported: Path
    theirs: Path


def shop(work: Path) -> Path:
    """Make the dataset on which the models are trained, once."""
    data = work / "data"
    if not data.is_dir():
        if not (work / "shop").is_dir():
            write_sample_shop(work / "shop", **SHOP)
        prepare(work / "shop", data)
    return data


def made(name: str, work: Path, data: Path, max_length: int, encoder: str | None = None) -> Model:
    """Train and export a model, or take what an earlier call with the same length left.

    Parameters
    ----------
    name
        Of a shape.
    work, data
        Where models are kept, and the dataset.
    max_length
        Tokens that a pair is cut to.
    encoder
        Name or folder of an encoder; one of the shape with random weights if not given.
    """
    folder = work / f"{name}-{max_length}{'-given' if encoder else ''}"
    named = encoder or str(random_encoder(SHAPES[name], folder / "encoder", data))
    settings = [f"model.encoder={named}", f"model.max_length={max_length}", "train.precision=fp32"]
    recipe = task2().with_settings([*settings, *CHOSEN, *OFF, *PLAIN])
    run = fine_tuned(recipe, data, folder / "run")
    if not (folder / "export").is_dir():
        export(run, FORMATS, out=folder / "export", data=data)
    if not (folder / "cross_encoder").is_dir():
        as_cross_encoder(TrainedModel.load(run / "model"), recipe, folder / "cross_encoder")
    return Model(run, folder / "export", folder / "cross_encoder")


def random_encoder(shape: Shape, folder: Path, data: Path) -> Path:
    """Make an encoder of BERT's kind with random weights, and a tokenizer trained on the shop."""
    if folder.is_dir():
        return folder
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    texts = Dataset.open(data).queries.to_pylist()
    texts += pq.read_table(data / schema.PRODUCTS_FILE, columns=[schema.TITLE])[schema.TITLE].to_pylist()
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=shape.pieces, special_tokens=[*SPECIAL]))
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    # The class names no token types of its own accord, and without them `CrossEncoder` would not read any.
    reads = ["input_ids", "token_type_ids", "attention_mask"]
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIAL, strict=True))
    reader = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, model_input_names=reads, **names)
    config = BertConfig(
        vocab_size=shape.pieces,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
        pad_token_id=0,
    )
    with new_folder(folder) as partial:
        reader.save_pretrained(partial)
        BertModel(config).save_pretrained(partial)
    return folder
