"""A model for other engines: sentence-transformers, TEI, vLLM, Elasticsearch, OpenSearch and Vespa.

Each takes one score of a pair's text. A model that reads or gives more is refused, with the commands of the student
that can stand for it (`distil:one_score`). What is written is checked beside the run; ``parity.jsonl`` holds pairs as
the engine is to be given them, with the scores that it must give.

Legend: ``P`` pairs, ``B`` of a batch.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.console import Bar
from zhichun.core.errors import UserError, suggest
from zhichun.core.files import new_folder, read_json, write_hashes, write_json, write_text
from zhichun.core.tasks import TASKS, Floats
from zhichun.data.dataset import Dataset, read_parquet
from zhichun.data.predictions import POOL_METADATA, PREDICTIONS_FILE, read_predictions
from zhichun.metrics import Judged, nDCG, paired_bootstrap
from zhichun.model.model_folder import TrainedModel
from zhichun.score.engine import predict_with
from zhichun.score.export.engine_forms import FORMS, Predict
from zhichun.score.export.export_folder import rendered
from zhichun.score.export.export_run import Sample, recorded_data
from zhichun.score.folders import ENGINE_FILE, fingerprint, finished, has_members, is_stack
from zhichun.score.torch_engine import TorchEngine
from zhichun.text.pairs import Pairs, assemble

PARITY: Final = "parity.jsonl"
KIND: Final = "zhichun export for an engine"
PAIRS: Final = 200
AT_ONCE: Final = 8
# What a form may differ from the run, and how far apart the scores of a parity file are: order is then no rounding.
TOLERANCE: Final = 1e-4
APART: Final = 1e-5
STUDENT: Final = (
    "Train a student of it: zhichun pool {run} --data DATA --queries QUERIES --out pool.parquet; then\n"
    "zhichun train distil:one_score --data DATA --out STUDENT --set train.pool=pool.parquet --set "
    "model.encoder={encoder}; then\nzhichun export STUDENT --for {engine} --out OUT"
)


@dataclass(frozen=True, eq=False)
class Parity:
    """Pairs as an engine is to be given them, the scores that it must give, and their rows of the dataset, ``[P]``."""

    queries: list[str]
    documents: list[str]
    scores: Floats
    rows: Int64

    @classmethod
    def draw(cls, trained: TrainedModel, sample: Sample, dataset: Dataset) -> "Parity":
        """Draw pairs that the engine's tokenizer reads as the run does, whose scores can be told apart.

        Raises
        ------
        UserError
            When it reads none so.
        """
        rows = np.concatenate([sample.check, sample.calibration])
        queries = [trained.featurizer.tokenizer.plain(text) for text in dataset.column(schema.QUERY)[rows]]
        products = read_parquet(dataset.folder / schema.PRODUCTS_FILE, columns=list(schema.TEXT_COLUMNS))
        documents = trained.featurizer.documents(products.take(pa.array(sample.pairs.product_row_P[rows])).to_pydict())
        alike = np.flatnonzero(_read_alike(trained, sample.pairs, rows, queries, documents))
        scores = np.zeros(len(rows), np.float32)
        logits_PC = predict_with(TorchEngine.of(trained.model), sample.pairs, rows[alike])
        scores[alike] = trained.task.predict(logits_PC).score
        kept: list[int] = []
        for place in alike.tolist():
            if (abs(scores[kept] - scores[place]) > APART).all() and len(kept) < PAIRS:
                kept.append(place)
        if not kept:
            raise UserError(
                "the tokenizer reads a product in one text otherwise than field by field.",
                remedy="Train an encoder whose tokenizer does not: of the kind of BERT or XLM-R.",
            )
        return cls([queries[at] for at in kept], [documents[at] for at in kept], scores[kept], rows[kept])

    def check(self, predict: Predict, sample: Sample, engine: str) -> float:
        """Compare what was written with the run; returns the greatest difference.

        Raises
        ------
        UserError
            When it does not score like the run.
        """
        batches = (self.rows[start : start + AT_ONCE] for start in range(0, len(self.rows), AT_ONCE))
        found_P = np.concatenate([predict(sample.pairs.collate(batch)) for batch in batches])
        greatest = float(abs(found_P - self.scores).max())
        if not greatest <= TOLERANCE:
            raise UserError(
                f"what was made for {engine} does not score like the model: {greatest:.2g} away.",
                remedy="Score the run with torch, or export it for another engine.",
            )
        return greatest

    def save(self, folder: Path) -> None:
        """Write ``parity.jsonl``."""
        rows = zip(self.queries, self.documents, self.scores.tolist(), strict=True)
        lines = (
            json.dumps({"query": query, "document": document, "score": score}, ensure_ascii=False)
            for query, document, score in rows
        )
        write_text(folder / PARITY, "".join(f"{line}\n" for line in lines))


def _read_alike(
    trained: TrainedModel, pairs: Pairs, rows: Int64, queries: Sequence[str], documents: Sequence[str]
) -> list[bool]:
    """Tell of which pairs an engine's tokenizer makes the tokens that the run reads.

    Engines differ in how they cut a query; where it takes less than half of the room, all cut the product.
    """
    tokenizer, most = trained.featurizer.tokenizer, trained.settings.max_length
    engine = Tokenizer.from_str(tokenizer.json)
    engine.enable_truncation(most, strategy="longest_first")
    alike = []
    for row, query, document in zip(rows.tolist(), queries, documents, strict=True):
        tokens = pairs.queries.tokens[pairs.query_row_P[row]]
        own, _ = assemble(tokens, pairs.products.tokens[pairs.product_row_P[row]], pairs.layout, most)
        same = engine.encode(query, document).ids == own.tolist()
        alike.append(same and 2 * len(tokens) < most - pairs.layout.specials)
    return alike


def export_for(
    run: Path, engine: str, out: Path, *, data: Path | None = None, overwrite: bool = False, shown: bool = True
) -> dict[str, Any]:
    """Export a run for another engine.

    Parameters
    ----------
    run
        Run folder of a finished training.
    engine
        ``sentence-transformers``, ``tei``, ``vllm``, ``elasticsearch``, ``opensearch`` or ``vespa``.
    out
        Folder to make.
    data
        Dataset folder that the pairs of the parity file are drawn from; the one that the run was trained on, if not
        given.
    overwrite
        Whether to replace an export that is there.
    shown
        Whether to show progress.

    Returns
    -------
    dict
        The content of ``engine.json``: how a document is written, and for a student what it costs (``student``).

    Raises
    ------
    UserError
        For a model that the engine cannot take: says which student can stand for it.
    """
    if engine not in FORMS:
        raise UserError(f"there is no engine {engine!r}.", remedy=suggest(engine, FORMS))
    if has_members(run):
        _refuse(run, engine, ["reads several models"])
    model = finished(run)
    trained = TrainedModel.load(model)
    form = FORMS[engine]
    _refuse(run, engine, _beyond(trained, one_output=form.one_output), trained.settings.encoder)
    with (
        new_folder(out, overwrite=overwrite, replaceable=lambda path: (path / ENGINE_FILE).is_file()) as folder,
        Bar("export", shown=shown) as bar,
    ):
        bar.start(0, 3)
        bar.note("scoring the pairs of the parity file")
        data = data or recorded_data(run)
        dataset, sample = Dataset.open(data), Sample.draw(run, trained, data)
        parity = Parity.draw(trained, sample, dataset)
        bar.advance(0)
        bar.note(f"writing the model for {engine}")
        predict = form.write(trained, out.name, folder)
        bar.advance(0)
        about = {
            "format": 1,
            "kind": KIND,
            "engine": engine,
            "model": fingerprint(model),
            "task": trained.task.name,
            "max_length": trained.settings.max_length,
            "fields": trained.settings.fields,
            "separator": trained.featurizer.tokenizer.separator,
            "pairs": len(parity.rows),
            "greatest_difference": parity.check(predict, sample, engine),
            "student": cost_of_student(run, dataset),
        }
        parity.save(folder)
        write_text(folder / "README.md", rendered("README.md", about | {"name": out.name}))
        write_json(folder / ENGINE_FILE, about)
        write_hashes(folder)
        bar.advance(0)
    return about


def _beyond(trained: TrainedModel, *, one_output: bool) -> list[str]:
    """Say what a model has that an engine does not know."""
    settings, sides = trained.settings, ("trigrams", "country", "brand", "color")
    found = [name for name in sides if getattr(settings, name) is not None]
    beyond = [f"reads {', '.join(found)} beside the text"] if found else []
    if settings.lists is not None:
        beyond.append("reads the other products of a list")
    if settings.query_tokens is not None:
        beyond.append("reads query and product apart")
    if trained.task.calibration.curves:
        beyond.append("has probabilities that `zhichun calibrate` bends by curves")
    if one_output and settings.pooling != "first":
        beyond.append("pools the tokens of each field")
    if one_output and trained.task.outputs > 2:
        beyond.append(f"has {trained.task.outputs} outputs, whose expected gain no linear layer gives")
    return beyond


def _refuse(run: Path, engine: str, beyond: Sequence[str], encoder: str = "ENCODER") -> None:
    if beyond:
        raise UserError(
            f"{engine} takes a model that gives one score for a pair's text; this one {', and it '.join(beyond)}.",
            file=run,
            remedy=STUDENT.format(run="ONE_OF_ITS_RUNS" if is_stack(run) else run, engine=engine, encoder=encoder),
        )


def cost_of_student(run: Path, dataset: Dataset) -> dict[str, Any] | None:
    """Compare a student with its teacher on what both held out, by nDCG; ``None`` for a model without a teacher.

    Where the teacher's predictions are not there, all but the teacher's name is missing.
    """
    train = read_json(run / "recipe.json", {"train": dict})["train"]
    if train.get("pool") is None or not Path(train["pool"]).is_file():
        return None if train.get("pool") is None else {"teacher": None}
    about = json.loads((pq.read_schema(train["pool"]).metadata or {}).get(POOL_METADATA, b"null"))
    teacher = None if about is None else about["teacher"]
    tables = [folder / PREDICTIONS_FILE for folder in (run, Path(teacher or ""))]
    if teacher is None or not all(table.is_file() for table in tables):
        return {"teacher": teacher and Path(teacher).name}
    said = [read_predictions([table], dataset, TASKS["gain"]) for table in tables]
    rows = np.flatnonzero((said[0].times_E > 0) & (said[1].times_E > 0))
    query_ids, labels = dataset.column(schema.QUERY_ID)[rows], dataset.labels[rows]
    per_query = [nDCG().per_query(Judged(query_ids, labels, scores=each.mean_EC[rows, 0]))[1] for each in said]
    figures = {"teacher": Path(teacher).name, "pairs": len(rows), "queries": len(per_query[0])}
    if len(per_query[0]) < 2:
        return figures
    found = asdict(paired_bootstrap(*per_query))
    means = {"ndcg": float(per_query[0].mean()), "teacher_ndcg": float(per_query[1].mean())}
    return figures | means | {name: found[name] for name in ("mean", "low", "high", "p")}
