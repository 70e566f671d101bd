"""Writes the README's results anew from the JSON files in ``benchmarks/results``, so that no figure is typed by hand.

    python benchmarks/render_results.py

A benchmark whose layout is known here gets a table; any other file is named, so that none is overlooked.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from zhichun.errors import UserError
from zhichun.files import read_json, write_text

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results -->", "<!-- /results -->"
NONE_YET = "No result is recorded yet."
TITLES = {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "ndcg": "nDCG"}


def main() -> None:
    """Rewrite the README."""
    readme = ROOT / "README.md"
    write_text(readme, insert(readme.read_text("utf-8"), render(ROOT / "benchmarks" / "results")))


def insert(page: str, results: str) -> str:
    """Put results between the markers of a page.

    Raises
    ------
    UserError
        When the page does not have both markers once.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise UserError(f"the page must have {BEGIN} and then {END}, once each.", file="README.md")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{results}\n{END}{rest.partition(END)[2]}"


def render(folder: Path) -> str:
    """Write all results of a folder as Markdown, in order of their names.

    Parameters
    ----------
    folder
        Where the JSON files are; it need not exist.

    Raises
    ------
    UserError
        For a file that is damaged or lacks a figure.
    """
    parts = []
    for path in sorted(folder.glob("*.json")):
        try:
            parts.append(LAYOUTS.get(path.stem, _named)(path.stem, read_json(path)))
        except (KeyError, IndexError, TypeError) as error:
            raise UserError(f"lacks a figure ({error!r}).", file=path, remedy="Run its benchmark again.") from error
    return "\n\n".join(parts) or NONE_YET


def _quality_esci(name: str, result: Mapping[str, Any]) -> str:
    systems, pairs, columns = result["systems"], result["pairs"], [*TITLES, "seconds"]
    seeds = len(next(iter(systems.values()))["seeds"])
    rows = [[f"{system}: {of['what']}", *_cells(of["mean"], columns)] for system, of in systems.items()]
    rows.append(["always Exact", *_cells(result["always_exact"], columns)])
    lines = [
        f"**Fine-tuning, beside sentence-transformers.** Encoder {result['encoder']}; pairs of the Shopping Queries "
        f"Dataset, {pairs['training']:,} to train on and {pairs['test']:,} to test on; means over {seeds} seeds; gains "
        f"`esci`; seconds of one training on {_machine(result)}.",
        "",
        _table(["system", *(TITLES.get(column, column) for column in columns)], rows),
        "",
    ]
    for system, found in result["differences"].items():
        lines.append(f"{system} minus sentence-transformers: {_differences(found)}.")
    if "whole_recipe" in result:
        lines.append(f"zhichun-whole-recipe minus zhichun: {_differences(result['whole_recipe']['minus_zhichun'])}.")
    return "\n".join([*lines, _source(name, result)])


def _two_sides(name: str, result: Mapping[str, Any], title: str, sides: tuple[str, str], what: str) -> str:
    columns = ["micro_f1", "ndcg"]
    rows = [[f"{side} {what}", *(f"{np.mean(result[side][column]):.3f}" for column in columns)] for side in sides]
    baselines = result["baselines"]
    rows.append(["always Exact, random order", f"{baselines['always_exact']:.3f}", f"{baselines['random_order']:.3f}"])
    lines = [
        f"**{title}.** Recipe `tiny` on the sample shop, {result['data']['test_pairs']:,} test pairs; "
        f"means over {len(result['seeds'])} seeds; gains `esci`.",
        "",
        _table(["", *(TITLES[column] for column in columns)], rows),
        "",
        f"{' minus '.join(sides)}: {_differences(result['difference'])}.",
    ]
    return "\n".join([*lines, _source(name, result)])


def _step_cost(name: str, result: Mapping[str, Any]) -> str:
    batch, ways = result["batch"], result["ways"]
    rows = [[way, f"{of['times_plain']:.2f}"] for way, of in ways.items()]
    lines = [
        f"**What a step costs with each method.** Times a plain step, both with the optimiser's step: {batch['pairs']} "
        f"pairs of {batch['tokens']} tokens in {batch['precision']}, an encoder of the shape of all-MiniLM-L6-v2, "
        f"medians of {len(next(iter(ways.values()))['seconds'])}; one thread of {result['machine']['processor']}.",
        "",
        _table(["step with", "times a plain step"], rows),
        "",
    ]
    return "\n".join([*lines, _source(name, result)])


def _prepare_scale(name: str, result: Mapping[str, Any]) -> str:
    full, plain, cost = result["full"], result["against_pandas_and_python"], result["cost_per_row_full_to_tenth"]
    lines = [
        "**Preparing data at the size of the real set.** "
        f"A sample shop of {full['pairs']:,} pairs on {full['products']:,} products, with vocabularies: "
        f"{full['seconds']['wall']:.0f} s, peak memory {full['peak_gib']:.1f} GiB, on {_machine(result)}. "
        f"A row costs {cost['wall']:.2f} times what it costs in a run on one tenth. "
        f"On {plain['pairs']:,} pairs it is {plain['times_faster']['wall']:.1f} times as fast as plain pandas and "
        "Python in the same run, with equal output.",
    ]
    return "\n".join([*lines, _source(name, result)])


def _audit_shop(name: str, result: Mapping[str, Any]) -> str:
    issues, dropped, epochs = result["issues"], result["dropped"], result["recipe"]["epochs"]
    lines = [
        f"**Wrong labels found by the audit.** Sample shop, {result['pairs']:,} judged training pairs, "
        f"{result['wrong']:,} of them wrong ({result['chance']:.1%}); recipe `tiny`, {epochs} epochs, "
        f"{result['data']['folds']} folds; {result['seconds'] / 60:.0f} minutes on {_machine(result)}.",
        "",
        _table(
            ["", "pairs", "wrong", "precision", "recall", "times chance"],
            [
                [
                    what,
                    f"{of['pairs']:,}",
                    f"{of['wrong']:,}",
                    *(f"{of[figure]:.3f}" for figure in ("precision", "recall")),
                    f"{of['times_chance']:.1f}",
                ]
                for what, of in (("in doubt", issues), (f"worst {result['drop']:.0%}, dropped", dropped))
            ],
        ),
        "",
        f"Of the wrong labels found, {result['likely_label_right_of_wrong_issues']:.1%} have the right one as the "
        "likely label.",
    ]
    return "\n".join([*lines, _source(name, result)])


def _pretrain_step(name: str, result: Mapping[str, Any]) -> str:
    shapes = result["shapes"]
    rows = [
        [
            shape,
            f"{of['parameters'] / 1e6:,.0f}",
            f"{of['products_per_step']}",
            f"{of['tokens_per_second']:,.0f}",
            f"{of['waiting_share']:.1%}",
            f"{of['making']['tokens_per_second']:,.0f}",
        ]
        for shape, of in shapes.items()
    ]
    heads = ["encoder", "million parameters", "products a step", "tokens/s", "time waiting for data", "made/s"]
    lines = [
        "**A step of pre-training.** Random weights, examples made on the fly from a sample shop with long texts; "
        f"the last column is how many tokens one thread makes when nobody holds it up; on {_machine(result)}.",
        "",
        _table(heads, rows),
        "",
    ]
    return "\n".join([*lines, _source(name, result)])


def _score_cpu(name: str, result: Mapping[str, Any]) -> str:
    rows = [
        [
            system,
            f"{of['pairs_per_second']:.0f}",
            f"{of['times_faster']:.1f}",
            *(f"{value:.1%}" for value in (of["labels_same"], of["on_test"]["labels_same"])),
            f"{of['on_test']['ndcg_difference']:+.4f}",
            f"{of['scores_differ']:.1g}",
        ]
        for system, of in result["systems"].items()
    ]
    heads = ["engine", "pairs/s", "times as fast", "same labels", "on test", "nDCG, test", "scores differ by at most"]
    pairs = result["pairs"]
    lines = [
        f"**Scoring on a processor, beside sentence-transformers' `CrossEncoder.predict`.** {result['encoder']}, "
        f"fine-tuned, {result['max_length']} tokens (mean {result['mean_tokens']:.0f}); the same weights and "
        f"{pairs['timed']:,} pairs of texts for all, in one run on {_machine(result)}; labels and nDCG beside "
        f"sentence-transformers' own, on all pairs and on {pairs['test']:,} test pairs.",
        "",
        _table(heads, rows),
        "",
    ]
    return "\n".join([*lines, _source(name, result)])


def _ensemble_shop(name: str, result: Mapping[str, Any]) -> str:
    equal, fitted, members = result["equal"], result["fitted"], result["members"]
    rows = [
        [f"{Path(of['name']).name}: {members[Path(of['name']).name]}", *_cells(of, ["ndcg", "micro_f1"])]
        for of in sorted(equal["members"], key=lambda of: str(of["name"]))
    ]
    rows += [[f"all six, {what} weights", *_cells(of, ["ndcg", "micro_f1"])] for what, of in _ways(equal, fitted)]
    rows.append(["random order", f"{result['random_order']:.3f}"])
    saved = equal["labels_only"]
    lines = [
        f"**The paper's six, alone and together.** Sample shop, {result['pairs']:,} test pairs of "
        f"{result['queries']:,} queries; tiny shapes of `kdd2022:task1_member1` to `6`; gains `esci`; on "
        f"{_machine(result)}.",
        "",
        _table(["", TITLES["ndcg"], TITLES["micro_f1"]], rows),
        "",
        *(
            f"{what} weights minus the best member: {_differences(of['against_best'])}."
            for what, of in _ways(equal, fitted)
        ),
        f"Labels alone need {1 - saved['skipped']:.1%} of the members' evaluations, {saved['seconds']:.1f} s of "
        f"{saved['seconds_of_all']:.1f} s; {result['labels_only']['different']} labels differ.",
    ]
    return "\n".join([*lines, _source(name, result)])


def _serve_latency(name: str, result: Mapping[str, Any]) -> str:
    rows = [
        [f"{shape}, {system}", str(cell["clients"]), *_latencies(cell), f"{cell['times_throughput']:.1f}"]
        for shape, of in result["shapes"].items()
        for system, found in of["systems"].items()
        for cell in found["fresh"]
    ]
    kept = [
        [f"{shape}, {system}, {what}", str(found[key]["clients"]), *_latencies(found[key]), ""]
        for shape, of in result["shapes"].items()
        for system, found in of["systems"].items()
        for key, what in (("repeated", "requests that come again"), ("by_id", "products by id"))
        if key in found
    ]
    heads = ["model, engine", "clients", "p50, s", "p95, s", "requests/s", "pairs/s", "times as many"]
    tokens = ", ".join(f"{shape} {of['mean_tokens']:.0f}" for shape, of in result["shapes"].items())
    lines = [
        "**The server, beside a plain FastAPI endpoint around sentence-transformers' `CrossEncoder`.** "
        f"{result['pairs_per_request']} texts a request, of {result['texts']}, cut to {result['max_length']} tokens "
        f"(mean: {tokens}); the same weights ({result['encoder']}) and bodies for all, in one run on "
        f"{_machine(result)}.",
        "",
        _table(heads, rows + kept),
        "",
    ]
    return "\n".join([*lines, _source(name, result)])


def _latencies(cell: Mapping[str, Any]) -> list[str]:
    times = ["" if cell[at] is None else f"{cell[at]:.2f}" for at in ("p50", "p95")]
    return [*times, f"{cell['requests_per_second']:.1f}", f"{cell['pairs_per_second']:,.0f}"]


def _serve_faults(name: str, result: Mapping[str, Any]) -> str:
    statuses, grown = result["statuses"], result["growth"]
    faults = sum(count for key, count in statuses.items() if not key.startswith("good "))
    lines = [
        f"**The server under load with faults.** {result['seconds'] / 60:.0f} minutes on {_machine(result)}: "
        f"{statuses['good 200']:,} answers held against the right ones, {result['wrong']:,} wrong; {faults:,} faults "
        f"beside them. After the warm-up, memory changed by {grown['rss_mib']:+.0f} MiB and open files by "
        f"{grown['open_files']:+.0f}. Accepted requests lost, SIGTERM under load included: "
        f"{statuses.get('good lost', 0)}. Broken promises: {', '.join(result['broken']) or 'none'}.",
    ]
    return "\n".join([*lines, _source(name, result)])


def _scaling(name: str, result: Mapping[str, Any]) -> str:
    files = [("with texts", of) for of in result["sizes"]] + [("with ids, products looked up", result["looked_up"])]
    rows = [
        [
            f"{of['pairs']:,} {what}",
            f"{of['pairs_per_second']:,.0f}",
            f"{of['peak_mib']:,}",
            f"{of['seconds']['scoring']:,.1f}",
        ]
        for what, of in files
    ]
    beside = result["largest_beside_the_others"]
    lines = [
        f"**Scoring more and more pairs.** A very small model's export, by `{result['engine']}`; pairs of a sample "
        f"shop of {result['shop']['products']:,} products; on {_machine(result)}. The largest file has "
        f"{beside['throughput']:.2f} times the pace of the smallest, and {beside['memory']:.2f} times the memory of "
        "the one before it.",
        "",
        _table(["pairs", "pairs/s", "highest memory, MiB", "seconds"], rows),
        "",
    ]
    return "\n".join([*lines, _source(name, result)])


def _train_cpu(name: str, result: Mapping[str, Any]) -> str:
    rows = [
        [
            system,
            of["precision"],
            f"{of['pairs_per_second']:.1f}",
            f"{of['times_faster']:.1f}",
            f"{np.mean(of['loss_of_second_half']):.3f}",
            _apart(of["loss_apart"]),
        ]
        for system, of in result["systems"].items()
    ]
    heads = ["", "precision", "pairs/s", "times as fast", "loss of the second half", "minus theirs"]
    lines = [
        f"**Fine-tuning on a processor, beside sentence-transformers' `CrossEncoderTrainer`.** {result['encoder']}, "
        f"{result['batch_size']} pairs a step, {result['max_length']} tokens, {result['rounds']} trainings of "
        f"{result['steps']} steps each, in turn on {_machine(result)}.",
        "",
        _table(heads, rows),
        "",
    ]
    return "\n".join([*lines, _source(name, result)])


def _apart(of: Mapping[str, Any]) -> str:
    return f"{of['mean']:+.3f}" + ("" if of["standard_error"] is None else f" ± {of['standard_error']:.3f}")


def _student(name: str, result: Mapping[str, Any]) -> str:
    sides = {"teacher": "teacher", "soft": "student, soft labels", "hard": "student, hard labels"}
    rows = [
        [what, f"{result['parameters']['teacher' if side == 'teacher' else 'student'] / 1e6:,.2f}"]
        + [f"{np.mean(result[side][column]):.3f}" for column in ("micro_f1", "ndcg")]
        for side, what in sides.items()
    ]
    faster = ", ".join(f"{of['times_faster']:.1f} times by {engine}" for engine, of in result["speed"].items())
    lines = [
        f"**A small student.** {result['data']['test_pairs']:,} test pairs, means over {len(result['seeds'])} runs, "
        f"gains `esci`; the student's export is faster than the teacher's, on {_machine(result)}: {faster}.",
        "",
        _table(["", "million parameters", "micro-F1", "nDCG"], rows),
        "",
        f"Soft minus hard labels: {_differences(result['soft_minus_hard'])}. Student with soft labels minus teacher: "
        f"{_differences(result['soft_minus_teacher'])}.",
    ]
    return "\n".join([*lines, _source(name, result)])


def _ways(equal: Any, fitted: Any) -> tuple[tuple[str, Any], ...]:
    return (("equal", equal), ("fitted", fitted))


def _named(name: str, result: Mapping[str, Any]) -> str:
    return f"**{result.get('what', name)}.** " + _source(name, result)


LAYOUTS: dict[str, Callable[[str, Mapping[str, Any]], str]] = {
    "audit_shop": _audit_shop,
    "ensemble_shop": _ensemble_shop,
    "prepare_scale": _prepare_scale,
    "pretrain_step": _pretrain_step,
    "quality_esci": _quality_esci,
    "scaling": _scaling,
    "score_cpu": _score_cpu,
    "serve_faults": _serve_faults,
    "serve_latency": _serve_latency,
    "step_cost": _step_cost,
    "student": _student,
    "tiny_start": partial(_two_sides, title="The tiny encoder's start", sides=("matching", "random"), what="start"),
    "soft_labels": partial(_two_sides, title="Self-distillation", sides=("soft", "hard"), what="labels"),
    "train_cpu": _train_cpu,
}


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    aligned = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, aligned, *rows))


def _cells(figures: Mapping[str, float], columns: Iterable[str]) -> list[str]:
    return [f"{figures[name]:.{0 if name == 'seconds' else 3}f}" if name in figures else "" for name in columns]


def _differences(found: Mapping[str, Mapping[str, float]]) -> str:
    return "; ".join(
        f"{TITLES.get(name, name)} {of['mean']:+.4f} (95 %: {of['low']:+.4f} to {of['high']:+.4f}, p = {of['p']:.3f})"
        for name, of in found.items()
    )


def _machine(result: Mapping[str, Any]) -> str:
    where = result["machine"]
    return where["gpu"] or f"{where['cores']} cores of {where['processor']}"


def _source(name: str, result: Mapping[str, Any]) -> str:
    """Say where the figures come from: the file, what made it, when."""
    command = f" by `{result['command']}`" if "command" in result else ""
    date = f", {result['date']}" if "date" in result else ""
    return f"[benchmarks/results/{name}.json](benchmarks/results/{name}.json){command}{date}."


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
