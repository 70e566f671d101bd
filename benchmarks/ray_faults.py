"""Whether a Ray cluster scores as fast as plain processes do, and whether kills in it lose anything.

    python benchmarks/ray_faults.py [--pairs 1000000] [--actors 4] [--kills 20] [--work FOLDER]

Starts a cluster of three nodes on this machine (`ray start --head` without cores, and two workers), and scores pairs of
the sample shop in peace, in turn: by as many processes with ``--shard`` as there are actors, and by ``--ray``. Pairs
per second are those from when each of them has made a part to the last part, so that loading is left out; the memory of
each actor is looked at as it works. Then a worker node, an actor or the driver is killed (SIGKILL) at random moments; a
node is started again, and so is the driver, until so many kills have fallen. The folder must be that of the processes,
byte for byte. With ``--work``, the same call goes on where it was stopped, and another one begins anew. Writes
``results/ray_faults.json``.
"""

import argparse
import contextlib
import os
import random
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psutil
from kills import differing
from machine import circumstances, command_as_given
from scaling import ACTOR, SETTINGS, pace
from shards import SHOP, arguments, make

from zhichun.core.files import read_json, write_json

HERE: Final = Path(__file__).parent
GOAL: Final = {"pace_beside_processes": 0.85, "faults": 0}
PORT: Final = 26_379
# Seconds between two looks at all processes of the cluster, each of which takes a while from the actors.
LOOK: Final = 15
ADDRESS: Final = f"127.0.0.1:{PORT}"
# Ray asks for a token where one lies in the user's folder, but not all of its commands look for it there.
AUTHENTICATION: Final = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
QUIET: Final = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}


def command(work: Path, *words: str) -> subprocess.Popen[bytes]:
    log = (work / "log").open("ab")
    return subprocess.Popen([sys.executable, "-m", "zhichun", *words], cwd=work, stdout=log, stderr=log)


class Cluster:
    """A head without cores and two workers."""

    def __init__(self, work: Path, actors: int) -> None:
        self._log = (work / "ray.log").open("ab")
        self._cores = [-(-actors // 2), actors // 2]
        self.head = self._start("--head", "--port", str(PORT), "--num-cpus", "0", "--include-dashboard", "false")
        self._wait_for(1)
        self.workers = list[subprocess.Popen[bytes]]()
        for cores in self._cores:  # one by one: two that begin at once may take each other's ports
            self.workers.append(self._worker(cores))
            self._wait_for(1 + len(self.workers))

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        ray = str(Path(sys.executable).with_name("ray"))
        options = [*words, "--node-ip-address", "127.0.0.1", "--block", "--disable-usage-stats"]
        options += ["--object-store-memory", str(100 << 20)]
        return subprocess.Popen([ray, "start", *options], stdout=self._log, stderr=self._log)

    def _worker(self, cores: int) -> subprocess.Popen[bytes]:
        return self._start("--address", ADDRESS, "--num-cpus", str(cores))

    def _wait_for(self, nodes: int) -> None:
        ray = str(Path(sys.executable).with_name("ray"))
        for _ in range(60):
            told = subprocess.run([ray, "status", "--address", ADDRESS], capture_output=True, text=True, check=False)
            if told.stdout.partition("Pending:")[0].count("1 node_") >= nodes:
                return
            time.sleep(1)
        raise SystemExit(f"the cluster has not had {nodes} nodes after two minutes: {told.stdout}{told.stderr}")

    def mend(self) -> None:
        """Start a worker again that did not come up."""
        for place, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self.workers[place] = self._worker(self._cores[place])

    def actors(self) -> list[psutil.Process]:
        """Find the processes of actors."""
        found = []
        for worker in self.workers:
            for each in _tree(worker.pid)[1:]:
                try:
                    if ACTOR in " ".join(each.cmdline()):
                        found.append(each)
                except psutil.Error:
                    continue
        return found

    def kill_worker(self, place: int) -> None:
        """Kill a worker node with all its processes, and start it again."""
        _kill(self.workers[place])
        self.workers[place] = self._worker(self._cores[place])

    def close(self) -> None:
        """End all nodes."""
        for each in (*self.workers, self.head):
            _kill(each)


def _tree(process: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(process)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _kill(process: subprocess.Popen[bytes]) -> None:
    for each in _tree(process.pid):
        try:
            each.kill()
        except psutil.Error:
            continue
    process.wait()


def in_peace(work: Path, cluster: Cluster, given: argparse.Namespace) -> dict[str, Any]:
    """Score by processes and on the cluster, in turn."""
    actors, paces, faults = given.actors, list[dict[str, float]](), list[str]()
    memory: dict[int, list[int]] = defaultdict(list)
    for _ in range(given.rounds):
        for name in ("peace", "ray"):
            shutil.rmtree(work / name, ignore_errors=True)
        of = [arguments("peace", given.part_rows, "--shard", f"{each}/{actors}") for each in range(actors)]
        if any(shard.wait() for shard in [command(work, *words) for words in of]):
            raise SystemExit(f"a shard failed: {(work / 'log').read_text()[-500:]}")
        driver = command(work, *arguments("ray", given.part_rows, "--ray", ADDRESS))
        while driver.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(LOOK)
            for actor in cluster.actors():
                with contextlib.suppress(psutil.Error):
                    memory[actor.pid].append(actor.memory_info().rss >> 20)
        if driver.returncode:
            raise SystemExit(f"the calm run on Ray failed: {(work / 'log').read_text()[-1500:]}")
        names = {"peace": "processes", "ray": "ray"}
        paces.append({names[name]: round(pace(work / name, actors), 1) for name in names})
        faults += differing_parts(work, "ray")
    return {
        "pairs_per_second": {name: statistics.median(of[name] for of in paces) for name in paces[0]},
        "pace_beside_processes": round(statistics.median(of["ray"] / of["processes"] for of in paces), 3),
        "rounds": paces,
        # From when it has loaded and scored for a while.
        "mib_of_actors": {
            "in_the_middle": [seen[len(seen) // 2] for seen in memory.values()],
            "at_most": [max(seen) for seen in memory.values()],
        },
        "faults": faults,
    }


def differing_parts(work: Path, name: str) -> list[str]:
    return [each for each in differing(work / "peace", work / name) if not each.startswith("_shards")]


def kill_often(work: Path, cluster: Cluster, given: argparse.Namespace, before: Mapping[str, Any]) -> dict[str, Any]:
    """Kill nodes, actors and drivers until so many kills have fallen or the time is over, over some jobs."""
    fallen, jobs, faults = Counter[str](before["kills"]), before["jobs"], [*before["faults"]]
    chance, kills, end = random.Random(given.seed + jobs), given.kills, time.monotonic() + 60 * given.minutes
    part_rows = given.part_rows
    while fallen.total() < kills and time.monotonic() < end:
        shutil.rmtree(work / "killed", ignore_errors=True)
        driver = command(work, *arguments("killed", part_rows, "--ray", ADDRESS))
        while driver.poll() is None or not (work / "killed" / "_SUCCESS").is_file():
            if driver.poll() is not None:  # it was killed, or an actor's death came to it
                if driver.returncode > 0:
                    faults.append(f"a driver ended with {driver.returncode}: {(work / 'log').read_text()[-300:]}")
                driver = command(work, *arguments("killed", part_rows, "--ray", ADDRESS))
            until = time.monotonic() + chance.uniform(2, 12)
            while time.monotonic() < until and driver.poll() is None:
                time.sleep(0.1)
            cluster.mend()
            if fallen.total() >= kills or driver.poll() is not None or time.monotonic() > end:
                continue
            kind = min(("node", "actor", "driver"), key=lambda each: (fallen[each], chance.random()))
            actors = cluster.actors()
            if kind == "node":
                cluster.kill_worker(chance.randrange(2))
            elif kind == "actor" and actors:
                chance.choice(actors).kill()
            elif kind == "driver":
                _kill(driver)
            else:
                continue
            fallen[kind] += 1
            sys.stderr.write(f"{fallen.total()} kills\n")
        jobs += 1
        faults += differing_parts(work, "killed")
        write_json(work / "killed.json", {"kills": dict(fallen), "jobs": jobs, "faults": faults})
    return {"kills": dict(fallen), "jobs": jobs, "faults": faults}


def main() -> None:
    """Compare, kill, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--part-rows", type=int, default=20_000)
    parser.add_argument("--actors", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2, help="of processes and Ray in turn")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=60, help="of kills; the same call goes on, with --work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="where all is kept; a folder that is removed, if not given")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "ray_faults.json")
    given = parser.parse_args()
    settings = {name: getattr(given, name) for name in ("pairs", "part_rows", "actors", "rounds")}
    with tempfile.TemporaryDirectory(prefix="ray-") as temporary:
        work = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        make(work, given.pairs)
        cluster = Cluster(work, given.actors)
        try:
            peaceful, done = work / "calm.json", work / "killed.json"
            kept = read_json(peaceful) if peaceful.is_file() else {}
            if kept.get("settings") != settings:
                for each in (peaceful, done):  # of another call
                    each.unlink(missing_ok=True)
                kept = {"settings": settings, "in_peace": in_peace(work, cluster, given)}
                write_json(peaceful, kept)
            calm = kept["in_peace"]
            print(calm, flush=True)
            before = read_json(done) if done.is_file() else {"kills": {}, "jobs": 0, "faults": []}
            killed = kill_often(work, cluster, given, before)
        finally:
            cluster.close()
    if sum(killed["kills"].values()) < given.kills:
        raise SystemExit(f"{killed}: the same call goes on")
    result = {
        "what": "pairs of the sample shop on a Ray cluster of three nodes on one machine",
        "command": command_as_given("ray_faults.py"),
        **settings,
        "goals": GOAL,
        "in_peace": calm,
        "killed": killed,
        "shop": SHOP,
        "settings": SETTINGS,
        **circumstances("zhichun", "ray", "torch", "pyarrow"),
    }
    write_json(given.out, result)
    faults = calm["faults"] + killed["faults"]
    print(f"{killed['kills']} kills, {len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    os.environ.update(QUIET | AUTHENTICATION, OMP_NUM_THREADS="1")
    main()
