"""A server as a process of its own, watched from outside: where it listens, whether it lives, what it holds."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
START_SECONDS, END_SECONDS = 120.0, 60.0
JSON: Final = {"Content-Type": "application/json"}
ESTABLISHED: Final = "01"  # in /proc/net/tcp


@dataclass(frozen=True)
class Served:
    """A running server.

    Parameters
    ----------
    process
        That serves.
    port
        Where it listens on this machine.
    log
        What it writes.
    """

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = JSON, seconds: float = 300
    ) -> tuple[int, bytes]:
        """Send one request on a connection of its own; gives status and body."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=seconds)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def rerank(self, query: str, texts: Sequence[str]) -> dict[int, float]:
        """Score texts as TEI does; gives the score of each place."""
        status, body = self.ask("POST", "/rerank", json.dumps({"query": query, "texts": list(texts)}).encode())
        assert status == 200, (status, body[:200])
        return {found["index"]: found["score"] for found in json.loads(body)}

    def workers(self) -> list[int]:
        """Give the processes that serve beside the first one, the oldest first. Linux alone tells."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def held(self) -> dict[str, float]:
        """Count what the process holds: memory in MiB, and open files. Linux alone tells."""
        proc = Path(f"/proc/{self.process.pid}")
        resident = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return {"rss_mib": round(resident / 2**20, 1), "open_files": len(list((proc / "fd").iterdir()))}

    def clients(self) -> set[int]:
        """Give the ports of the clients whose connections are open at the server's end. Linux alone tells.

        A client's own end cannot say: with its window full, it does not hear that the server has reset the connection.
        """
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        here = f":{self.port:04X}"
        open_here = [row[2] for row in rows if row[1].endswith(here) and row[3] == ESTABLISHED]
        return {int(remote.rpartition(":")[2], 16) for remote in open_here}


@contextlib.contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Run a server until it is not needed; ``PORT`` in the command becomes a free port.

    Parameters
    ----------
    command
        That serves in the foreground and answers ``/health`` with 200 when it is ready.
    environment
        Set beside that of this process.

    Raises
    ------
    RuntimeError
        With the end of its log, when it does not start.
    """
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            words = [str(port) if word == "PORT" else word for word in command]
            process = subprocess.Popen(
                words, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
            )
        server = Served(process, port, log)
        try:
            _wait(server)
            yield server
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(server: Served) -> None:
    latest = time.monotonic() + START_SECONDS
    while time.monotonic() < latest and server.process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.ask("GET", "/health", seconds=5)[0] == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{server.log.read_text('utf-8', 'replace')[-2000:]}")
