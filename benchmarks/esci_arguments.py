"""What every script that measures an encoder on the Shopping Queries Dataset is given, and how its command is written.

Not a script: `gpu.py`, `quality_esci.py`, `score_cpu.py` and `train_cpu.py` are.
"""

import argparse
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zhichun.data.prepare.prepare import prepare

HERE = Path(__file__).parent


def data_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser with the arguments that say where the data are and what is made of them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("ESCI_DATA"), help="default: $ESCI_DATA")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="where data and trainings are kept")
    return parser


def parse_data(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the arguments; ends the script where no dataset is named."""
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the Shopping Queries Dataset with --data, or in ESCI_DATA")
    arguments.work = apart(arguments.work, arguments.data)
    return arguments


def apart(work: Path, data: Path, *others: str) -> Path:
    """Give a folder in the work folder for these data and all else that decides what is made of them."""
    digest = hashlib.sha256(repr(others).encode())
    for path in sorted(data.glob("*.parquet")):
        digest.update(path.read_bytes())
    return work / f"{data.resolve().name}-{digest.hexdigest()[:8]}"


def short_hash(*said: Any) -> str:
    """Give what tells folders of other settings apart."""
    return hashlib.sha256(repr(said).encode()).hexdigest()[:8]


def esci_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser for scripts that are given an encoder too."""
    parser = data_parser(description)
    parser.add_argument("encoder", help="name or folder of a transformers encoder of the kind of BERT or XLM-R")
    parser.add_argument("--name", help="what the results call it, if not as it is given")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe for all")
    return parser


def parse_esci(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the arguments as `parse_data` does; ``name`` is always given."""
    arguments = parse_data(parser)
    arguments.name = arguments.name or arguments.encoder
    arguments.work /= short_hash(arguments.encoder, arguments.set)
    return arguments


def prepared(arguments: argparse.Namespace) -> Path:
    """Give the dataset folder in the work folder, made unless it is there."""
    folder: Path = arguments.work / "data"
    if not folder.is_dir():
        prepare(arguments.data, folder)
    return folder


def command(script: str, arguments: argparse.Namespace, options: Sequence[str]) -> str:
    """Write the command that repeats a measurement, without this machine's folders."""
    changes = [f"--set {change}" for change in arguments.set]
    return " ".join([f"python benchmarks/{script}", arguments.name, "--data ESCI_FOLDER", *options, *changes])
