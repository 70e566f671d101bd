r"""The built wheel with each extra in an empty environment of its own, doing what the extra is for.

    python benchmarks/extras.py [--python PYTHON] [--rows base serve …] [--work FOLDER] [--out FILE]

Builds wheel and sdist, and for each row makes an environment, installs the wheel with the row's extras at the versions
of `constraints.txt`, asks `pip check`, and runs the row's commands in it. A row begins with a new folder of its own in
the work folder, and copies of what the rows above made there, in this call or an earlier one. Torch must be there where
a row says so and nowhere else. Environments are removed again. `--rows` runs some of them; a part of the extras is for
the work on the project and is what `make test` installs (`OF_THE_PROJECT`). Writes ``benchmarks/results/extras.json``,
a row beside those that other calls wrote; the exit status is 1 if anything failed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from machine import circumstances, command_as_given
from served import serving
from strict_chat import StrictChat

from zhichun.core.files import write_json

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
sys.path.insert(0, str(ROOT / "tests" / "clients"))
WHAT: Final = "the built wheel with each extra, in an empty environment of its own"
OF_THE_PROJECT: Final = ("dev", "clients", "docs", "bench")
SMALL: Final = (
    *("--set=model.tiny.layers=2", "--set=model.tiny.hidden=64", "--set=model.tiny.heads=2"),
    *("--set=model.tiny.matching_layers=1", "--set=model.max_length=48", "--set=train.epochs=1"),
)


@dataclass(frozen=True)
class Row:
    """Extras, whether they bring torch, and commands of `zhichun` in the row's folder (``-c``: of Python)."""

    extras: str
    torch: bool
    commands: Sequence[Sequence[str]] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """What the row is called."""
        return self.extras or "base"

    def folder(self, work: Path) -> Path:
        """Where its commands run."""
        return work / self.name.replace(",", "-")


ROWS: Final = (
    Row(
        "",
        False,
        [
            ["--version"],
            ["sample", "shop", "--products", "300", "--queries", "60"],
            ["prepare", "shop", "data", "--folds", "3"],
            ["summary", "data"],
            ["-c", "import zhichun; print(zhichun.nDCG(gains='esci') @ 10)"],
        ],
    ),
    Row(
        "train",
        True,
        [
            ["train", "tiny", "--data", "data", "--out", "run", *SMALL],
            ["evaluate", "run", "--data", "data"],
            ["score", "run", "pairs.csv", "scored.csv", "--products", "data"],
            ["rank", "run", "red running shoes", "--products", "data"],
            ["train", "tiny", "--data", "data", "--out", "folds", "--folds", "3", *SMALL],
        ],
    ),
    Row("train,onnx", True, [["export", "run", "--to", "onnx", "--out", "exported"]]),
    Row("onnx", False, [["score", "exported", "pairs.csv", "by-onnx.csv", "--products", "data", "--engine", "onnx"]]),
    Row("serve", False, [["serve", "exported", "--products", "data", "--port", "PORT"]]),
    Row("serve,cloud", False, [["score", "exported", "PAIRS_URL", "WORK_URL/parts", "--products", "data"]]),
    Row("onnx,ray", False, [["score", "exported", "pairs.csv", "by-ray", "--products", "data", "--ray", "auto"]]),
    Row("hub", False, [["card", "run", "--licence", "apache-2.0"], ["push", "run", "me/shop", "--yes"]]),
    Row("judge", False, [["judge", "pairs.csv", "judged.csv", "--url", "CHAT_URL", "--model", "judge-1", "--yes"]]),
    Row("audit", False, [["audit", "--data", "data", "--runs", "folds", "--out", "audited"]]),
    Row("word2vec", False, [["word2vec", "data", "--epochs", "1"]]),
    Row("train,stack", True, [["stack", "folds", "--data", "data", "--out", "stacked"]]),
    Row(
        "train,trackers",
        True,
        [["train", "tiny", "--data", "data", "--out", "tracked", "--set", 'train.trackers=["tensorboard"]', *SMALL]],
    ),
    Row("translate", True, [["-c", "import zhichun.model.translator"]]),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="Python of the environments")
    parser.add_argument("--rows", nargs="+", default=[row.name for row in ROWS], help="names of rows; all if not given")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "zhichun-extras")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "extras.json")
    given = parser.parse_args()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    python = output([given.python, "-c", "import platform; print(platform.python_version())"], work, None).strip()
    wheel = built(work / "dist")
    about = {"command": command_as_given("extras.py"), **circumstances("zhichun"), "wheel": wheel.name}
    about["python"] = python
    rows: dict[str, Any] = json.loads(given.out.read_text("utf-8"))["rows"] if given.out.is_file() else {}
    wrong = False
    with stand_ins() as (chat, hub):
        for place, row in enumerate(ROWS):
            if row.name in given.rows:
                folder = begun(row.folder(work), [above.folder(work) for above in ROWS[:place]])
                found = about | tried(row, wheel, given.python, folder, chat, hub)
                rows[f"{row.name}, Python {python}"] = found
                write_json(given.out, {"what": WHAT, "rows": rows})
                print(f"{row.name:16} {json.dumps(found)}", flush=True)
                wrong |= "failed" in found
    sys.exit(wrong)


def built(folder: Path) -> Path:
    """Build sdist and wheel; returns the wheel."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "--directory", str(folder)], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def begun(folder: Path, above: Sequence[Path]) -> Path:
    """Make a folder anew, with what is in those above."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for each in above:
        if each.is_dir():
            left = shutil.ignore_patterns("environment")  # of a row that was killed
            shutil.copytree(each, folder, ignore=left, dirs_exist_ok=True)
    return folder


@contextmanager
def stand_ins() -> Iterator[tuple[StrictChat, Any]]:
    """Start a chat API and a hub on this machine."""
    from hub_stand_in import hub_stand_in

    with StrictChat() as chat, hub_stand_in() as hub:
        yield chat, hub


def tried(row: Row, wheel: Path, python: str, work: Path, chat: StrictChat, hub: Any) -> dict[str, Any]:
    """Install a row in an empty environment and run its commands; ``failed`` is the command that did, and its end."""
    folder, found, url = work / "environment", dict[str, Any](), work.as_uri()
    places = {"CHAT_URL": chat.url, "PAIRS_URL": f"{url}/pairs.csv", "WORK_URL": url}
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": "", "OPENAI_API_KEY": "a-key"}
    environment |= {**hub.environment(str(work / "home")), "HOME": str(work)}
    try:
        began = time.monotonic()
        own = installed(folder, row, wheel, python)
        found["install_seconds"] = round(time.monotonic() - began, 1)
        found |= json.loads(output([own, "-c", SAYS], work, environment))
        if found["torch"] != row.torch:
            found["failed"] = f"torch is {'' if found['torch'] else 'not '}there"
        found["commands"] = {}
        for words in row.commands:
            began = time.monotonic()
            run(own, [_placed(word, places) for word in words], work, environment)
            found["commands"][" ".join(words)] = round(time.monotonic() - began, 1)
            if "prepare" in words:
                output([own, "-c", PAIRS], work, environment)
    except subprocess.CalledProcessError as error:
        found["failed"] = f"{error.cmd}: {(error.stderr or '')[-2000:]}"
    shutil.rmtree(folder, ignore_errors=True)
    return found


# What an environment says of itself, and a table of pairs for the later rows.
SAYS: Final = """
import importlib.metadata, importlib.util, json, pathlib, site
place = pathlib.Path(site.getsitepackages()[0])
size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) >> 20
torch = importlib.util.find_spec("torch") is not None
packages = len(list(importlib.metadata.distributions()))
print(json.dumps({"packages": packages, "mebibytes": size, "torch": torch}))
"""
PAIRS: Final = """
import pyarrow.csv, pyarrow.parquet
pairs = pyarrow.parquet.read_table("data/examples.parquet").slice(0, 200)
pairs = pairs.select(["query", "product_id", "product_locale"]).rename_columns(["query", "product_id", "locale"])
texts = pyarrow.parquet.read_table("data/products.parquet", columns=["product_id", "product_title"])
titles = dict(zip(*texts.to_pydict().values()))
titles = pyarrow.array([titles[each] for each in pairs["product_id"].to_pylist()])
pyarrow.csv.write_csv(pairs.append_column("title", titles), "pairs.csv")
"""


def installed(folder: Path, row: Row, wheel: Path, python: str) -> str:
    """Make an environment without pip and install the wheel into it; returns its Python."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
    own = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", own]
    constrained = [*pip, "install", "--quiet", "--no-compile", "--constraint", str(ROOT / "constraints.txt")]
    if row.torch:  # first: by its exact version pip takes the build for this machine
        output([*constrained, "torch"], folder, None)
    output([*constrained, f"{wheel}[{row.extras}]" if row.extras else str(wheel)], folder, None)
    output([*pip, "check"], folder, None)
    return own


def run(own: str, words: list[str], work: Path, environment: dict[str, str]) -> None:
    """Run one command in an environment; a server is asked for its health and a ranking, and ended."""
    program = str(Path(own).with_name("zhichun"))
    if words[0] == "-c":
        output([own, *words], work, environment)
    elif words[0] == "serve":
        absolute = [str(work / word) if (work / word).exists() else word for word in words]
        with serving([program, *absolute], environment) as server:
            scores = server.rerank("running shoes", ["a desk lamp", "running shoes"])
        if sorted(scores) != [0, 1] or server.process.returncode:
            raise subprocess.CalledProcessError(1, "serve", stderr=f"{scores}, status {server.process.returncode}")
    else:
        output([program, *words], work, environment)


def output(command: list[str], place: Path, environment: dict[str, str] | None) -> str:
    """Run a command, for what it prints."""
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command[-3:], stderr=done.stdout + done.stderr)
    return done.stdout


def _placed(word: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        word = word.replace(name, place)
    return word


if __name__ == "__main__":
    main()
