"""Whether the server stays right and alive under load, with faults, when workers die, and with damaged models.

    python benchmarks/serve_faults.py [--seconds 600]

Good clients ask what `Scorer` has answered before, and hold each answer against it. Beside them others disconnect in
the middle, send what is too large, of too many values, damaged or no HTTP at all, have wrong keys, and do not wait.
From time to time 2,000 connections send half a request head, and 60 clients do not read large answers. All the while
``/health`` is asked for, and memory is watched. At last SIGTERM comes while the good clients ask: whatever they began
before it, or in the quarter of a second after it, must be answered, with scores or 503. A connection that is begun
later may find the server gone; how long after SIGTERM is recorded. Then two workers serve, and one after the other is
killed. Then a byte of each file of the model is changed, and the server must refuse to start.
Writes ``benchmarks/results/serve_faults.json``, and fails when a promise is broken. It needs `pip install
'zhichun[train,onnx,serve,bench]'`, and Linux.
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
from serve_fault_kinds import (
    FAULTS,
    KEY,
    MOST_BODY,
    WITH_KEY,
    Known,
    allow_open_files,
    slow_heads,
    slow_readers,
    tampered,
)
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
WARM_SHARE, SAMPLES = 0.4, 300
MOST_GROWTH = {"rss_mib": 64.0, "open_files": 32}
SLOW_HEADS, SLOW_READERS, CUT_OFF_SECONDS = 2000, 60, 60.0
MOST_HEALTH_SECONDS = 0.5
# Bodies and answers may hold 128 MiB; what is made of a body takes some times its size while it is read.
MOST_ABOVE_IDLE_MIB = 512.0
DEATHS, SETTLE_SECONDS = 3, 2.0
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
    health_seconds: list[float] = field(default_factory=list)
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


def ask_health(server: Served, seen: Seen, ended: threading.Event) -> None:
    """Ask for the server's health all the time, and note how long it takes."""
    while not ended.wait(0.05):
        began = time.monotonic()
        try:
            status: int | str = server.ask("GET", "/health", headers={}, seconds=30)[0]
        except (OSError, http.client.HTTPException) as error:
            status = type(error).__name__
        seen.note("health", status)
        seen.health_seconds.append(round(time.monotonic() - began, 3))


def storms(server: Served, seen: Seen, ended: threading.Event) -> None:
    """Let many connections be slow at once, in turn with heads and with answers."""
    while not ended.is_set():
        for storm, count in ((slow_heads, SLOW_HEADS), (slow_readers, SLOW_READERS)):
            left = count - storm(server, count, CUT_OFF_SECONDS)
            seen.note(storm.__name__, f"{left} left")
            if ended.wait(2):
                return


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
    bad += [threading.Thread(target=each, args=(server, seen, bad_ended)) for each in (ask_health, storms)]
    for thread in (*good, *bad):
        thread.start()
    idle, log_began = server.held(), server.log.stat().st_size
    began, held = time.monotonic(), []
    while (passed := time.monotonic() - began) < seconds and server.process.poll() is None:
        held.append({"second": round(passed, 1), **server.held()})
        time.sleep(max(0.25, seconds / SAMPLES))
    alive = server.process.poll() is None
    bad_ended.set()
    for thread in bad:
        thread.join(120)
    before = dict(seen.statuses)
    log_mib = (server.log.stat().st_size - log_began) / 2**20
    seen.ended_at = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(60)
    good_ended.set()
    for thread in good:
        thread.join(90)
    at_end = {key: count - before.get(key, 0) for key, count in seen.statuses.items() if count != before.get(key, 0)}
    return {
        "alive": alive,
        "seen": seen,
        "at_end": at_end,
        "held": held,
        "idle_mib": idle["rss_mib"],
        "peak_mib": max(of["rss_mib"] for of in held),
        "log_mib": round(log_mib, 1),
        "exit_status": server.process.returncode,
    }


def with_deaths(server: Served, known: list[Known]) -> dict[str, Any]:
    """Kill workers while good clients ask; gives what these saw, and how many requests each death cost."""
    seen, ended = Seen(), threading.Event()
    clients = [
        threading.Thread(target=good_client, args=(server, known, seen, random.Random(at), ended))
        for at in range(GOOD_CLIENTS)
    ]
    clients.append(threading.Thread(target=ask_health, args=(server, seen, ended)))
    for thread in clients:
        thread.start()
    killed = []
    for begun in range(2, 3 + DEATHS):
        while server.log.read_text("utf-8", "replace").count(" is ready") < begun and server.process.poll() is None:
            time.sleep(0.5)
        time.sleep(SETTLE_SECONDS)
        if begun < 2 + DEATHS:
            killed.append(server.workers()[0])
            os.kill(killed[-1], signal.SIGKILL)
    ended.set()
    for thread in clients:
        thread.join(90)
    log = server.log.read_text("utf-8", "replace")
    return {
        "workers": 2,
        "deaths": len(killed),
        "logged": sum(f"worker {pid} died" in log for pid in killed),
        "alive": len(server.workers()),
        "statuses": dict(sorted(seen.statuses.items())),
        "wrong": seen.wrong,
        "worst_health_seconds": max(seen.health_seconds),
    }


def growth(held: list[dict[str, float]]) -> dict[str, float]:
    """Say how much more was held in the last third than in the first after the warm-up: the least, between storms."""
    warm = held[round(len(held) * WARM_SHARE) :]
    part = max(1, len(warm) // 3)
    return {
        name: round(min(of[name] for of in warm[-part:]) - min(of[name] for of in warm[:part]), 1)
        for name in MOST_GROWTH
    }


def broken(found: dict[str, Any]) -> list[str]:
    """Name the promises that were broken."""
    statuses, grown, deaths = found["statuses"], found["growth"], found["worker_deaths"]
    above = found["peak_mib"] - found["idle_mib"]
    served = [file for file, said in found["damaged"].items() if said == "served" or "Traceback" in said]
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
        f"it held {above:.0f} MiB more than when idle": above > MOST_ABOVE_IDLE_MIB,
        f"/health took {found['worst_health_seconds']} s": found["worst_health_seconds"] > MOST_HEALTH_SECONDS,
        "/health was not 200": any(key.startswith("health") and key != "health 200" for key in statuses),
        "slow connections were not cut off": any(
            key.endswith(" left") and not key.endswith(" 0 left") for key in statuses
        ),
        "a body of many values was accepted": any(
            key.startswith("many_items") and key.rpartition(" ")[2] not in ("413", "422", "429") for key in statuses
        ),
        "workers that died were not logged, or not replaced": deaths["logged"] < DEATHS or deaths["alive"] < 2,
        "a death cost more than what its worker was answering": (
            deaths["statuses"].get("good lost", 0) > DEATHS * GOOD_CLIENTS or deaths["wrong"]
        ),
        f"damaged models were served: {served}": served,
    }
    return [what for what, is_so in checks.items() if is_so]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "serve", help="where the model is kept")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "serve_faults.json")
    arguments = parser.parse_args()
    load_average = round(os.getloadavg()[0], 1)
    data = shop(arguments.work)
    model, texts = made("tiny", arguments.work, data, MAX_LENGTH), Texts.of(environment_folder("ESCI_DATA"), data)
    known = known_requests(Scorer.load(model.exported, engine=ENGINE), texts)
    command = [sys.executable, "-m", "zhichun", "serve", str(model.exported), "--port", "PORT", "--engine", ENGINE]
    command += ["--most-body", str(MOST_BODY >> 20), "--cache", str(CACHED)]
    allow_open_files(2 * SLOW_HEADS)
    with serving(command, {"ZHICHUN_API_KEYS": KEY}) as server:
        found = under_load(server, known, arguments.seconds)
    with serving([*command, "--workers", "2"], {"ZHICHUN_API_KEYS": KEY}) as server:
        found["worker_deaths"] = with_deaths(server, known)
    found["damaged"] = tampered(command, model.exported, ENGINE, random.Random(0))
    seen = found.pop("seen")
    found |= {
        "statuses": dict(sorted(seen.statuses.items())),
        "wrong": seen.wrong,
        "turned_away": seen.turned_away,
        "worst_health_seconds": max(seen.health_seconds),
        "median_health_seconds": float(np.median(seen.health_seconds)),
        "growth": growth(found["held"]),
    }
    promises = broken(found)
    option = f" --seconds {arguments.seconds:g}" if arguments.seconds != SECONDS else ""
    result = {
        "what": "the server under load with faults",
        "command": f"python benchmarks/serve_faults.py{option}",
        **circumstances("zhichun", "onnxruntime", "fastapi", "uvicorn"),
        "seconds": arguments.seconds,
        "load_average_at_start": load_average,
        "good_clients": GOOD_CLIENTS,
        "pairs_per_request": PAIRS,
        "limits": {
            "growth": MOST_GROWTH,
            "above_idle_mib": MOST_ABOVE_IDLE_MIB,
            "health_seconds": MOST_HEALTH_SECONDS,
        },
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
