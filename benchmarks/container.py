"""Run the steps of the Containerfile where no image can be built: its commands in a fresh environment, then its server.

``python benchmarks/container.py EXPORT [--products DATA]``: the context is copied, each RUN is run, the model is made
read-only, and the server runs as the image's user (if this is run by root) with nothing in its environment but what the
image sets and a key. Then its health check, a request with and without the key, and its end at SIGTERM. It downloads
what pip needs, and prints what was found as JSON.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[1]
KEY = "a-key"


def instructions(file: Path = ROOT / "Containerfile") -> list[tuple[str, str]]:
    """Read the instructions of a Containerfile, of all its stages in order."""
    lines = [line.split(maxsplit=1) for line in file.read_text("utf-8").splitlines() if line and line[0] != "#"]
    return [(name, rest) for name, rest in lines]


def make(folder: Path) -> None:
    """Copy the context and run every RUN, with the image's folder ``/opt`` below ``folder``."""
    source, python = folder / "src", folder / "bin"
    source.mkdir()
    python.mkdir()
    (python / "python").symlink_to(sys.executable)
    for name, rest in instructions():
        words = shlex.split(rest)
        if name == "COPY" and not words[0].startswith("--from"):
            for given in words[:-1]:
                place = source / words[-1] / ("" if (ROOT / given).is_dir() else given)
                copy = shutil.copytree if (ROOT / given).is_dir() else shutil.copy
                copy(ROOT / given, place)
        elif name == "RUN":
            environment = {"PATH": f"{python}:/usr/bin:/bin", "HOME": str(folder)}
            command = rest.replace("/opt/", f"{folder}/opt/")
            subprocess.run(command, shell=True, cwd=source, env=environment, check=True, stdout=sys.stderr)


def ask(port: int, key: str | None) -> tuple[int, list[dict[str, float]]]:
    """Rerank two texts; gives the status and the results."""
    body = json.dumps({"query": "running shoes", "texts": ["a desk lamp", "running shoes"]}).encode()
    headers = {"Content-Type": "application/json"} | ({} if key is None else {"Authorization": f"Bearer {key}"})
    try:
        with urlopen(Request(f"http://127.0.0.1:{port}/rerank", body, headers), timeout=30) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, []


def serve(folder: Path, model: Path, products: Path | None) -> dict[str, object]:
    """Start the ENTRYPOINT as the image would, and look at it from outside."""
    said = dict(instructions())  # of an instruction that is there twice, the last one
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def command(text: str) -> list[str]:
        here = text.replace("8080", str(port)).replace('"/opt/', f'"{folder}/opt/').replace('"/model"', f'"{model}"')
        return json.loads(here[here.index("[") :])

    environment = dict(re.findall(r"(\w+)=(\S+)", said["ENV"])) | {"ZHICHUN_API_KEYS": KEY}
    user, _, group = said["USER"].partition(":")
    become = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"] if os.geteuid() == 0 else []
    start = [*become, *command(said["ENTRYPOINT"])]
    began = time.monotonic()
    process = subprocess.Popen(
        [*start, *([] if products is None else ["--products", str(products)])], env=environment, stdout=sys.stderr
    )
    try:
        while subprocess.run(command(said["HEALTHCHECK"]), env=environment, stderr=subprocess.DEVNULL).returncode:
            if process.poll() is not None or time.monotonic() - began > 120:
                raise SystemExit("the server does not get healthy")
            time.sleep(0.5)
        healthy = time.monotonic() - began
        owner = Path(f"/proc/{process.pid}").stat().st_uid
        (status, results), (refused, _) = ask(port, KEY), ask(port, None)
        process.send_signal(signal.SIGTERM)
        ended = process.wait(60)
    finally:
        process.kill()
    torch = subprocess.run([f"{folder}/opt/zhichun/bin/python", "-c", "import torch"], stderr=subprocess.DEVNULL)
    return {
        "seconds_until_healthy": round(healthy, 1),
        "user": owner,
        "status": status,
        "results": results,
        "status_without_key": refused,
        "exit_status": ended,
        "torch_is_installed": torch.returncode == 0,
    }


def main() -> None:
    """Do all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path)
    parser.add_argument("--products", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="container-") as name:
        folder, began = Path(name), time.monotonic()
        folder.chmod(0o755)
        make(folder)
        built, model = time.monotonic() - began, folder / "model"
        shutil.copytree(given.export, model)
        before = sorted(str(path) for path in model.rglob("*"))
        for path in (model, *model.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        found = serve(folder, model, given.products)
        found |= {"model_is_as_it_was": before == sorted(str(path) for path in model.rglob("*"))}
        print(json.dumps({"seconds_of_steps": round(built, 1), **found}, indent=2))
        expected = (200, 401, 0, False, True)
        keys = ("status", "status_without_key", "exit_status", "torch_is_installed", "model_is_as_it_was")
        if tuple(found[key] for key in keys) != expected:
            raise SystemExit("not as it should be")


if __name__ == "__main__":
    main()
