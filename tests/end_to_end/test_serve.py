"""`zhichun serve` as it is started by a person: it says where it is, answers, and ends without losing a request."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from zhichun.core.files import write_hashes

pytest.importorskip("fastapi")

SECONDS = 180
BODY = {"query": "red shoes", "texts": ["red shoes", "lamp"]}

Served = tuple[str, subprocess.Popen[str]]


@contextmanager
def served(*arguments: object, environment: dict[str, str] | None = None, log: Path | None = None) -> Iterator[Served]:
    """Start a server on a free port; gives its address and its process, which ends in the end."""
    command = [sys.executable, "-m", "zhichun", "serve", *map(str, arguments), "--port", "0"]
    with Path(log or os.devnull).open("w") as errors:
        environment = {**os.environ, **(environment or {})}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    try:
        assert process.stdout is not None
        latest, url = time.monotonic() + SECONDS, ""
        while time.monotonic() < latest and not url:
            line = process.stdout.readline()
            found = re.search(r"(http://\S+?)(?: \(process \d+\))?: .* is ready", line)
            assert line, "the server ended"
            url = found[1] if found else ""
        yield url, process
    finally:
        process.kill()
        process.wait(SECONDS)
        process.stdout.close()


def ask(url: str, body: dict[str, Any], **headers: str) -> tuple[int, Any]:
    content = json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.status, json.loads(error.read())


def scores_of(url: str, pairs: Sequence[dict[str, Any]]) -> list[float]:
    documents = [{"product_id": pair["product_id"], "locale": pair["product_locale"]} for pair in pairs]
    status, said = ask(f"{url}/score", {"queries": [pair["query"] for pair in pairs], "documents": documents})
    assert status == 200, said
    return [each["score"] for each in said["data"]]


@pytest.mark.parametrize("exported", [False, True])
def test_it_answers_as_score_does_and_ends_when_it_is_told_to(home, tiny_export, tiny_run, tmp_path, succeed, exported):
    model, data = (tiny_export, home / "data") if exported else (home / "run", home / "data")
    pairs = pq.read_table(data / "examples.parquet").slice(0, 40).select(["query", "product_id", "product_locale"])
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    succeed("score", model, tmp_path / "pairs.parquet", tmp_path / "scored.parquet", "--products", data)
    expected = pq.read_table(tmp_path / "scored.parquet")["gain"].to_pylist()
    with served(model, "--products", data) as (url, process):
        assert scores_of(url, pairs.to_pylist()) == pytest.approx(expected, abs=1e-5)
        with urllib.request.urlopen(f"{url}/?q=red&locale=us", timeout=SECONDS) as page:
            assert "Reranked by the model" in page.read().decode()
        if exported:  # and torch is never loaded
            maps = Path(f"/proc/{process.pid}/maps")
            assert not maps.is_file() or "libtorch" not in maps.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


def test_no_accepted_request_is_lost_at_the_end(tiny_export, tmp_path):
    statuses: list[int] = []

    def keep_asking(url: str, number: int) -> None:
        for count in range(2000):
            documents = [f"red shoe {place} {count}" for place in range(20)]
            try:
                statuses.append(ask(f"{url}/rerank", {"query": f"shoe {number} {count}", "documents": documents})[0])
            except (urllib.error.URLError, ConnectionError):
                return  # nobody listens any more

    with served(tiny_export, "--cache", 0, log=tmp_path / "log") as (url, process):
        threads = [threading.Thread(target=keep_asking, args=(url, number)) for number in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        for thread in threads:
            thread.join(SECONDS)
    answered = Counter(map(int, re.findall(r" POST \S+ (\d+) ", (tmp_path / "log").read_text())))
    assert statuses.count(200) > 6
    assert set(statuses) <= {200, 503}
    # Whatever the server took on, a client got the answer of.
    assert answered == Counter(statuses)


def test_a_second_signal_ends_at_once_and_what_waits_is_refused(tiny_run, tmp_path):
    body = {"query": "shoe", "documents": [f"{place} {'long words of a text ' * 400}" for place in range(1000)]}
    answers: list[tuple[int, Any]] = []

    def keep_answer(url: str) -> None:
        try:
            answers.append(ask(url, body))
        except (urllib.error.URLError, ConnectionError) as error:  # its body was still on the way
            answers.append((0, error))

    with served(tiny_run, "--cache", 0, "--drain", SECONDS, log=tmp_path / "log") as (url, process):
        threads = [threading.Thread(target=keep_answer, args=(f"{url}/v1/rerank",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: queued(url) > 0)
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)  # two of a kind that come at once are one
        assert process.wait(SECONDS) == 0
        for thread in threads:
            thread.join(SECONDS)
    assert len(answers) == 4
    assert (503, {"detail": "the server is ending."}) in answers
    assert "Traceback" not in (tmp_path / "log").read_text()


def queued(url: str) -> float:
    """Read how many requests wait for the model."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=SECONDS) as answer:
        return float(re.findall(r"^zhichun_queue_requests (.*)$", answer.read().decode(), re.M)[0])


WORKER = re.compile(r"\(process (\d+)\): .* is ready")


def next_worker(process: subprocess.Popen[str]) -> int:
    """Wait until one more process is ready; gives its id."""
    assert process.stdout is not None
    while line := process.stdout.readline():
        if found := WORKER.search(line):
            return int(found[1])
    pytest.fail("the server ended")


def until(happened: Callable[[], bool]) -> None:
    latest = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < latest
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


def counted(url: str) -> float:
    """Read how many requests all processes have answered."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=SECONDS) as answer:
        found = re.findall(
            r'^zhichun_requests_total\{path="/rerank",status="200"\} (.*)$', answer.read().decode(), re.M
        )
    return float(found[0])


def test_several_processes_are_one_server(tiny_export, tmp_path):
    """A dead worker is replaced and its counts stay; none serves another model; none outlives its parent."""
    export = shutil.copytree(tiny_export, tmp_path / "export")
    log = tmp_path / "log"
    with served(export, "--workers", 2, log=log) as (url, process):
        status, first = ask(f"{url}/rerank", BODY)
        assert status == 200
        second = next_worker(process)
        for number in range(1, 8):
            until(lambda number=number: counted(url) == number)  # whichever process is asked
            assert ask(f"{url}/rerank", BODY) == (200, first)
        until(lambda: counted(url) == 8)  # an answer is counted after it is sent, and a kill in between loses the count
        os.kill(second, signal.SIGKILL)
        third = next_worker(process)
        assert f"worker {second} died (exit status -9)" in log.read_text()
        assert ask(f"{url}/rerank", BODY) == (200, first)
        until(lambda: counted(url) == 9)
        config = export / "config.json"
        config.write_text(config.read_text() + "\n")
        write_hashes(export)  # another model, and a complete one
        os.kill(third, signal.SIGKILL)
        until(lambda: "holds another model" in log.read_text())
        assert [ask(f"{url}/rerank", BODY) for _ in range(5)] == [(200, first)] * 5
        workers = children_of(process.pid)
        process.kill()
        until(lambda: not any(map(is_alive, workers)))
        with pytest.raises(urllib.error.URLError):
            ask(f"{url}/rerank", BODY)


def test_several_processes_answer_with_one_key_and_end_together(tiny_export):
    with served(tiny_export, "--workers", 2, environment={"ZHICHUN_API_KEYS": "k1,k2"}) as (url, process):
        assert ask(f"{url}/rerank", BODY)[0] == 401
        assert {ask(f"{url}/rerank", BODY, Authorization="Bearer k2")[0] for _ in range(6)} == {200}
        assert ask(f"{url}/rerank", BODY, **{"X-API-Key": "k1"})[0] == 200
        workers = children_of(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
        until(lambda: not any(map(is_alive, workers)))


def children_of(pid: int) -> list[int]:
    """Give the processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_what_cannot_be_served_is_said_in_a_sentence(tiny_run, tmp_path, fail):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on http://127.0.0.1:{port}" in fail("serve", tiny_run, "--port", port)
    assert "there is no such folder" in fail("serve", tmp_path / "missing")
    assert "needs API keys" in fail("serve", tiny_run, "--host", "0.0.0.0")
    (tmp_path / "keys").write_text("# none yet\n")
    assert "there is no key in it" in fail("serve", tiny_run, "--api-keys", tmp_path / "keys")
