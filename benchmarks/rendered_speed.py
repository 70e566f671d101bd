"""Results about preparing, scoring and serving, as Markdown."""

from collections.abc import Mapping
from typing import Any

from rendered_parts import machine_of, source, table


def prepare_scale(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `prepare_scale.py`."""
    full, plain, cost = result["full"], result["against_pandas_and_python"], result["cost_per_row_full_to_tenth"]
    lines = [
        "**Preparing data at the size of the real set.** "
        f"A sample shop of {full['pairs']:,} pairs on {full['products']:,} products, with vocabularies: "
        f"{full['seconds']['wall']:.0f} s, peak memory {full['peak_gib']:.1f} GiB, on {machine_of(result)}. "
        f"A row costs {cost['wall']:.2f} times what it costs in a run on one tenth. "
        f"On {plain['pairs']:,} pairs it is {plain['times_faster']['wall']:.1f} times as fast as plain pandas and "
        "Python in the same run, with equal output.",
    ]
    return "\n".join([*lines, source(name, result)])


def score_cpu(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `score_cpu.py`."""
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
        f"**Scoring on a CPU, beside sentence-transformers' `CrossEncoder.predict`.** {result['encoder']}, "
        f"fine-tuned, {result['max_length']} tokens (mean {result['mean_tokens']:.0f}); the same weights and "
        f"{pairs['timed']:,} pairs of texts for all, in one run on {machine_of(result)}; labels and nDCG beside "
        f"sentence-transformers' own, on all pairs and on {pairs['test']:,} test pairs.",
        "",
        table(heads, rows),
        "",
    ]
    return "\n".join([*lines, source(name, result)])


def serve_latency(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `serve_latency.py`."""
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
        f"{machine_of(result)}.",
        "",
        table(heads, rows + kept),
        "",
    ]
    return "\n".join([*lines, source(name, result)])


def _latencies(cell: Mapping[str, Any]) -> list[str]:
    times = ["" if cell[at] is None else f"{cell[at]:.2f}" for at in ("p50", "p95")]
    return [*times, f"{cell['requests_per_second']:.1f}", f"{cell['pairs_per_second']:,.0f}"]


def serve_faults(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `serve_faults.py`."""
    statuses, grown, deaths = result["statuses"], result["growth"], result["worker_deaths"]
    faults = sum(count for key, count in statuses.items() if not key.startswith(("good ", "health ")))
    above, lost = result["peak_mib"] - result["idle_mib"], statuses.get("good lost", 0)
    lines = [
        f"**The server under load with faults.** {result['seconds'] / 60:.0f} minutes on {machine_of(result)}: "
        f"{statuses['good 200']:,} answers held against the right ones, {result['wrong']:,} wrong; {faults:,} faults "
        f"beside them. After the warm-up, memory changed by {grown['rss_mib']:+.0f} MiB and open files by "
        f"{grown['open_files']:+.0f}; at most {above:.0f} MiB were held above those of the idle server. `/health` took "
        f"{result['median_health_seconds'] * 1000:.0f} ms by the median and {result['worst_health_seconds']:.2f} s at "
        f"most, on a machine whose load was {result['load_average_at_start']} before. Of two workers "
        f"{deaths['deaths']} were killed one after the other, which cost {deaths['statuses'].get('good lost', 0)} "
        f"requests; {deaths['logged']} were logged, and {deaths['alive']} served in the end. Accepted requests lost, "
        f"SIGTERM under load included: {lost}. Broken promises: {', '.join(result['broken']) or 'none'}.",
    ]
    return "\n".join([*lines, source(name, result)])


WAYS = {
    "file": "into one file",
    "shards-1": "into a folder, by one process",
    "shards-2": "by two shards",
    "ray": "by two actors of Ray",
    "texts": "by a split model, products looked up",
    "index": "by a split model, from an index",
}


def scaling(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `scaling.py`."""
    rows = []
    for way, files in result["ways"].items():
        beside = result["largest_beside_the_others"].get(way)
        for of in files:
            flat = f"{beside['throughput']:.2f}, {beside['memory']:.2f}" if beside and of is files[-1] else ""
            what = f"{of['pairs']:,} {WAYS[way]}"
            rows.append([what, f"{of['pairs_per_second']:,.0f}", f"{of['peak_mib']:,}", flat])
    lines = [
        f"**Scoring more and more pairs, whoever shares the work.** A very small model's export, by "
        f"`{result['engine']}`; pairs of a sample shop of {result['shop']['products']:,} products; processes of one "
        f"thread on {machine_of(result)}. Beside the largest file of each: its pace as a multiple of the smallest "
        "one's, measured before and, where it was, after it, and its memory of that of the one before.",
        "",
        table(["pairs", "pairs/s", "highest memory of a process, MiB", "pace, memory beside the others"], rows),
        "",
    ]
    return "\n".join([*lines, source(name, result)])


def since(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `shards.py` without kills."""
    rows = [
        [
            cell,
            f"{of['milliseconds_a_pair']:.2f}",
            f"{of['share_of_pairs']:.2%}",
            f"{of['share_of_texts_and_model']:.2%}",
            f"{of['share_in_all']:.2%}",
        ]
        for cell, of in result["measured"].items()
    ]
    heads = ["model and pairs", "CPU ms a pair", "pairs computed", "texts and model", "with reading and writing"]
    lines = [
        "**Scoring again what changed.** One product in a hundred changed, and the pairs were scored `--since` the job "
        f"before, as shares of the CPU seconds of scoring them all; without starting the process; parts of "
        f"{result['part_rows']:,} rows; `run` is a very small model, `minilm` one of all-MiniLM-L6-v2's shape, on "
        f"{machine_of(result)}.",
        "",
        table(heads, rows),
        "",
    ]
    return "\n".join([*lines, source(name, result)])


def on_ray(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `ray_faults.py`."""
    calm, killed = result["in_peace"], result["killed"]
    kinds = ", ".join(f"{kind} {count}" for kind, count in killed["kills"].items())
    pace, memory = calm["pairs_per_second"], calm["mib_of_actors"]
    turns = " and ".join(f"{of['ray'] / of['processes']:.2f}" for of in calm["rounds"])
    lines = [
        f"**On a Ray cluster.** {result['pairs']:,} pairs of the sample shop by a very small model, on three nodes on "
        f"{machine_of(result)}, {result['actors']} actors: {pace['ray']:,.0f} pairs/s, {pace['processes']:,.0f} by as "
        f"many processes with `--shard` ({turns} times in turn), loading left out. Memory of an "
        f"actor: {max(memory['in_the_middle'])} MiB halfway, {max(memory['at_most'])} at most. SIGKILL ({kinds}) over "
        f"{killed['jobs']} jobs: {len(calm['faults']) + len(killed['faults'])} parts unlike those of the processes.",
    ]
    return "\n".join([*lines, source(name, result)])


def kills(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `kills.py`."""
    counts = result["kills"]
    each = ", ".join(f"{command} {count}" for command, count in counts.items())
    lines = [
        f"**Kills at random moments.** {sum(counts.values())} times SIGKILL ({each}), then called again until done: "
        f"{len(result['faults'])} files half-made, left over, or unlike those of an undisturbed run (not compared: "
        f"{', '.join(result['not_compared'])}, which holds times).",
    ]
    return "\n".join([*lines, source(name, result)])


def gpu(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `gpu.py`, or of the part of it that was measured."""
    shape, goals = result["shape"], result["goals"]
    rows = [
        [
            what,
            system,
            of.get("precision", ""),
            f"{of['pairs_per_second']:,.0f}",
            f"{of['times_faster']:.2f}",
            f"{of['utilisation']:.1%}",
        ]
        for what in ("training", "scoring")
        for system, of in result.get(what, {}).items()
    ]
    missing = [what for what in ("whole_recipe_in_steps", "scoring") if what not in result]
    in_steps = result.get("whole_recipe_in_steps")
    lines = [
        f"**On a GPU.** An encoder of {shape['layers']} layers of {shape['hidden']} with random weights, 256 tokens at "
        f"most, on {machine_of(result)}; a product of bf16 matrices reaches {result['tflops_of_a_matrix_product']:.0f} "
        f"TFLOP/s. Goals: {goals['times_faster']:.0f} times theirs, {goals['training_utilisation']:.0%} of the GPU in "
        f"training, {goals['scoring_utilisation']:.0%} in scoring, at most {goals['whole_recipe_in_steps']} plain "
        "steps for one of the whole recipe"
        + (f" (here {in_steps:.2f})." if in_steps else ".")
        + (f" Not measured yet: {', '.join(missing)}." if missing else ""),
        "",
        table(["", "", "precision", "pairs/s", "times sentence-transformers", "of the GPU"], rows),
        "",
    ]
    return "\n".join([*lines, source(name, result)])
