"""Whether every recorded failure is mended: runs the folders of cases and says of each whether it holds.

    python benchmarks/cases.py CASES [--only PREFIX] [--run RUN --data DATA]

``CASES`` holds a folder for each case with its input, ``cmd`` and ``expected.md``, and scripts in ``review/`` and
``server/``. Each is run in a copy of its folder, RUN being a tiny run that is trained first and PORT a server of it.
What a person would expect is checked, by a judge for each case in `case_judges.py`. Prints a line for each case; exits
with 1 when any falls short.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from case_judges import JUDGES, Case, Outcome
from served import Served, serving

SECONDS, TINY = 300.0, ["train.epochs=1", "model.tiny.layers=2", "model.max_length=48"]
# Where what the scripts import has gone since they were written; a name by a pattern, longest first.
MOVED = (
    # A scorer reads pairs and predicts what it read, in two calls.
    (
        r"def reading\(self,q,p,l\):\n.*\n",
        "reads_lists, own = False, ()\n    def read(self,texts): return len(texts.queries)\n"
        "    def predict(self,n,progress=None): return self.task.predict(np.zeros((n,4),np.float32))\n",
    ),
    (r"zhichun\.data\.prepare import prepare", "zhichun.data.prepare.prepare import prepare"),
    (r"zhichun\.data\.read_catalogue", "zhichun.data.prepare.clean_catalogue"),
    (r"zhichun\.data\.sources", "zhichun.data.readers.sources"),
    (r"zhichun\.data\.rejected", "zhichun.data.readers.rejected"),
    (r"zhichun\.scoring\.pair_tables", "zhichun.data.readers.pair_tables"),
    (r"zhichun\.scoring\.scoring_job", "zhichun.score.job"),
    (r"zhichun\.scoring\.product_lookup", "zhichun.score.rank"),
    (r"zhichun\.scoring\.pair_scorer", "zhichun.score.given"),
    (r"zhichun\.serve\.catalogue", "zhichun.serve.catalogue_search"),
    (r"zhichun\.serve\.documents", "zhichun.serve.api.documents"),
    (r"from zhichun\.serve\.requests import Document", "from types import SimpleNamespace as Document"),
    (r"import products_of\b", "import read_documents"),
    (
        r"products_of\(docs,'us',cat,100_000\)",
        "read_documents(['q'] * len(docs),[{'id': each.id} for each in docs],'us','us',cat,100_000)",
    ),
    (r"from zhichun import schema", "from zhichun.core import schema"),
    (r"zhichun\.errors", "zhichun.core.errors"),
    (r"zhichun\.tasks", "zhichun.core.tasks"),
    (r"zhichun\.files import replacing", "zhichun.core.files import new_file as replacing"),
    (r"zhichun\.methods", "zhichun.objective.methods"),
    (r"zhichun\.train\.settings", "zhichun.fit.train_settings"),
    (r"zhichun\.codec", "zhichun.core.settings"),
    (r"zhichun\.recipe", "zhichun.fit.recipe"),
    # The counters that a hand-written class kept are prometheus_client's: what cannot be asked any more is left out.
    (r"(?s)from zhichun\.serve\.metrics.*", ""),
)


def main() -> None:
    """Run the cases that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--only", default="", help="run only those whose names begin so")
    parser.add_argument("--run", type=Path, help="a trained run, in place of one that is trained here")
    parser.add_argument("--data", type=Path, help="the dataset of that run")
    options = parser.parse_args()
    chosen = {name: judge for name, judge in JUDGES.items() if name.startswith(options.only)}
    with tempfile.TemporaryDirectory(prefix="cases-") as work:
        run, data = (options.run, options.data) if options.run else trained(Path(work))
        world = World(options.cases.resolve(), Path(work), run.resolve(), data.resolve())
        with contextlib.ExitStack() as ended:
            short = [name for name, judge in chosen.items() if not holds(name, judge, world, ended)]
    sys.stdout.write(f"{len(chosen) - len(short)} of {len(chosen)} hold\n")
    sys.exit(1 if short else 0)


def holds(name: str, judge: Callable[[Case], Iterator[str]], world: "World", ended: contextlib.ExitStack) -> bool:
    """Run one case and print its line."""
    try:
        faults = list(judge(world.case(name, ended)))
    except Exception as error:  # a judge that finds no answer where one is expected
        faults = [f"{type(error).__name__}: {error}"]
    said = " | ".join(re.sub(r"\s+", " ", fault)[:300] for fault in faults)
    sys.stdout.write(f"{'FALLS SHORT' if faults else 'PASS':11s} {name}{': ' if said else ''}{said}\n")
    sys.stdout.flush()
    return not faults


class World:
    """What the cases share: the run, and a server of it that is started when the first case asks."""

    def __init__(self, cases: Path, work: Path, run: Path, data: Path) -> None:
        self.cases, self.work, self.run_folder, self.data = cases, work, run, data
        self.servers: dict[tuple[str, ...], Served] = {}

    def case(self, name: str, ended: contextlib.ExitStack) -> Case:
        """Copy a case's folder; a script has an empty one."""
        source, folder = self.cases / name, self.work / name.replace("/", "-").removesuffix(".py")
        if source.is_dir():
            shutil.copytree(source, folder)
            source = source / "cmd"
        else:
            folder.mkdir()
        commands = commands_of(source.read_text("utf-8")) if source.name == "cmd" else []
        return Case(
            folder=folder,
            script=source,
            commands=commands,
            shell=lambda command, seconds=SECONDS: self.shell(folder, command, seconds, ended),
            python=lambda arguments, seconds=SECONDS: self.python(folder, source, arguments, seconds),
            server=lambda *options: self.server(ended, *options),
            run=self.run_folder,
            data=self.data,
        )

    def shell(self, folder: Path, command: str, seconds: float, ended: contextlib.ExitStack) -> Outcome:
        """Run a command as it stands, with RUN, PORT and DATASET filled in."""
        filled = re.sub(r"\bRUN\b", str(self.run_folder), command)
        filled = re.sub(r"\bDATASET\b", str(self.data), filled)
        if re.search(r"\bPORT\b", filled):
            filled = re.sub(r"\bPORT\b", str(self.server(ended).port), filled)
        return outcome(["bash", "-c", filled], folder, seconds)

    def python(self, folder: Path, script: Path, arguments: Sequence[str], seconds: float) -> Outcome:
        """Run a script with what it imports named as it is now."""
        text = script.read_text("utf-8")
        for old, new in MOVED:
            text = re.sub(old, new, text)
        (folder / "script.py").write_text(text, "utf-8")
        return outcome([sys.executable, "script.py", *arguments], folder, seconds)

    def server(self, ended: contextlib.ExitStack, *options: str) -> Served:
        """Give a server of the run with these options, started when it is first asked for."""
        if options not in self.servers:
            command = [sys.executable, "-m", "zhichun", "serve", str(self.run_folder), "--port", "PORT", *options]
            self.servers[options] = ended.enter_context(serving(command))
        return self.servers[options]


def commands_of(text: str) -> list[str]:
    """Part a ``cmd`` file into its commands; one that reads a here-document goes to the end of it."""
    commands: list[str] = []
    end = ""
    for line in text.splitlines():
        if end:
            commands[-1] += f"\n{line}"
            end = "" if line == end else end
        elif line.strip() and not line.startswith("#"):
            commands.append(line)
            found = re.search(r"<<'(\w+)'", line)
            end = found[1] if found else ""
    return commands


def outcome(command: Sequence[str], folder: Path, seconds: float) -> Outcome:
    """Run a command; one that takes too long has ended with 124."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "500", "NO_COLOR": "1", "TERM": "dumb"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as late:
        return Outcome(124, f"{(late.stdout or b'').decode()}\nno end after {seconds:.0f} s")
    return Outcome(done.returncode, done.stdout + done.stderr)


def trained(work: Path) -> tuple[Path, Path]:
    """Make the tiny run, which knows all locales and every kind of product."""
    settings = [argument for setting in TINY for argument in ("--set", setting)]
    for command in (
        ["sample", "shop", "--products", "300", "--queries", "60"],
        ["prepare", "shop", "data"],
        ["train", "tiny", "--data", "data", "--out", "run", *settings],
    ):
        done = outcome([sys.executable, "-m", "zhichun", *command], work, SECONDS)
        if done.status:
            raise SystemExit(f"no run to try the cases with: {done.text[-2000:]}")
    return work / "run", work / "data"


if __name__ == "__main__":
    main()
