"""Whether a killed `zhichun judge` pays for an answer twice: kills it while a strict stand-in counts the calls.

    python benchmarks/judge_kills.py [--pairs 2000] [--kills 20] [--concurrency 8] [--seed 0] [--out FILE]

The command judges once in peace. Then it is started anew with a cache of its own, killed (SIGKILL) after a random
number of further calls, and started again, so many times; at last it is left alone. At each call the stand-in looks
into the file of answers: what is there must not be asked for. A kill may lose at most the calls in flight, and the
table must be the one of the run in peace, byte for byte. Runs are forks of one process, which has the libraries.
"""

import argparse
import csv
import importlib
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from kills import finish, start
from machine import circumstances, command_as_given
from strict_chat import StrictChat

from zhichun.core.files import write_json
from zhichun.judgements.chat import Chat

MODEL = "judge-1"
SECONDS_OF_A_CALL = 0.02
# So long without a call, on a busy machine, and there comes none.
SETTLED = 0.3


def main() -> None:
    """Kill as often as asked for and write down what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "judge_kills.json")
    options = parser.parse_args()
    importlib.import_module("zhichun.judgements.judge")
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="judge-kills-") as work:
        folder = Path(work)
        write_pairs(folder / "pairs.csv", options.pairs)
        with StrictChat(seconds=SECONDS_OF_A_CALL) as chat:
            finish(folder, command("peace", chat.url, options.concurrency))
            in_peace = chat.paid.total()
        with Watching(folder / "killed.sqlite") as chat:
            lost = killed(folder, chat, options, chance)
        again, faults = chat.calls.total() - options.pairs, [*chat.faults]
        equal = (folder / "peace.csv").read_bytes() == (folder / "killed.csv").read_bytes()
    checks = {
        "each pair was asked for once in peace": in_peace == len(chat.calls) == options.pairs,
        "no stored answer was asked for again": chat.stored_asked == 0,
        "a kill lost no more than the calls in flight": max(lost) <= options.concurrency and again == sum(lost),
        "the tables are equal": equal,
        "as many kills as wanted": len(lost) == options.kills,
    }
    faults += [name for name, holds in checks.items() if not holds]
    found = {
        "command": command_as_given("judge_kills.py"),
        "pairs": options.pairs,
        "kills": len(lost),
        "concurrency": options.concurrency,
        "calls_in_peace": in_peace,
        "calls_with_kills": chat.calls.total(),
        "most_calls_of_a_pair": max(chat.calls.values()),
        "stored_answers_asked_for_again": chat.stored_asked,
        "answers_lost_by_each_kill": lost,
        "checks": checks,
        "faults": faults,
        "seed": options.seed,
        **circumstances("zhichun", "openai"),
    }
    write_json(options.out, found)
    sys.stdout.write(f"{len(lost)} kills, {again} calls again, {len(faults)} faults\n")
    sys.exit(1 if faults else 0)


class Watching(StrictChat):
    """Looks, at each call, whether the file has the answer already."""

    def __init__(self, file: Path) -> None:
        super().__init__(seconds=SECONDS_OF_A_CALL)
        self.file, self.stored_asked = file, 0
        # A fork while another thread is in SQLite would wait for that thread for ever.
        self.looking = threading.Lock()

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        """Give status, body and headers."""
        key = Chat("http://stand.in/v1", MODEL).key(json.loads(body)["messages"])
        with self.looking:
            self.stored_asked += bool(stored(self.file, "WHERE key = ?", key))
        return super().answer(path, headers, body)


def killed(folder: Path, chat: Watching, options: argparse.Namespace, chance: random.Random) -> list[int]:
    """Kill the command at random moments, then let it finish; gives the answers that each kill lost."""
    lost, arguments = list[int](), command("killed", chat.url, options.concurrency)
    for _ in range(options.kills):
        until = chat.calls.total() + chance.randrange(1, 3 * options.pairs // (2 * options.kills))
        with chat.looking:
            child = start(folder, arguments)
        while chat.calls.total() < until:
            time.sleep(0.001)
            if os.waitpid(child, os.WNOHANG)[0]:
                return lost  # it is done, and there is nothing left to kill
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen = -1  # what was in flight, and perhaps is not read yet, is answered, and nobody is there
        while chat.running or chat.calls.total() > seen:
            seen = chat.calls.total()
            time.sleep(SETTLED)
        lost.append(chat.calls.total() - stored(folder / "killed.sqlite") - sum(lost))
    finish(folder, arguments)  # nobody calls now, so that no thread is in SQLite
    return lost


def stored(file: Path, where: str = "", *values: bytes) -> int:
    """Count the answers that are kept."""
    if not file.is_file():
        return 0
    with closing(sqlite3.connect(file, timeout=60)) as connection:
        try:
            return int(connection.execute(f"SELECT count(*) FROM answers {where}", values).fetchone()[0])
        except sqlite3.OperationalError:  # killed before there was a table
            return 0


def command(name: str, url: str, concurrency: int) -> list[str]:
    """Give the command, with a table and a file of answers by this name."""
    where = ["judge", "pairs.csv", f"{name}.csv", "--url", url, "--model", MODEL, "--yes"]
    return [*where, "--cache", f"{name}.sqlite", "--concurrency", str(concurrency)]


def write_pairs(path: Path, count: int) -> None:
    """Write pairs with texts of their own, some with trouble that passes."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["query", "product_id", "title", "description"])
        writer.writerows(_rows(count))


def _rows(count: int) -> Iterator[tuple[str, str, str, str]]:
    for number in range(count):
        yield f"query {number // 10}", f"p{number}", f"product {number} {'靴' * (number % 7)}", "soft " * (number % 50)


if __name__ == "__main__":
    main()
