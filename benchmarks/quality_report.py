"""The results of `quality_esci.py`: figures of each system, paired differences, and the page that shows them.

Legend: ``P`` pairs, ``Q`` queries.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from cross_encoder import in_bf16
from machine import circumstances
from rendered_parts import chance
from tables.paper_tables import whole_recipe

from zhichun.core import schema
from zhichun.core.files import read_json, write_json, write_text
from zhichun.fit.recipe import Recipe
from zhichun.metrics import F1, Judged, LogLoss, MacroF1, Metric, MicroF1, label_codes, nDCG, paired_bootstrap

OURS, THEIRS = "zhichun", "sentence-transformers"
TEXT_ONLY, WHOLE = "zhichun-text-only", "zhichun-whole-recipe"
SYSTEMS = {
    OURS: "encoder, trigrams, embeddings of country, brand and color",
    THEIRS: "`CrossEncoder`, its own trainer",
    TEXT_ONLY: "encoder alone",
    WHOLE: "as zhichun, with all that the paper adds to cross-entropy",
}
# What the whole recipe has that plain cross-entropy has not, as settings.
PLAIN_ROW, WHOLE_ROW = whole_recipe().rows
ADDED = [setting for setting in WHOLE_ROW.settings if setting not in PLAIN_ROW.settings]
COMPARED = ("micro_f1", "ndcg")
METRICS: tuple[Metric, ...] = (MicroF1(), MacroF1(), nDCG(), LogLoss(), *(F1(label) for label in schema.LABELS))
COLUMNS = ("micro_f1", "macro_f1", "ndcg", *(f"f1.{label}" for label in schema.LABELS), "seconds")
LIBRARIES = ("zhichun", "torch", "transformers", "tokenizers", "accelerate", "sentence-transformers", "numpy")


def compare(
    outcomes: Mapping[str, Sequence[Path]], seeds: Sequence[int], recipe: Recipe, manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """Measure every outcome and the differences: our systems' from theirs, the whole recipe's from plain training.

    Parameters
    ----------
    outcomes
        Of each system, the folder of each seed with ``scored.parquet`` and ``outcome.json``.
    seeds
        The seeds, in the same order.
    recipe, manifest
        What both were trained with and on.
    """
    judged = {system: [_judged(folder) for folder in folders] for system, folders in outcomes.items()}
    always = judged[THEIRS][0].always("E")
    result = {
        **circumstances(*LIBRARIES),
        "sources": manifest["sources"],
        "recipe": _shared(recipe),
        "systems": {system: _figures(system, judged[system], seeds, folders) for system, folders in outcomes.items()},
        "always_exact": {metric.name: float(metric(always)) for metric in (MicroF1(), MacroF1())},
        "differences": {system: _differences(judged[system], judged[THEIRS]) for system in judged if system != THEIRS},
    }
    if WHOLE in judged:
        result["whole_recipe"] = {"settings": ADDED, "minus_zhichun": _differences(judged[WHOLE], judged[OURS])}
    return result


def write_report(result: dict[str, Any], folder: Path) -> None:
    """Write ``quality_esci.json`` and ``.md``; with the whole recipe ``quality_esci_whole_recipe``."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "quality_esci_whole_recipe" if WHOLE in result["systems"] else "quality_esci"
    write_json(folder / f"{name}.json", {"benchmark": "quality_esci", **result})
    write_text(folder / f"{name}.md", _page(result))


def _figures(system: str, runs: Sequence[Judged], seeds: Sequence[int], folders: Sequence[Path]) -> dict[str, Any]:
    """Give the metrics and the seconds of each seed, and their means."""
    rows = [
        {"seed": seed, **{metric.name: float(metric(run)) for metric in METRICS}, **read_json(folder / "outcome.json")}
        for seed, run, folder in zip(seeds, runs, folders, strict=True)
    ]
    names = [name for name in rows[0] if name != "seed"]
    mean = {name: float(np.mean([row[name] for row in rows])) for name in names}
    return {"what": SYSTEMS[system], "mean": mean, "seeds": rows}


def _judged(folder: Path) -> Judged:
    table = pq.read_table(folder / "scored.parquet").sort_by(schema.EXAMPLE_ID)
    probabilities = np.stack([table.column(f"p_{label}").to_numpy() for label in schema.LABELS], axis=1)
    return Judged(
        table.column(schema.QUERY_ID).to_numpy(),
        label_codes(table.column(schema.LABEL).to_pylist()),
        scores=table.column("gain").to_numpy(),
        predictions=probabilities.argmax(axis=1),
        probabilities=probabilities,
    )


def _differences(first: Sequence[Judged], second: Sequence[Judged]) -> dict[str, Any]:
    return {metric: _difference(first, second, metric) for metric in COMPARED}


def _difference(first: Sequence[Judged], second: Sequence[Judged], metric: str) -> dict[str, Any]:
    """Bootstrap over queries the difference of the value of each pair, or query, averaged over the seeds."""

    def worth(runs: Sequence[Judged]) -> npt.NDArray[np.float64]:
        each = [MicroF1().per_pair(run) if metric == "micro_f1" else nDCG().per_query(run)[1] for run in runs]
        mean: npt.NDArray[np.float64] = np.mean(each, axis=0)
        return mean

    query_ids = first[0].query_ids if metric == "micro_f1" else None
    return vars(paired_bootstrap(worth(first), worth(second), query_ids=query_ids)).copy()


def _shared(recipe: Recipe) -> dict[str, Any]:
    """Give the values that both systems have, without the encoder's place on this machine."""
    settings = recipe.train
    return {
        "loss": "cross-entropy, four classes",
        "max_length": recipe.model.max_length,
        "fields": list(recipe.model.fields),
        **{name: getattr(settings, name) for name in ("epochs", "batch_size", "learning_rate", "warmup")},
        **{name: getattr(settings, name) for name in ("weight_decay", "clip")},
        "schedule": "linear warm-up, cosine to zero",
        "kept": "the best epoch by micro-F1 on the validation pairs",
        "precision": "bf16 autocast" if in_bf16(settings) else "fp32",
    }


def _page(result: dict[str, Any]) -> str:
    """Write the result for people."""
    systems, pairs, always = result["systems"], result["pairs"], result["always_exact"]
    whole = result.get("whole_recipe")
    seeds = ", ".join(str(row["seed"]) for row in systems[OURS]["seeds"])
    blank = " |" * (len(COLUMNS) - 2)
    lines = [
        "# Fine-tuning: zhichun and sentence-transformers",
        "",
        f"Encoder {result['encoder']}; an extract of Shopping Queries: {pairs['training']:,} pairs to train "
        f"on, {pairs['validation']:,} to choose the epoch, {pairs['test']:,} to test on. Means over the seeds {seeds}; "
        "seconds are those of one training.",
        "",
        *_head("system"),
        *(f"| {system}: {of['what']} | {_cells(of['mean'])} |" for system, of in systems.items()),
        f"| always Exact | {always['micro_f1']:.3f} | {always['macro_f1']:.3f} |{blank}",
        "",
        *(line for system, found in result["differences"].items() for line in _found(system, THEIRS, found)),
        *(_found(WHOLE, OURS, whole["minus_zhichun"]) if whole else []),
        "Each seed:",
        "",
        *_head("system", "seed"),
        *(f"| {name} | {row['seed']} | {_cells(row)} |" for name, of in systems.items() for row in of["seeds"]),
        "",
        *_circumstances(result),
    ]
    return "\n".join(lines)


def _found(system: str, other: str, differences: Mapping[str, Any]) -> list[str]:
    lines = [f"{system} minus {other}, paired bootstrap over {differences['micro_f1']['queries']} queries:", ""]
    for metric, found in differences.items():
        interval = f"95 % from {found['low']:+.4f} to {found['high']:+.4f}"
        lines.append(f"* {metric}: {found['mean']:+.4f}, {interval}, {chance(found['p'])}")
    return [*lines, ""]


def _circumstances(result: dict[str, Any]) -> list[str]:
    where = result["machine"]
    hardware = f"{where['processor']}, {where['cores']} cores, {where['threads']} threads, GPU {where['gpu'] or 'none'}"
    whole = result.get("whole_recipe")
    return [
        f"Both: {_listed(result['recipe'])}.",
        "",
        *([f"{WHOLE} differs from this in {', '.join(whole['settings'])}.", ""] if whole else []),
        f"{result['date']}; {hardware}; {_listed(result['versions'])}.",
        "",
        f"```bash\n{result['command']}\n```",
        "",
    ]


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {' '.join(value) if isinstance(value, list) else value}" for name, value in values.items()
    )


def _head(*first: str) -> list[str]:
    return ["| " + " | ".join([*first, *COLUMNS]) + " |", "| --- |" + " ---: |" * (len(first) + len(COLUMNS) - 1)]


def _cells(figures: Mapping[str, float]) -> str:
    return " | ".join(f"{figures[name]:.0f}" if name == "seconds" else f"{figures[name]:.3f}" for name in COLUMNS)
