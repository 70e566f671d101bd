"""The built wheel with each extra, in an environment that has what the extra declares and nothing else.

`benchmarks/extras.py` does the same by pip, from an empty environment, and more with each; here the libraries are those
of the tests, linked one by one, so that an import that no extra declares fails.
"""

import importlib.metadata
import json
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from zhichun import __version__

ROOT = Path(__file__).parents[2]
# Modules that do what each extra is for.
NEEDS = {
    "": ["zhichun.data.prepare.prepare", "zhichun.metrics", "zhichun.judgements.agreement", "zhichun.measure.compare"],
    "serve": ["zhichun.serve.server", "zhichun.score.scorer"],
    "onnx": ["zhichun.score.export.exported", "zhichun.score.scorer"],
    "hub": ["zhichun.score.hub"],
    "judge": ["zhichun.judgements.chat", "zhichun.judgements.judge"],
    "audit": ["zhichun.judgements.audit", "zhichun.judgements.findings", "cleanlab"],
    "word2vec": ["zhichun.fit.word2vec", "gensim"],
    "stack": ["zhichun.score.stacked", "lightgbm"],
    "train": ["zhichun.fit.train", "zhichun.fit.pretrain", "zhichun.measure.evaluate", "zhichun.score.hub"],
}
WITH_TORCH = {"train"}
LOADS = """
import importlib, importlib.util, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps([importlib.util.find_spec("torch") is not None, "torch" in sys.modules]))
"""


def of_program(*command, **options):
    """What a program prints that must end well."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, unpacked, and what it says of itself."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    of_program(sys.executable, "-m", "hatchling", "build", "--directory", folder, cwd=ROOT)
    return folder


def declared(metadata, extra):
    """The distributions that the wheel needs with an extra, with all that these need."""
    wanted, found = [(text, extra) for text in metadata.get_all("Requires-Dist")], {}
    while wanted:
        text, of = wanted.pop()
        needed = Requirement(text)
        if needed.marker and not needed.marker.evaluate({"extra": of}):
            continue
        name = canonicalize_name(needed.name)
        for each in {"", *needed.extras} - found.setdefault(name, set()):
            found[name].add(each)
            wanted += [(text, each) for text in importlib.metadata.requires(name) or []]
    return found


def environment_of(folder, wheel, extra):
    """Make an environment with the wheel and links to what an extra declares; gives its Python."""
    venv.create(folder, symlinks=True, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    (file,) = wheel.glob("*.whl")
    of_program(sys.executable, "-m", "zipfile", "-e", file, site)
    (about,) = importlib.metadata.distributions(name="zhichun", path=[str(site)])
    for name in declared(about.metadata, extra):
        dist = importlib.metadata.distribution(name)
        for top in {path.parts[0] for path in dist.files or [] if path.parts[0] not in ("..", "__pycache__")}:
            link = site / top
            if not link.exists():
                link.symlink_to(dist.locate_file(top))
    return folder / "bin" / "python"


@pytest.mark.parametrize("extra", NEEDS)
def test_each_extra_declares_what_it_imports(extra, wheel, tmp_path):
    python = environment_of(tmp_path / "environment", wheel, extra)
    said = of_program(python, "-I", "-c", LOADS, *NEEDS[extra])
    assert json.loads(said) == [extra in WITH_TORCH, extra in WITH_TORCH]


def test_the_wheel_alone_prepares_a_shop(wheel, tmp_path):
    python = environment_of(tmp_path / "environment", wheel, "")
    program = [python, "-I", "-c", "from zhichun.cli import main; main()"]
    assert of_program(*program, "--version").split()[-1] == __version__
    of_program(*program, "sample", "shop", "--products", "300", "--queries", "60", cwd=tmp_path)
    of_program(*program, "prepare", "shop", "data", cwd=tmp_path)
    assert (tmp_path / "data" / "summary.html").is_file()


def test_an_export_is_scored_by_the_wheel_without_torch(wheel, tiny_export, tmp_path):
    python = environment_of(tmp_path / "environment", wheel, "serve")
    program = "import sys\nfrom zhichun import Scorer\n"
    program += "print(*Scorer.load(sys.argv[1]).score('running shoes', ['a desk lamp', 'running shoes']).score)\n"
    program += "assert 'torch' not in sys.modules\n"
    assert len(of_program(python, "-I", "-c", program, tiny_export).split()) == 2


def test_the_sdist_has_its_tests_and_the_wheel_all_of_the_source(wheel):
    (sdist,) = wheel.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tests/conftest.py", "docs/index.md", "examples/own_csv.py", "constraints.txt", "Containerfile"} <= names
    (file,) = wheel.glob("*.whl")
    packed = of_program(sys.executable, "-m", "zipfile", "-l", file)
    assert "zhichun/py.typed" in packed
    if (ROOT / ".git").exists():
        tracked = of_program("git", "ls-files", "src", cwd=ROOT).split()
        assert [name for name in tracked if name.removeprefix("src/") not in packed] == []
