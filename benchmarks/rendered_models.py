"""Results about models and their training, as Markdown."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rendered_parts import TITLES, cells_of, differences, machine_of, source, table


def quality_esci(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `quality_esci.py`."""
    systems, pairs = result["systems"], result["pairs"]
    columns = ["micro_f1", "macro_f1", "seconds"]
    seeds = len(next(iter(systems.values()))["seeds"])
    rows = [[f"{system}: {of['what']}", *cells_of(of["mean"], columns)] for system, of in systems.items()]
    rows.append(["always Exact", *cells_of(result["always_exact"], columns)])
    lines = [
        f"**Fine-tuning, beside sentence-transformers.** Encoder {result['encoder']}, "
        f"{result['recipe']['max_length']} tokens; pairs of the Shopping Queries Dataset, {pairs['training']:,} to "
        f"train on and {pairs['test']:,} to test on; means over {seeds} seeds; seconds of one training on "
        f"{machine_of(result)}. nDCG says nothing here, since nearly all test queries have one product "
        "(a random order has 0.846), and is left out.",
        "",
        table(["system", *(TITLES.get(column, column) for column in columns)], rows),
        "",
    ]
    for system, found in result["differences"].items():
        lines.append(f"{system} minus sentence-transformers: {differences(_of_classes(found))}.")
    if "whole_recipe" in result:
        found = result["whole_recipe"]["minus_zhichun"]
        lines.append(f"zhichun-whole-recipe minus zhichun: {differences(_of_classes(found))}.")
    return "\n".join([*lines, source(name, result)])


def _of_classes(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: of for name, of in found.items() if "ndcg" not in name}


def two_sides(name: str, result: Mapping[str, Any], title: str, sides: tuple[str, str], what: str) -> str:
    """Write the result of a script that compares two sides by `two_sides.py`."""
    columns = ["micro_f1", "ndcg"]
    rows = [[f"{side} {what}", *(f"{np.mean(result[side][column]):.3f}" for column in columns)] for side in sides]
    baselines = result["baselines"]
    rows.append(["always Exact, random order", f"{baselines['always_exact']:.3f}", f"{baselines['random_order']:.3f}"])
    lines = [
        f"**{title}.** Recipe `tiny` on the sample shop, {result['data']['test_pairs']:,} test pairs; "
        f"means over {len(result['seeds'])} seeds; gains `esci`.",
        "",
        table(["", *(TITLES[column] for column in columns)], rows),
        "",
        f"{' minus '.join(sides)}: {differences(result['difference'])}.",
    ]
    return "\n".join([*lines, source(name, result)])


def step_cost(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `step_cost.py`."""
    batch, ways = result["batch"], result["ways"]
    rows = [[way, f"{of['times_plain']:.2f}"] for way, of in ways.items()]
    lines = [
        f"**What a step costs with each method.** Times a plain step, both with the optimiser's step: {batch['pairs']} "
        f"pairs of {batch['tokens']} tokens in {batch['precision']}, an encoder of the shape of all-MiniLM-L6-v2, "
        f"medians of {len(next(iter(ways.values()))['seconds'])}; one thread of {result['machine']['processor']}.",
        "",
        table(["step with", "times a plain step"], rows),
        "",
    ]
    return "\n".join([*lines, source(name, result)])


def lists_cost(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `lists_cost.py`."""
    lists, ways = result["pairs_of_a_list"], result["ways"]
    rows = [[way, f"{of['times_pairs']:.3f}"] for way, of in ways.items()]
    rounds = len(ways["pairs"]["milliseconds_of_a_pair"])
    lines = [
        f"**What a step of whole lists costs.** Times a step of pairs, for a pair, the making of batches included: "
        f"{result['encoder']} on {result['data']}, lists of {lists['mean']:.0f} pairs on average; medians of {rounds}; "
        f"one thread of {result['machine']['processor']}.",
        "",
        table(["step of", "times a step of pairs"], rows),
        "",
    ]
    return "\n".join([*lines, source(name, result)])


def audit_shop(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `audit_shop.py`."""
    issues, dropped, epochs = result["issues"], result["dropped"], result["recipe"]["epochs"]
    lines = [
        f"**Wrong labels found by the audit.** Sample shop, {result['pairs']:,} judged training pairs, "
        f"{result['wrong']:,} of them wrong ({result['chance']:.1%}); recipe `tiny`, {epochs} epochs, "
        f"{result['data']['folds']} folds; {result['seconds'] / 60:.0f} minutes on {machine_of(result)}.",
        "",
        table(
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
    return "\n".join([*lines, source(name, result)])


def pretrain_step(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `pretrain_step.py`."""
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
        f"the last column is how many tokens one thread makes when nobody holds it up; on {machine_of(result)}.",
        "",
        table(heads, rows),
        "",
    ]
    return "\n".join([*lines, source(name, result)])


def ensemble_shop(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `ensemble_shop.py`."""
    equal, fitted, members = result["equal"], result["fitted"], result["members"]
    rows = [
        [f"{Path(of['name']).name}: {members[Path(of['name']).name]}", *cells_of(of, ["ndcg", "micro_f1"])]
        for of in sorted(equal["members"], key=lambda of: str(of["name"]))
    ]
    rows += [[f"all six, {what} weights", *cells_of(of, ["ndcg", "micro_f1"])] for what, of in _ways(equal, fitted)]
    rows.append(["random order", f"{result['random_order']:.3f}", ""])
    lines = [
        f"**The paper's six, alone and together.** Sample shop, {result['pairs']:,} test pairs of "
        f"{result['queries']:,} queries; tiny shapes of `kdd2022:task1_member1` to `6`; gains `esci`; on "
        f"{machine_of(result)}.",
        "",
        table(["", TITLES["ndcg"], TITLES["micro_f1"]], rows),
        "",
        *(
            f"{what} weights minus the best member: {differences(of['against_best'])}."
            for what, of in _ways(equal, fitted)
        ),
    ]
    return "\n".join([*lines, source(name, result)])


def _ways(equal: Any, fitted: Any) -> tuple[tuple[str, Any], ...]:
    return (("equal", equal), ("fitted", fitted))


def train_cpu(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `train_cpu.py`."""
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
        f"**Fine-tuning on a CPU, beside sentence-transformers' `CrossEncoderTrainer`.** {result['encoder']}, "
        f"{result['batch_size']} pairs a step, {result['max_length']} tokens, {result['rounds']} trainings of "
        f"{result['steps']} steps each, in turn on {machine_of(result)}.",
        "",
        table(heads, rows),
        "",
    ]
    return "\n".join([*lines, source(name, result)])


def _apart(of: Mapping[str, Any]) -> str:
    return f"{of['mean']:+.3f}" + ("" if of["standard_error"] is None else f" ± {of['standard_error']:.3f}")


def student(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `student.py`."""
    sides = {"teacher": "teacher", "soft": "student, soft labels", "hard": "student, hard labels"}
    rows = [
        [what, f"{result['parameters']['teacher' if side == 'teacher' else 'student'] / 1e6:,.2f}"]
        + [f"{np.mean(result[side][column]):.3f}" for column in ("micro_f1", "ndcg")]
        for side, what in sides.items()
    ]
    faster = ", ".join(f"{of['times_faster']:.1f} times by {engine}" for engine, of in result["speed"].items())
    lines = [
        f"**A small student.** {result['data']['test_pairs']:,} test pairs, means over {len(result['seeds'])} runs, "
        f"gains `esci`; the student's export is faster than the teacher's, on {machine_of(result)}: {faster}.",
        "",
        table(["", "million parameters", "micro-F1", "nDCG"], rows),
        "",
        f"Soft minus hard labels: {differences(result['soft_minus_hard'])}. Student with soft labels minus teacher: "
        f"{differences(result['soft_minus_teacher'])}.",
    ]
    return "\n".join([*lines, source(name, result)])
