"""`zhichun serve` as a process of its own: it starts, answers, refuses and ends as it says."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pyarrow.parquet as pq
import pytest

pytest.importorskip("fastapi")
from zhichun.scoring.load import load_scorer

SECONDS = 60
TEXTS = [f"Red shoe number {number}" for number in range(40)]


class Process:
    """A server that was started with `zhichun serve`."""

    def __init__(self, *arguments, environment=None):
        command = [sys.executable, "-m", "zhichun", "serve", *map(str, arguments), "--port", "0"]
        self.popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        until = time.monotonic() + SECONDS
        while not any("is ready" in line for line in self.lines):
            assert self.popen.poll() is None, self.lines
            assert time.monotonic() < until, self.lines
            time.sleep(0.05)
        self.port = int(re.search(r":(\d+)", self.lines[0])[1])

    def _read(self):
        for line in self.popen.stdout:
            self.lines.append(line)

    def ask(self, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        with contextlib.closing(connection):
            content = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json", **headers}
            connection.request("GET" if body is None else "POST", path, content, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def end(self, sig=signal.SIGTERM):
        self.popen.send_signal(sig)
        try:
            status = self.popen.wait(SECONDS)
        finally:
            self.popen.kill()
        self.reader.join(SECONDS)
        self.popen.stdout.close()
        return status


@pytest.fixture(scope="module")
def served(tiny_run, tiny_dataset):
    process = Process(tiny_run, "--products", tiny_dataset)
    yield process
    process.end()


def test_it_says_where_it_is_and_what_it_serves(served, tiny_run):
    (line,) = [line for line in served.lines if "is ready" in line]
    assert line.startswith(f"http://127.0.0.1:{served.port}: {tiny_run.resolve().name} (esci) is ready, by ")


def test_scores_are_those_of_the_scorer_itself(served, tiny_run):
    status, _, said = served.ask("/rerank", {"query": "red shoes", "texts": TEXTS})
    assert status == 200
    expected = load_scorer(tiny_run).score("red shoes", TEXTS).score
    assert [each["score"] for each in sorted(json.loads(said), key=lambda each: each["index"])] == pytest.approx(
        expected.tolist(), abs=1e-5
    )


def test_the_page_is_at_the_root_with_its_headers(served):
    status, headers, said = served.ask("/?q=shoes&locale=us")
    assert status == 200
    assert b"<html" in said
    headers = {name.lower(): value for name, value in headers.items()}
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"


def test_a_product_of_the_catalogue_is_found_by_its_id(served, tiny_dataset):
    first = pq.read_table(tiny_dataset / "products.parquet").slice(0, 1).to_pylist()[0]
    document = {"id": first["product_id"], "locale": first["product_locale"]}
    assert served.ask("/rerank", {"query": "shoes", "documents": [document]})[0] == 200
    assert served.ask("/rerank", {"query": "shoes", "documents": [{"id": "no such"}]})[0] == 422


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_loses_no_accepted_request(tiny_run, workers):
    process = Process(tiny_run, "--workers", workers, "--cache", 0)
    answers = []

    def client(number):
        texts = [f"Red shoe {number} {place}" for place in range(1000)]
        try:
            status, _, said = process.ask("/rerank", {"query": "red shoes", "texts": texts})
            answers.append((status, len(json.loads(said))))
        except (http.client.HTTPException, OSError) as error:
            answers.append(error)

    clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in clients:
        thread.start()
    time.sleep(0.5)
    waiting = 4 - len(answers)
    status = process.end()
    for thread in clients:
        thread.join(SECONDS)
    assert status == 0, process.lines
    assert waiting, "all were answered before the signal came"
    assert answers == [(200, 1000)] * 4


def test_a_wrong_key_gets_401_and_nothing_else(tiny_run, tmp_path):
    (tmp_path / "keys").write_text("right\n")
    process = Process(tiny_run, "--api-keys", tmp_path / "keys", "--log-texts")
    try:
        body = {"query": "shoes", "texts": TEXTS[:2]}
        for path in ("/rerank", "/v2/rerank", "/metrics", "/openapi.json", "/", "/nothing"):
            status, _, said = process.ask(path, body, Authorization="Bearer wrong")
            assert (status, b"shoe" in said) == (401, False)
        assert process.ask("/health")[0] == 200
        assert process.ask("/rerank", body, Authorization="Bearer right")[0] == 200
        assert process.ask("/rerank", body, **{"X-API-Key": "right"})[0] == 200
    finally:
        process.end()


def test_texts_stay_out_of_the_log(served):
    served.ask("/rerank", {"query": "a secret query", "texts": ["a secret text"]})
    time.sleep(0.2)
    assert not [line for line in served.lines if "secret" in line]


def test_what_cannot_be_served_is_said(zhichun, tiny_run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = zhichun("serve", tiny_run, "--port", port)
        assert done.status == 1
        assert f"cannot listen on http://127.0.0.1:{port}" in done.err
    done = zhichun("serve", tiny_run, "--host", "0.0.0.0", "--port", 0)
    assert done.status == 1
    assert "needs API keys" in done.err
    done = zhichun("serve", tmp_path / "nothing", "--port", 0)
    assert done.status == 1
    assert "nothing" in done.err


def test_an_export_is_served_without_torch(tiny_export):
    code = (
        "import sys; from pathlib import Path; from zhichun.serve.settings import ServeSettings; "
        "from zhichun.serve.app import create_app; s = ServeSettings(run=Path(sys.argv[1])); "
        "create_app(s.load, s.service()); s.load()[0].score('shoes', ['red']); import zhichun.serve.page; "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_export)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_an_export_gives_the_scores_of_zhichun_score(tiny_export):
    process = Process(tiny_export)
    try:
        said = json.loads(process.ask("/score", {"queries": "red shoes", "documents": TEXTS})[2])
    finally:
        process.end()
    expected = load_scorer(tiny_export).score("red shoes", TEXTS).score.tolist()
    assert [each["score"] for each in said["data"]] == pytest.approx(expected, abs=1e-5)
