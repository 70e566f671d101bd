"""Whether a kill at any moment loses anything: kills prepare, pretrain, train, score and export, and lets them finish.

    python benchmarks/kills.py [--kills 200] [--seed 0] [--only train] [--out benchmarks/results/kills.json]

Each command runs once in peace. Then it is started again and again in a fresh folder and killed (SIGKILL) at a random
moment of the time that it took, up to eight times, and at last left alone until it is done. After each kill nothing may
lie half-made under a final name; at the end every file must be the one of the run in peace, byte for byte, but for
`TIMES`, and nothing may be left over. Runs are forks of one process, so that the libraries are imported once.
"""

import argparse
import contextlib
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from machine import circumstances

from zhichun.cli import main as zhichun
from zhichun.core.files import LOCK_FILE, write_json

KILLS_OF_A_RUN: Final = 8
# What the commands import late, which their forks then need not.
IMPORTED_ONCE: Final[Mapping[str, Sequence[str]]] = {
    "prepare": ("polars",),
    "pretrain": ("zhichun.fit.pretrain",),
    "train": ("zhichun.fit.train", "torch._dynamo", "transformers.models.xlm_roberta.modeling_xlm_roberta"),
    "score": (),
    "export": ("zhichun.score.export.export_run", "torch.onnx", "onnxscript", "onnxruntime"),
}
# Files that say when or how fast something was done; everything else is the same each time.
TIMES: Final = ("environment.json",)
SMALL: Final = ("model.tiny.layers=2", "model.max_length=32")
OFTEN: Final = ("train.epochs=2", "train.evaluations=3", "train.checkpoint_minutes=0.0")
RECIPE: Final = [word for setting in (*SMALL, *OFTEN) for word in ("--set", setting)]
COMMANDS: Final[Mapping[str, list[str]]] = {
    "prepare": ["prepare", "shop", "data", "--overwrite"],
    "pretrain": ["pretrain", "tiny:pretrain", "--data", "data", "--out", "pre", "--resume", *RECIPE],
    "train": ["train", "tiny", "--data", "data", "--out", "run", "--resume", *RECIPE],
    "score": ["score", "run", "pairs.parquet", "out.csv", "--products", "data", "--overwrite"],
    "export": ["export", "run", "--to", "onnx", "--out", "export", "--overwrite"],
}
# What each command reads, and its names that may never hold half of anything.
READS: Final = {
    "prepare": "shop",
    "pretrain": "prepared/data",
    "train": "prepared/data",
    "score": "data run pairs.parquet",
    "export": "data run",
}
FINAL: Final = {
    "prepare": "data",
    "pretrain": "pre/encoder pre/report.html",
    "train": "run/model run/predictions.parquet run/report.html",
    "score": "out.csv",
    "export": "export",
}


def main() -> None:
    """Kill as often as asked for and write down what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "kills.json")
    options = parser.parse_args()
    import_once("prepare", "train", *options.only)
    chance, faults, reruns = random.Random(options.seed), list[str](), Counter[str]()
    kills: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="kills-") as work:
        whole = Path(work, "whole")
        seconds = in_peace(whole, options.only)
        while sum(kills.values()) < options.kills:
            name = min(options.only, key=lambda each: kills[each])
            trial = Path(work, "trial")
            faults += killed(name, whole, trial, seconds[name], chance, kills, options.kills, reruns)
            shutil.rmtree(trial)
            sys.stderr.write(f"{sum(kills.values())} kills, {len(faults)} faults\n")
            found = {
                "kills": dict(kills),
                "reruns": dict(reruns),
                "seconds_in_peace": {each: round(took, 2) for each, took in seconds.items()},
                "not_compared": list(TIMES),
                "faults": faults,
                "seed": options.seed,
                **circumstances("zhichun", "torch", "pyarrow", "polars", "onnxruntime"),
            }
            write_json(options.out, found)
    sys.stdout.write(f"{sum(kills.values())} kills, {len(faults)} faults\n" + "".join(f"{each}\n" for each in faults))
    sys.exit(1 if faults else 0)


def import_once(*commands: str) -> None:
    """Import what some commands import late."""
    for module in (module for name in commands for module in IMPORTED_ONCE[name]):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def in_peace(folder: Path, names: Sequence[str]) -> dict[str, float]:
    """Run everything once; gives the seconds of each command."""
    folder.mkdir()
    finish(folder, ["sample", "shop", "--products", "80", "--queries", "40"])
    seconds = {}
    for name, arguments in COMMANDS.items():
        if name == "pretrain":
            shutil.copytree(folder / "data", folder / "prepared" / "data")  # before others put features into it
        if name == "score":
            shutil.copy(folder / "data" / "examples.parquet", folder / "pairs.parquet")
        if name in names or name in ("prepare", "train"):
            began = time.monotonic()
            finish(folder, arguments)
            seconds[name] = time.monotonic() - began
    return seconds


def killed(
    name: str,
    whole: Path,
    trial: Path,
    seconds: float,
    chance: random.Random,
    kills: Counter[str],
    most: int,
    reruns: Counter[str],
) -> list[str]:
    """Kill one command a few times in a folder of its own, let it finish, and give what is wrong."""
    trial.mkdir()
    expected = whole / "prepared" if name == "prepare" else whole
    for each in READS[name].split():
        copy = shutil.copytree if (whole / each).is_dir() else shutil.copy
        copy(whole / each, trial / Path(each).name)
    faults = []
    for _ in range(KILLS_OF_A_RUN):
        child = start(trial, COMMANDS[name])
        time.sleep(chance.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if ended != -signal.SIGKILL:
            if ended:
                faults.append(f"{name}: ended with {ended} before it was killed")
            break
        kills[name] += 1
        for final in FINAL[name].split():
            if (trial / final).exists() and differing(expected / final, trial / final):
                faults.append(f"{name}: {final} is half-made: {differing(expected / final, trial / final)[:3]}")
        if sum(kills.values()) >= most:
            break
    reruns[name] += 1
    try:
        finish(trial, COMMANDS[name])
    except SystemExit as error:
        return [*faults, f"{name}: {error}"]
    made = [final.split("/")[0] for final in FINAL[name].split()]
    for final in dict.fromkeys(made):
        faults += [f"{name}: {path} differs" for path in differing(expected / final, trial / final)]
    left = [
        path for path in trial.rglob("*") if path.name == LOCK_FILE or ".partial-" in path.name or ".old-" in path.name
    ]
    left += list(trial.glob("*.parts"))
    return faults + [f"{name}: {path.relative_to(trial)} is left over" for path in left]


def differing(whole: Path, found: Path) -> list[str]:
    """Name the files that are not the same, byte for byte."""
    if whole.is_file():
        return [] if found.read_bytes() == whole.read_bytes() else [found.name]
    names = {path.relative_to(folder) for folder in (whole, found) for path in folder.rglob("*") if path.is_file()}
    return [
        str(name)
        for name in sorted(names)
        if name.name not in TIMES
        and not (
            (whole / name).is_file()
            and (found / name).is_file()
            and (whole / name).read_bytes() == (found / name).read_bytes()
        )
    ]


def finish(folder: Path, arguments: Sequence[str]) -> None:
    """Run a command to its end."""
    status = os.waitstatus_to_exitcode(os.waitpid(start(folder, arguments), 0)[1])
    if status:
        raise SystemExit(f"zhichun {' '.join(arguments)} ended with {status}: {(folder / 'log').read_text()[-500:]}")


def start(folder: Path, arguments: Sequence[str], log_name: str = "log") -> int:
    """Fork a process that runs a command in a folder; gives its number."""
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        log = os.open(log_name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = ["zhichun", *arguments]
        try:
            zhichun(list(arguments))
        except SystemExit as ended:
            os._exit(ended.code if isinstance(ended.code, int) else 1)
        except BaseException:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(70)
        os._exit(0)
    return child


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
