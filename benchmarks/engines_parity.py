r"""What `zhichun export --for` writes, scored by the engines' own code: the same scores, in the same order.

    python benchmarks/engines_parity.py --encoder bert=FOLDER [--random-xlm-r TOKENIZER_FOLDER] \
        [--python sentence-transformers=PYTHON --python eland=PYTHON …] [--work FOLDER]

Trains the recipe `distil:one_score` shortly on the sample shop from each encoder, exports it for all six engines
and lets their code score the pairs of each parity file (`tests/clients/engine_clients.py`), in a process of the Python
that is named for it: the engines' pins disagree. `--random-xlm-r` adds a small XLM-R of random weights with the
tokenizer of a folder. Two classes (`substitute`) of the last encoder are exported too. A way whose libraries are not
there is named as not started. Called again, it goes on where it was stopped. Writes
``benchmarks/results/engines_parity.json``; the exit status is 1 if one has fewer than 200 pairs, is more than 0.001
away or changes the order.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from machine import circumstances, command_as_given
from tokenizers import Tokenizer
from transformers import XLMRobertaConfig, XLMRobertaModel

from zhichun.core.files import write_json
from zhichun.data.prepare.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop
from zhichun.fit.recipe import load_recipe
from zhichun.fit.train import train
from zhichun.score.export.for_engines import PAIRS, export_for
from zhichun.score.folders import ENGINE_FILE

HERE = Path(__file__).parent
CLIENTS = HERE.parent / "tests" / "clients" / "engine_clients.py"
WAYS = {
    "sentence-transformers": ("sentence-transformers",),
    "tei": ("transformers",),
    "vllm": ("transformers", "vllm"),
    "elasticsearch": ("torch.jit", "eland"),
    "opensearch": ("onnxruntime",),
    "vespa": ("onnxruntime",),
}
MOST = 1e-3
TRAINING = ("train.pool=null", "train.epochs=1", "train.learning_rate=1e-4", "model.max_length=64")
RANDOM = ("train.epochs=3", "train.learning_rate=1e-3")
TWO_CLASSES = ("task=substitute", "objective.loss=CrossEntropy", "train.metric=micro_f1")
NOT_HERE = {
    "tei": "text-embeddings-inference is a Rust server, for which no build is at hand here",
    "elasticsearch": "Elasticsearch's own tokenizer and libtorch run in its server",
    "opensearch": "ml-commons runs in OpenSearch's server",
    "vespa": "the ranking expressions run in Vespa's server; they are worked out from the schema's text instead",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", action="append", default=[], help="KIND=FOLDER, may be given more than once")
    parser.add_argument("--random-xlm-r", type=Path, help="folder of a tokenizer of XLM-R's kind")
    parser.add_argument("--python", action="append", default=[], help="WAY=PYTHON, may be given more than once")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "engines-parity")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "engines_parity.json")
    given = parser.parse_args()
    encoders = dict(each.split("=", 1) for each in given.encoder)
    pythons = dict(each.split("=", 1) for each in given.python)
    data = given.work / "data"
    if not data.is_dir():
        write_sample_shop(given.work / "shop", products=600, queries=80, overwrite=True)
        prepare(given.work / "shop", data)
    own: dict[str, tuple[str, ...]] = {}
    if given.random_xlm_r:
        own["xlm-r, random"] = RANDOM
        encoders["xlm-r, random"] = random_xlm_r(given.random_xlm_r, given.work / "xlm-r-encoder")
    runs = {kind: run_of(given.work / kind, data, path, own.get(kind, ())) for kind, path in encoders.items()}
    kind, encoder = list(encoders.items())[-1]
    runs[f"{kind}, two classes"] = run_of(given.work / f"{kind}-two", data, encoder, (*own.get(kind, ()), *TWO_CLASSES))
    about = {
        "what": "scores by the engines' own code of what zhichun export --for writes",
        "command": command_as_given("engines_parity.py"),
        **circumstances("zhichun", "torch", "transformers", "tokenizers", "onnxruntime"),
        "not_started": NOT_HERE,
    }
    rows = []
    for kind, run in reversed(runs.items()):  # the small ones first
        for row in measured(kind, run, given.work, pythons):
            said = row.get("not_started") or f"{row['greatest_difference']:.1e}, order {row['places_of_order_changed']}"
            print(f"{row['model']:24} {row['engine']:22} {row['by']:22} {said}", flush=True)
            rows.append(row)
            write_json(given.out, about | {"rows": rows})
    sys.exit(any(is_wrong(row) for row in rows))


def is_wrong(row: dict[str, Any]) -> bool:
    """Whether what was scored is too few pairs, too far away, or in another order."""
    if "not_started" in row:
        return False
    return row["pairs"] < PAIRS or row["greatest_difference"] > MOST or row["places_of_order_changed"] > 0


def random_xlm_r(tokenizer: Path, folder: Path) -> str:
    """Make a small XLM-R of random weights with a tokenizer of its kind; gives its folder."""
    if not (folder / "config.json").is_file():
        torch.manual_seed(0)
        files = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
        size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
        size |= {"max_position_embeddings": 130, "initializer_range": 0.1}  # so that scores lie apart
        vocabulary = Tokenizer.from_file(str(tokenizer / "tokenizer.json")).get_vocab_size()
        encoder = XLMRobertaModel(XLMRobertaConfig(vocab_size=vocabulary, **size))
        encoder.save_pretrained(folder)
        for name in files:
            shutil.copy(tokenizer / name, folder / name)
    return str(folder)


def run_of(folder: Path, data: Path, encoder: str, more: tuple[str, ...] = ()) -> Path:
    """Train a text-only model from an encoder, or take up the run that is there."""
    recipe = load_recipe("distil:one_score").with_settings([*TRAINING, f"model.encoder={encoder}", *more])
    return train(recipe, data, folder, resume=True).path


def measured(kind: str, run: Path, work: Path, pythons: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Export a run for each engine and let each way score it; what an earlier call measured is not measured again."""
    measured_before = work / "rows.json"
    kept = json.loads(measured_before.read_text("utf-8")) if measured_before.is_file() else {}
    for engine, ways in WAYS.items():
        folder = work / "exports" / run.name / engine
        made = folder / ENGINE_FILE
        about = json.loads(made.read_text("utf-8")) if made.is_file() else export_for(run, engine, folder, shown=False)
        for way in ways:
            name = f"{kind}, {engine} by {way}"
            if name not in kept:
                row = {"model": kind, "engine": engine, "by": way, "when_exported": about["greatest_difference"]}
                row |= scored(pythons.get(way, sys.executable), engine, way, folder)
                if "not_started" in row:
                    yield row
                    continue
                kept[name] = row
                write_json(measured_before, kept)
            yield kept[name]


def scored(python: str, engine: str, way: str, folder: Path) -> dict[str, Any]:
    """Let an engine's code score a folder, in its own environment."""
    command = [python, str(CLIENTS), engine, way, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raised = [line for line in done.stderr.splitlines() if re.match(r"[\w.]+(Error|Exception)\b", line)]
        return {"not_started": " ".join((raised or done.stderr.split())[-1:]).replace(str(folder), folder.name)[:300]}
    found: dict[str, Any] = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    return found


if __name__ == "__main__":
    main()
