"""Scores a job on a Ray cluster: an actor has the model and takes shard after shard, as `--shard` gives a process one.

Ray says who takes which shard, and starts an actor anew where one died; no pair goes through it. Which parts there are,
and that each is there once, is the folder's (`zhichun.score.job_folder`): a part that was written before a node died is
not scored again, and what Ray gives twice has the same name. Every node must reach model, pairs and result by the same
paths or addresses.

Traps  blocks of Ray Data differ between runs and have no order, so that a block is the number of a shard; an error
       in an actor ends the job, only its death does not (ray#39800); a dataset of one block keeps one actor busy
       (ray#41728); a model that is pickled by the driver is copied through its memory (ray#34121)
"""

import importlib
import logging
import os
import socket
from pathlib import Path
from typing import Any, Final

from zhichun.core.console import Bar
from zhichun.core.errors import UserError
from zhichun.core.storage import is_url
from zhichun.score.engine import threads
from zhichun.score.export.export_folder import is_export
from zhichun.score.job import ScoringJob, finish_job, sources_of
from zhichun.score.job_folder import Totals
from zhichun.score.parts import FILES_A_SHARD, Shard

AUTO: Final = "auto"
LOCAL: Final = "local"  # a cluster of this machine alone, which ends with the job
SECONDS_TO_ANSWER: Final = 5
# So many for each actor, so that those which are faster take more.
SHARDS_AN_ACTOR: Final = 4


class _Actor:
    """One process with the model; torch takes as many threads as the driver would."""

    def __init__(self, options: dict[str, Any], count: int) -> None:
        self._options, self._count = options, count
        self._job: ScoringJob | None = None

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        refused = []
        for index in block["id"].tolist():
            try:
                self._job = self._job or ScoringJob.load(**self._options)
                self._job.run_shard(Shard(index, self._count))
                refused.append("")
            except UserError as error:  # given back, or Ray would wrap it in pages of its own
                refused.append(str(error))
        return {"refused": refused}


def score_on_ray(address: str, options: dict[str, Any]) -> Totals:
    """Score a job on a cluster.

    Parameters
    ----------
    address
        Of the cluster; ``auto`` is the one that this machine belongs to, or else one of this machine alone.
    options
        Arguments of `ScoringJob.load`; the result is a folder.

    Raises
    ------
    UserError
        When Ray is not installed or the cluster is not there, and as `ScoringJob.run_shard`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray, data = importlib.import_module("ray"), importlib.import_module("ray.data")
    options = absolute(options)
    _connect(ray, address)
    try:
        gpus = 0 if is_export(options["run"]) else int(ray.cluster_resources().get("GPU", 0))
        cores = threads() if not gpus else 1
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        actors = gpus or sum(int(node.get("CPU", 0)) // cores for node in nodes)
        if not actors:
            problem = f"no node of the cluster has {cores} cores, the threads of a process here."
            raise UserError(problem, remedy="Set OMP_NUM_THREADS to fewer.")
        files = len(sources_of(options["pairs"], options["out"])) // FILES_A_SHARD
        count = max(files, actors) if files >= actors else SHARDS_AN_ACTOR * actors
        data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        # Not `range`, whose tasks would wait for cores that the actors have.
        blocks = data.from_items([{"id": index} for index in range(count)], override_num_blocks=count)
        done = blocks.map_batches(
            _Actor,
            fn_constructor_args=(options, count),
            batch_size=1,
            compute=data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
            num_cpus=cores,
            num_gpus=1 if gpus else None,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads())}},
        )
        with Bar("score", "shards") as bar:
            bar.start(0, count)
            bar.note(f"{actors} actors of {cores} cores{' and a GPU' if gpus else ''} on {len(nodes)} nodes")
            for row in done.iter_rows():
                if row["refused"]:
                    raise UserError(row["refused"])
                bar.advance(1)
    finally:
        ray.shutdown()
    return finish_job(options["out"])


def absolute(options: dict[str, Any]) -> dict[str, Any]:
    """Name places as actors find them, which work in another folder; names on the hub stay as they are."""
    given = {name: options.get(name) for name in ("run", "pairs", "out", "catalogue", "since")}
    here = {
        name: type(place)(Path(place).absolute())
        for name, place in given.items()
        if place is not None and not is_url(place) and (name not in ("run", "catalogue") or Path(place).exists())
    }
    return options | here


def _connect(ray: Any, address: str) -> None:
    address = os.environ.get("RAY_ADDRESS") or _on_record() if address == AUTO else address
    nobody, remedy = f"there is no Ray cluster at {address!r}", "Start one with: ray start --head"
    if address != LOCAL and "://" not in address and not _answers(address):
        raise UserError(f"{nobody}: nobody answers there.", remedy=remedy)
    quiet = {"logging_level": "error", "log_to_driver": False}
    try:
        ray.init(address=address, **quiet, **({"include_dashboard": False} if address == LOCAL else {}))
    except ray.exceptions.AuthenticationError as error:
        remedy = "Give it as RAY_AUTH_TOKEN, with RAY_AUTH_MODE=token; ray get-auth-token prints it on the head."
        raise UserError("the Ray cluster takes only who has its token.", remedy=remedy) from error
    except Exception as error:  # of a node that does not start in time too
        raise UserError(f"{nobody} ({error}).", remedy=remedy) from error


def _on_record() -> str:
    """Return the cluster that this machine belongs to; what `ray start` wrote of one that was killed does not count."""
    record = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray", "ray_current_cluster")
    address = record.read_text("utf-8").strip() if record.is_file() else ""
    return address if address and _answers(address) else LOCAL


def _answers(address: str) -> bool:
    """Tell whether anybody listens at ``HOST:PORT``; Ray itself waits for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True
