"""What tests of all tiers share: a small prepared dataset, a recipe small enough for one core, a finished run.

torch is imported where it is used, so that tests of the parts without torch start at once.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Before any library reads them; the processes that tests start inherit them.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["ACCELERATE_USE_CPU"] = "true"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# The tests import `forks`.
sys.path.insert(0, str(Path(__file__).parent))

from forks import Forks

if TYPE_CHECKING:
    from zhichun.data.feature_store import CatalogueTexts
    from zhichun.fit.recipe import Recipe
    from zhichun.serve.app import ServeSettings
    from zhichun.text.pairs import TextReader

# What is compiled once is not compiled again by every process, whatever containers set.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

TOKENIZER = Path(__file__).parent / "golden" / "tokenizer.json"


def pytest_collection_finish() -> None:
    """Take all that is imported out of the garbage collector's sight, or each full collection takes half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """What runs programs in processes of their own, without the seconds that importing torch takes."""
    running = Forks()
    yield running
    running.close()


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Make a folder once for all processes of pytest-xdist, which read it only: the first that asks makes it."""
    from zhichun.core.files import turn

    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once"
    shared.mkdir(exist_ok=True)

    def made_once(name: str, make: Callable[[Path], object]) -> Path:
        folder, done, lock = (shared / f"{name}{ending}" for ending in ("", ".made", ".lock"))
        lock.touch()
        with turn(lock):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that ended while it made it
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made_once


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared dataset folder of 300 products and 60 queries; each process of pytest-xdist makes its own.

    Its tokenizer of 500 pieces is there already: it is the golden one, the same on every machine.
    """
    from zhichun.data.prepare.prepare import prepare
    from zhichun.data.sample_shop import write_sample_shop

    folder = tmp_path_factory.mktemp("tiny")
    write_sample_shop(folder / "shop", products=300, queries=60)
    prepare(folder / "shop", folder / "data")
    tokenizer = folder / "data" / "tokenizers" / "unigram-500"
    tokenizer.mkdir(parents=True)
    shutil.copy(TOKENIZER, tokenizer)
    return folder / "data"


@pytest.fixture(scope="session")
def catalogue(tiny_dataset: Path) -> CatalogueTexts:
    """The catalogue of the tiny dataset, with the queries of its training pairs."""
    import numpy as np

    from zhichun.core import schema
    from zhichun.data.dataset import Dataset
    from zhichun.data.feature_store import CatalogueTexts
    from zhichun.text.vocabulary import Vocabulary

    dataset = Dataset.open(tiny_dataset)
    brands, colors = (Vocabulary.load(tiny_dataset / "vocabulary" / f"{name}.parquet") for name in ("brands", "colors"))
    judged = np.flatnonzero(dataset.column(schema.SPLIT) == schema.TRAIN)
    return CatalogueTexts.open(dataset, brands, colors, judged)


@pytest.fixture(scope="session")
def reader() -> TextReader:
    """What turns texts into arrays, with the golden tokenizer of 500 pieces; it reads 48 tokens at once."""
    from zhichun.text.pairs import FIELDS, TextReader
    from zhichun.text.tokenizer import PairTokenizer

    return TextReader(PairTokenizer.load(TOKENIZER.parent), FIELDS, max_length=48)


@pytest.fixture(scope="session")
def sentence_encoder(reader, tmp_path_factory) -> Path:
    """The folder of an encoder, untrained, as `zhichun stack --similarity` takes one."""
    import torch

    from zhichun.model.encoder import new_encoder, save_encoder
    from zhichun.model.encoder_settings import TinyEncoder, tiny_config

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sentences")
    save_encoder(new_encoder(tiny_config(TinyEncoder(layers=1, hidden=32, heads=2), reader.tokenizer, 80)), folder)
    reader.tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """The recipe `tiny`, shrunk: two layers of 32, one epoch, every part on."""
    from zhichun.fit.recipe import load_recipe
    from zhichun.model.encoder_settings import TinyEncoder
    from zhichun.model.relevance_model import ModelSettings

    recipe = load_recipe("tiny")
    shape = TinyEncoder(layers=2, hidden=32, heads=2, pieces=500, matching_layers=1)
    model = ModelSettings(tiny=shape, max_length=32, trigrams=8, country=4, brand=8, color=8)
    return replace(recipe, model=model, train=replace(recipe.train, epochs=1))


@pytest.fixture(scope="session")
def tiny_run(tiny_dataset: Path, tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder; read only."""
    from zhichun.fit.train import train

    return train(tiny_recipe, tiny_dataset, tmp_path_factory.mktemp("run") / "run").path


@pytest.fixture(scope="session")
def text_recipe(tiny_recipe: Recipe) -> Recipe:
    """The same without side features: the text alone."""
    off = ["model.trigrams=null", "model.country=null", "model.brand=null", "model.color=null"]
    return tiny_recipe.with_settings([*off, "model.max_length=48", "train.learning_rate=0.01"])


@pytest.fixture(scope="session")
def one_score_recipe(text_recipe: Recipe) -> Recipe:
    """What other engines take: the text alone, and one output."""
    return text_recipe.with_settings(["task=gain", "objective.loss=SquaredError", "train.metric=ndcg"])


@pytest.fixture(scope="session")
def one_score_run(tiny_dataset: Path, one_score_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that other engines take; read only."""
    from zhichun.fit.train import train

    return train(one_score_recipe, tiny_dataset, tmp_path_factory.mktemp("one") / "run").path


@pytest.fixture(scope="session")
def list_run(tiny_dataset: Path, tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a list head, trained with a ranking loss and its gate opened wide; read only."""
    from zhichun.fit.train import train
    from zhichun.model.model_folder import TrainedModel

    settings = ["train.lists=Lists", "model.lists=ListHead", "objective.ranking=RankNet", "train.learning_rate=0.01"]
    run = train(tiny_recipe.with_settings(settings), tiny_dataset, tmp_path_factory.mktemp("lists") / "run")
    trained = TrainedModel.load(run.model)
    trained.model.lists.gate.data.mul_(50)
    shutil.rmtree(run.model)
    run.write_result("model", trained.save)
    return run.path


@pytest.fixture(scope="session")
def tiny_export(tiny_run: Path, once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """An export of the finished run in every format; read only."""
    for library in ("onnxruntime", "onnxscript", "openvino", "nncf"):
        pytest.importorskip(library)
    from zhichun.score.export.export_folder import FORMATS
    from zhichun.score.export.export_run import export

    return once("tiny", lambda folder: export(tiny_run, list(FORMATS), out=folder / "export", shown=False)) / "export"


@pytest.fixture
def traced(tiny_export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `export` take the graph of the finished run that is there already, and not trace the same network again."""
    from zhichun.score.export import export_run

    def copied(trained: object, inputs: object, path: Path) -> None:
        shutil.copy(tiny_export / "onnx" / "model.onnx", path)

    monkeypatch.setattr(export_run, "write_onnx", copied)


@pytest.fixture(scope="session")
def serving() -> Callable[[ServeSettings], AbstractContextManager[str]]:
    """Serve settings in a thread of this process, on a free port, while a `with` lasts; gives the address."""
    pytest.importorskip("uvicorn")
    import threading
    import time

    from zhichun.serve.app import create_app
    from zhichun.serve.server import Server, address, listening

    @contextmanager
    def serve(settings: ServeSettings) -> Iterator[str]:
        service = settings.service()
        app = create_app(settings.load, service, keys=settings.keys, hosts=settings.hosts)
        with listening(settings.host, 0) as socket:
            running = Server(app, settings, service)
            thread = threading.Thread(target=running.run, kwargs={"sockets": [socket]}, daemon=True)
            thread.start()
            latest = time.monotonic() + 60
            while service.phase == "loading" and time.monotonic() < latest:
                time.sleep(0.02)
            assert service.phase == "ready"
            yield address(settings.host, socket.getsockname()[1])
            running.should_exit = True
            thread.join(30)
            assert not thread.is_alive()

    return serve


@pytest.fixture(scope="session")
def server(tiny_run: Path, serving: Callable[[ServeSettings], AbstractContextManager[str]]) -> Iterator[str]:
    """The address of a server of the finished run; it ends with the session."""
    from zhichun.serve.app import ServeSettings

    with serving(ServeSettings(run=tiny_run)) as url:
        yield url


@pytest.fixture(scope="session")
def esci_data() -> Path:
    """The real extract in the official layout, where ESCI_DATA names it."""
    folder = os.environ.get("ESCI_DATA")
    if not folder:
        pytest.skip("ESCI_DATA names no folder")
    return Path(folder)
