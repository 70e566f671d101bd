"""The serving image and its compose file: what can be said of them without an image builder."""

import importlib.util
import json
import tomllib
from pathlib import Path

import typer
import yaml

from zhichun.cli import app

ROOT = Path(__file__).parents[2]


def instructions():
    spec = importlib.util.spec_from_file_location("container", ROOT / "benchmarks" / "container.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.instructions()


def test_the_image_serves_as_nobody_and_says_whether_it_is_healthy():
    said = dict(instructions())
    user, _, group = said["USER"].partition(":")
    assert min(int(user), int(group)) >= 10_000
    program, name, *arguments = json.loads(said["ENTRYPOINT"])
    assert Path(program).name == "zhichun"
    context = typer.main.get_command(app).commands[name].make_context(name, [*arguments, "--products", "/products"])
    assert (context.params["run"], context.params["host"]) == (Path("/model"), "0.0.0.0")
    address = f"http://127.0.0.1:{context.params['port']}/health"
    assert address in json.loads(said["HEALTHCHECK"].partition("CMD ")[2])[-1]
    assert said["EXPOSE"] == str(context.params["port"])


def test_the_image_installs_an_extra_that_there_is_and_copies_what_it_needs():
    steps = instructions()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (install,) = (rest for name, rest in steps if name == "RUN" and "pip install" in rest)
    extra = install.partition(".[")[2].partition("]")[0]
    assert extra in project["optional-dependencies"]
    copied = {word for name, rest in steps if name == "COPY" and "--from" not in rest for word in rest.split()[:-1]}
    assert {"src", "pyproject.toml", project["readme"], *project["license-files"], "constraints.txt"} == copied
    assert all((ROOT / each).exists() for each in copied)


def test_the_composed_server_can_write_nothing():
    (service,) = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"].values()
    assert service["read_only"] is True
    assert all(volume["read_only"] is True for volume in service["volumes"])
    assert {volume["target"] for volume in service["volumes"]} == {"/model", service["command"][-1]}
    assert service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert (ROOT / service["build"]["dockerfile"]).is_file()
