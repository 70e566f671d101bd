"""Whether the server stays right and alive under load, with faults: ten minutes of it, and an end under load.

    python benchmarks/serve_faults.py [--seconds 600]

Good clients ask what `Scorer` has answered before, and hold each answer against it. Beside them others go away in the
middle, send what is too large, damaged or no HTTP at all, have wrong keys, and do not wait. At last SIGTERM comes
while the good clients ask: whatever they began before it, or in the quarter of a second after it, must be answered,
with scores or 503. A connection that is begun later may find the server gone; how long after SIGTERM is recorded.
Writes ``benchmarks/results/serve_faults.json``, and fails when a promise is broken. It needs `pip install
'zhichun[train,onnx,serve,bench]'`.
"""

import argparse
import http.client
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from machine import circumstances
from serve_fault_kinds import FAULTS, KEY, WITH_KEY, Known
from serve_load import Texts, environment_folder
from serve_models import made, shop
from served import Served, serving

from zhichun.core.errors import UserError
from zhichun.core.files import write_json
from zhichun.score.scorer import Scorer

HERE = Path(__file__).parent
SECONDS, GOOD_CLIENTS, KNOWN, PAIRS, MAX_LENGTH = 600.0, 4, 200, 20, 64
ENGINE, CACHED = "onnx", 1000  # fewer than the known pairs, so that scores are computed all the time
SAME = 1e-4
WARM_SHARE, SAMPLES = 0.2, 60
MOST_GROWTH = {"rss_mib": 64.0, "open_files": 32}
ALLOWED = {"503", "504"}
# The server answers for half a second at least after SIGTERM, so what begins in the first half of that is accepted.
ACCEPTING_SECONDS = 0.25


@dataclass
class Seen:
    """What all clients have seen, by kind of client and status.

    ``turned_away`` is how long after SIGTERM each connection began that found no server any more.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    ended_at: float = float("inf")
    turned_away: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, status: int | str) -> None:
        """Count one outcome."""
        with self.lock:
            self.statuses[f"{kind} {status}"] += 1

    def note_broken(self, began: float) -> bool:
        """Count a good request without an answer; gives whether the server was to be gone when it began."""
        after = began - self.ended_at
        if after <= ACCEPTING_SECONDS:
            self.note("good", "lost")
            return False
        with self.lock:
            self.turned_away.append(round(after, 3))
        return True

    def check(self, known: Known, body: bytes) -> None:
        """Hold an answer with scores against the right one."""
        found = {rank["index"]: rank["score"] for rank in json.loads(body)}
        right = len(found) == len(known.scores) and all(
            abs(found[place] - score) <= SAME for place, score in enumerate(known.scores)
        )
        if not right:
            with self.lock:
                self.wrong += 1


def known_requests(scorer: Scorer, texts: Texts) -> list[Known]:
    """Ask the scorer itself what is right."""
    requests = [texts.request(number, PAIRS) for number in range(KNOWN)]
    return [
        Known(json.dumps({"query": query, "texts": titles}).encode(), scorer.score(query, titles).score.tolist())
        for query, titles in requests
    ]


def good_client(server: Served, known: list[Known], seen: Seen, chance: random.Random, ended: threading.Event) -> None:
    """Ask and hold each answer against the right one, until told or until the server has ended."""
    while not ended.is_set():
        asked, began = chance.choice(known), time.monotonic()
        try:
            status, content = server.ask("POST", "/rerank", asked.body, WITH_KEY, seconds=60)
        except (OSError, http.client.HTTPException):
            if seen.note_broken(began):
                return
            continue
        seen.note("good", status)
        if status == 200:
            seen.check(asked, content)


def bad_client(server: Served, known: list[Known], seen: Seen, chance: random.Random, ended: threading.Event) -> None:
    """Make one fault after the other."""
    while not ended.is_set():
        fault = chance.choice(FAULTS)
        try:
            seen.note(fault.__name__, fault(server, chance, known))
        except (OSError, http.client.HTTPException):
            seen.note(fault.__name__, "closed")
        ended.wait(0.02)


def under_load(server: Served, known: list[Known], seconds: float) -> dict[str, Any]:
    """Load the server, watch what it holds, and end it while good clients ask."""
    seen, good_ended, bad_ended = Seen(), threading.Event(), threading.Event()
    good = [
        threading.Thread(target=good_client, args=(server, known, seen, random.Random(at), good_ended))
        for at in range(GOOD_CLIENTS)
    ]
    bad = [
        threading.Thread(target=bad_client, args=(server, known, seen, random.Random(-1 - at), bad_ended))
        for at in range(2)
    ]
    for thread in (*good, *bad):
        thread.start()
    began, held = time.monotonic(), []
    while (passed := time.monotonic() - began) < seconds and server.process.poll() is None:
        held.append({"second": round(passed, 1), **server.held()})
        time.sleep(max(0.5, seconds / SAMPLES))
    alive = server.process.poll() is None
    bad_ended.set()
    for thread in bad:
        thread.join(60)
    before = dict(seen.statuses)
    seen.ended_at = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(60)
    good_ended.set()
    for thread in good:
        thread.join(90)
    at_end = {key: count - before.get(key, 0) for key, count in seen.statuses.items() if count != before.get(key, 0)}
    return {"alive": alive, "seen": seen, "at_end": at_end, "held": held, "exit_status": server.process.returncode}


def growth(held: list[dict[str, float]]) -> dict[str, float]:
    """Say how much more was held in the last tenth than right after the warm-up, by medians."""
    warm = held[round(len(held) * WARM_SHARE) :]
    part = max(1, len(warm) // 10)
    return {
        name: float(np.median([of[name] for of in warm[-part:]]) - np.median([of[name] for of in warm[:part]]))
        for name in MOST_GROWTH
    }


def broken(found: dict[str, Any]) -> list[str]:
    """Name the promises that were broken."""
    statuses, grown = found["statuses"], found["growth"]
    bad = [key for key in statuses if (last := key.rpartition(" ")[2]).startswith("5") and last not in ALLOWED]
    checks = {
        "the process died": not found["alive"],
        f"{found['wrong']} answers were wrong": found["wrong"],
        f"faults of the server: {bad}": bad,
        "accepted requests were lost": statuses.get("good lost", 0),
        "the server did not end well": found["exit_status"] != 0,
        "a wrong key was let in": any(key.startswith("wrong_key") and key != "wrong_key 401" for key in statuses),
        "no good request was answered": not statuses.get("good 200"),
        f"it holds more and more: {grown}": any(grown[name] > most for name, most in MOST_GROWTH.items()),
    }
    return [what for what, is_so in checks.items() if is_so]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "serve", help="where the model is kept")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "serve_faults.json")
    arguments = parser.parse_args()
    data = shop(arguments.work)
    model, texts = made("tiny", arguments.work, data, MAX_LENGTH), Texts.of(environment_folder("ESCI_DATA"), data)
    known = known_requests(Scorer.load(model.exported, engine=ENGINE), texts)
    command = [sys.executable, "-m", "zhichun", "serve", str(model.exported), "--port", "PORT", "--engine", ENGINE]
    command += ["--most-body", "1", "--cache", str(CACHED)]
    with serving(command, {"ZHICHUN_API_KEYS": KEY}) as server:
        found = under_load(server, known, arguments.seconds)
    seen = found.pop("seen")
    found |= {
        "statuses": dict(sorted(seen.statuses.items())),
        "wrong": seen.wrong,
        "turned_away": seen.turned_away,
        "growth": growth(found["held"]),
    }
    promises = broken(found)
    option = f" --seconds {arguments.seconds:g}" if arguments.seconds != SECONDS else ""
    result = {
        "what": "the server under load with faults",
        "command": f"python benchmarks/serve_faults.py{option}",
        **circumstances("zhichun", "onnxruntime", "fastapi", "uvicorn"),
        "seconds": arguments.seconds,
        "good_clients": GOOD_CLIENTS,
        "pairs_per_request": PAIRS,
        "limits": MOST_GROWTH,
        "broken": promises,
        **found,
    }
    write_json(arguments.out, result)
    sys.exit(f"broken: {'; '.join(promises)}" if promises else 0)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
