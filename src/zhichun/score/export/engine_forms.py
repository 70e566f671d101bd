"""The forms in which other engines take a model, each of which writes a folder and can be scored to check it.

* sentence-transformers, TEI, vLLM: transformers' ``…ForSequenceClassification`` with one output, in safetensors; the
  sigmoid of its logit is the score.
* Elasticsearch: the same, and beside it the TorchScript file, vocabulary and configuration that eland uploads.
* OpenSearch: a zip of an ONNX graph and ``tokenizer.json``, and the configuration to register it with.
* Vespa: an application package: ONNX graph, ``tokenizer.json``, ``services.xml`` and a schema.

Legend: ``B`` pairs of a batch, ``D`` hidden size.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import torch
from tokenizers.models import Unigram, WordPiece
from torch import Tensor, nn

from zhichun.core.errors import UserError
from zhichun.core.files import sha256, write_json, write_text
from zhichun.core.tasks import Floats
from zhichun.model.encoder import quietly, sequence_classifier
from zhichun.model.model_folder import TrainedModel, tokenizer_config
from zhichun.score.engine import required
from zhichun.score.export.export_folder import rendered
from zhichun.score.export.graph import quiet, write_one_score
from zhichun.text.pairs import Arrays

# Scores a batch of `Pairs.collate` by what was written, ``[B]``.
Predict = Callable[[Arrays], Floats]
READ: Final = ("input_ids", "attention_mask", "token_type_ids")
SIGMOID: Final = "torch.nn.modules.activation.Sigmoid"
TOKENIZER: Final = "tokenizer.json"


@dataclass(frozen=True)
class Form:
    """How a model is written for an engine.

    Parameters
    ----------
    write
        Takes a model, its name and the folder to write; returns what scores by the files.
    one_output
        Whether the engine computes a score from one logit; the others take a graph that gives the score itself.
    """

    write: Callable[[TrainedModel, str, Path], Predict]
    one_output: bool


def _classifier(trained: TrainedModel) -> Any:
    """Make transformers' classifier of a regressor, or of two classes, whose softmax is the sigmoid of a difference."""
    dense, last = (layer for layer in trained.model.head if isinstance(layer, nn.Linear))
    if trained.task.classes:
        folded = nn.Linear(last.in_features, 1)
        with torch.no_grad():
            folded.weight.copy_((last.weight[1:] - last.weight[:1]) / trained.task.calibration.temperature)
            folded.bias.copy_((last.bias[1:] - last.bias[:1]) / trained.task.calibration.temperature)
        last = folded
    return sequence_classifier(trained.model.encoder, dense, last)


def _write_classifier(trained: TrainedModel, name: str, folder: Path) -> Predict:
    model, tokenizer, most = _classifier(trained), trained.featurizer.tokenizer, trained.settings.max_length
    model.config.sentence_transformers = {"activation_fn": SIGMOID}
    with quietly():
        model.save_pretrained(folder)
    tokenizer.save(folder)
    write_json(folder / "tokenizer_config.json", tokenizer_config(tokenizer, most))
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": most})
    with quietly():
        loaded = type(model).from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    return partial(_torch_scores, lambda given: loaded(**given).logits, READ)


@torch.inference_mode()
def _torch_scores(model: Callable[[dict[str, Tensor]], Tensor], names: tuple[str, ...], batch: Arrays) -> Floats:
    logits_B1 = model({name: torch.from_numpy(batch[name]) for name in names if name in batch})
    scores_B: Floats = torch.sigmoid(logits_B1[:, 0]).numpy()
    return scores_B


class _Traced(nn.Module):
    """A classifier with the inputs that Elasticsearch gives, in their order; its logit is all that comes out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, types: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Return ``[B, 1]``."""
        given = {"token_type_ids": types, "position_ids": positions} if positions is not None else {}
        logits_B1: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **given)[0]
        return logits_B1


def _write_elasticsearch(trained: TrainedModel, name: str, folder: Path) -> Predict:
    settings = {"max_sequence_length": trained.settings.max_length, "truncate": "second", "with_special_tokens": True}
    kind, own, vocabulary = _elasticsearch_tokenizer(trained)
    _write_classifier(trained, name, folder)
    if kind == "bert":  # so that eland, which wants a tokenizer of a class that it knows, reads the folder itself too
        names = tokenizer_config(trained.featurizer.tokenizer, trained.settings.max_length) | own
        write_json(folder / "tokenizer_config.json", names | {"tokenizer_class": "BertTokenizer"})
        write_text(folder / "vocab.txt", "".join(f"{piece}\n" for piece in vocabulary["vocabulary"]))
    example = torch.ones(1, trained.settings.max_length, dtype=torch.long)
    inputs = (example, example, 0 * example, torch.arange(example.shape[1])[None]) if kind == "bert" else (example,) * 2
    path = folder / "traced_pytorch_model.pt"
    with quiet("torch"), torch.inference_mode():
        traced = torch.jit.trace(_Traced(_classifier(trained)).eval(), inputs)  # type: ignore[no-untyped-call]
        torch.jit.save(torch.jit.freeze(traced), path)
    write_text(folder / "vocabulary.json", json.dumps(vocabulary, ensure_ascii=False))
    tokenization = {"tokenization": {kind: settings | own}}
    about = {"description": f"{name}: relevance of a product for a query", "model_type": "pytorch"}
    config = {"inference_config": {"text_similarity": tokenization}, "input": {"field_names": ["text_field"]}}
    write_json(folder / "elasticsearch.json", about | config)
    with quiet("torch"):
        loaded = torch.jit.load(path)  # type: ignore[no-untyped-call]

    def scored(given: dict[str, Tensor]) -> Tensor:
        arrays = [given["input_ids"], given["attention_mask"]]
        if kind == "bert":
            positions = torch.arange(arrays[0].shape[1]).expand(arrays[0].shape)
            arrays += [given.get("token_type_ids", 0 * arrays[0]), positions]
        logits_B1: Tensor = loaded(*arrays)
        return logits_B1

    return partial(_torch_scores, scored, READ)


def _elasticsearch_tokenizer(trained: TrainedModel) -> tuple[str, dict[str, Any], dict[str, list[Any]]]:
    """Describe a tokenizer as Elasticsearch wants it: kind, options and vocabulary."""
    tokenizer = trained.featurizer.tokenizer
    read = json.loads(tokenizer.json)
    normalizer, splitter = json.dumps(read["normalizer"]), json.dumps(read["pre_tokenizer"])
    pieces = [piece for piece, _ in sorted(tokenizer.tokenizer.get_vocab().items(), key=lambda item: item[1])]
    bert = read["normalizer"] or {}
    lower = bert.get("lowercase")
    alike = bert.get("type") == "BertNormalizer" and bert["strip_accents"] in (None, lower)
    alike = alike and bert["handle_chinese_chars"]
    if isinstance(tokenizer.tokenizer.model, WordPiece) and alike and "[CLS]" in pieces:
        return "bert", {"do_lower_case": lower}, {"vocabulary": pieces}
    plain = '"Digits"' not in splitter and '"Metaspace"' in splitter
    if isinstance(tokenizer.tokenizer.model, Unigram) and '"Precompiled"' in normalizer and plain:
        scores = [score for _, score in read["model"]["vocab"]]
        return "xlm_roberta", {}, {"vocabulary": pieces, "scores": scores + [0.0] * (len(pieces) - len(scores))}
    raise UserError(
        "Elasticsearch tokenises by code of its own, which reads texts otherwise than this model's tokenizer.",
        remedy="Train an encoder with the tokenizer of BERT or XLM-R; `tiny` has one of its own.",
    )


def _write_opensearch(trained: TrainedModel, name: str, folder: Path) -> Predict:
    graph = folder / f"{name}.onnx"
    write_one_score(trained, READ, graph)
    tokenizer = json.loads(trained.featurizer.tokenizer.json)
    cut = {"direction": "Right", "max_length": trained.settings.max_length, "strategy": "LongestFirst", "stride": 0}
    write_text(folder / TOKENIZER, json.dumps(tokenizer | {"truncation": cut}, ensure_ascii=False))
    predict, archive = _onnx(graph), folder / f"{name}.zip"
    with ZipFile(archive, "w", ZIP_DEFLATED) as packed:
        for path in (graph, folder / TOKENIZER):
            packed.write(path, path.name)
            path.unlink()
    encoder = trained.model.encoder.model.config
    config = {
        "name": name,
        "version": "1.0.0",
        "description": "Relevance of a product for a query, from 0 to 1",
        "model_format": "ONNX",
        "function_name": "TEXT_SIMILARITY",
        "model_task_type": "TEXT_SIMILARITY",
        "model_content_size_in_bytes": archive.stat().st_size,
        "model_content_hash_value": sha256(archive),
        "model_config": {
            "model_type": encoder.model_type,
            "embedding_dimension": 1,
            "framework_type": "huggingface_transformers",
            "all_config": encoder.to_json_string(),
        },
    }
    write_json(folder / "ml-commons_model_config.json", config)
    return predict


def _write_vespa(trained: TrainedModel, name: str, folder: Path) -> Predict:
    tokenizer, layout = trained.featurizer.tokenizer, trained.featurizer.tokenizer.layout
    if len(layout.prefix) != 1 or len(layout.suffix) != 1 or len(set(layout.middle)) != 1:
        raise UserError(
            "the tokenizer puts special tokens around a pair that no expression for Vespa is written for.",
            remedy="Train an encoder of the kind of BERT or XLM-R.",
        )
    types = trained.model.encoder.reads_types and layout.first_type != layout.second_type
    (folder / "models").mkdir()
    (folder / "schemas").mkdir()
    write_one_score(trained, READ if types else READ[:2], folder / "models" / "model.onnx")
    tokenizer.save(folder / "models")
    values = {
        "fields": trained.settings.fields,
        "separator": tokenizer.separator,
        "length": trained.settings.max_length,
        "layout": layout,
        "pad": tokenizer.pad_id,
        "types": types,
    }
    write_text(folder / "services.xml", rendered("services.xml", values))
    write_text(folder / "schemas" / "product.sd", rendered("product.sd", values))
    return _onnx(folder / "models" / "model.onnx")


def _onnx(graph: Path) -> Predict:
    session = required("onnxruntime").InferenceSession(graph.read_bytes(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def predict(batch: Arrays) -> Floats:
        given = {name: batch.get(name, np.zeros_like(batch["input_ids"])) for name in names}
        scores_B: Floats = session.run(None, given)[0][:, 0]
        return scores_B

    return predict


FORMS: Final = {
    **dict.fromkeys(("sentence-transformers", "tei", "vllm"), Form(_write_classifier, one_output=True)),
    "elasticsearch": Form(_write_elasticsearch, one_output=True),
    "opensearch": Form(_write_opensearch, one_output=False),
    "vespa": Form(_write_vespa, one_output=False),
}
