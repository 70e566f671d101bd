"""An index of several processes: the same bytes as that of one, nothing lost, nothing of another catalogue."""

import contextlib
import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from typer.testing import CliRunner

from zhichun.cli import app
from zhichun.core.errors import UserError
from zhichun.fit.train import train
from zhichun.score.index import build
from zhichun.score.index.build import build_index
from zhichun.score.index.store import Shard as Block
from zhichun.score.index.store import States, is_index
from zhichun.score.parts import Shard


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def run(tiny_recipe, tiny_dataset, tmp_path_factory):
    split = 'model.interaction={"kind": "Split", "product_layers": 1, "query_tokens": 12}'
    settings = [split, "train.epochs=1", "model.tiny.heads=1", "model.max_length=40"]
    return train(tiny_recipe.with_settings(settings), tiny_dataset, tmp_path_factory.mktemp("split") / "run").path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(build, "SHARD_PRODUCTS", 40)


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_one_two_and_seven_shards_make_the_same_bytes_after_kills_too(run, products, changed, tmp_path, monkeypatch):
    other = changed(products, [*range(30), 70, 200])  # most of the first block, which is then made anew
    build_index(run, products, tmp_path / "1")
    for shards, order in ((2, [1, 0]), (7, [3, 6, 0, 5, 1, 2, 4])):
        made = [build_index(run, products, tmp_path / f"{shards}", shard=Shard(each, shards)) for each in order]
        assert [each.missing == 0 for each in made] == [False] * (shards - 1) + [True]
        assert sum(each.computed for each in made) > 200
        assert bytes_of(tmp_path / f"{shards}") == bytes_of(tmp_path / "1")
    whole, seen, save = build_index(run, other, tmp_path / "1"), set(), Block.save
    assert whole.removed == 32

    def killed(self, folder):  # at the end of each block, once
        save(self, folder)
        name = folder.name.partition(".")[0]
        if name not in seen:
            seen.add(name)
            raise Killed

    monkeypatch.setattr(Block, "save", killed)
    for shards in (2, 7):
        removed = 0
        seen.clear()
        for each in 3 * [*range(shards)]:
            with contextlib.suppress(Killed):
                removed += build_index(run, other, tmp_path / f"{shards}", shard=Shard(each, shards)).removed
        removed += build_index(run, other, tmp_path / f"{shards}", shard=None).removed
        assert removed == whole.removed
        assert len(seen) == 2
        assert bytes_of(tmp_path / f"{shards}") == bytes_of(tmp_path / "1")


def test_shards_that_run_at_once_and_one_of_them_twice(run, products, changed, tmp_path):
    for number, catalogue in enumerate((products, changed(products, [*range(30), 70, 200]))):
        whole = build_index(run, catalogue, tmp_path / "whole")
        given = (run, catalogue, tmp_path / "out")
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(build_index, *given, shard=Shard(each, 3)) for each in (0, 1, 2, 1)]
            made = [each.result() for each in waiting]
        assert any(each.missing == 0 for each in made)
        assert sum(each.removed for each in made) == whole.removed == 32 * number
        assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_one_shard_that_is_killed_and_run_by_two_goes_on(run, products, tmp_path, monkeypatch):
    build_index(run, products, tmp_path / "whole")
    out, save, calls = tmp_path / "out", Block.save, itertools.count()

    def killed(self, folder):
        if next(calls) == 3:
            raise Killed
        save(self, folder)

    monkeypatch.setattr(Block, "save", killed)
    with pytest.raises(Killed):
        build_index(run, products, out)
    assert not is_index(out)
    damaged = sorted(out.glob("shard-*"))[1]
    (damaged / "kept.parquet").unlink()  # as a process leaves it that was killed while it removed the block
    made = [build_index(run, products, out, shard=Shard(each, 2)) for each in (0, 1, 1)]
    assert [each.missing > 0 for each in made] == [True, False, False]
    assert made[2].computed == 0
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_shards_of_another_catalogue_are_refused_and_one_process_begins_anew(run, products, changed, tmp_path):
    some, other, out = products.slice(0, 100), changed(products, range(5)).slice(0, 100), tmp_path / "index"
    build_index(run, some, out, shard=Shard(1, 2))
    with pytest.raises(UserError, match=r"with another catalogue(.|\n)*without --shard"):
        build_index(run, other, out, shard=Shard(0, 2))
    with pytest.raises(UserError, match=r"is not done: 2 of 3 new blocks(.|\n)*goes on"):
        build_index(run, some, out, shard=None)
    assert not is_index(out)
    assert build_index(run, other, out).missing == 0
    build_index(run, other, tmp_path / "alone")
    kept = [
        {of for shard in States.open(each).shards for of in shard.hashes_R2[:, 0].tolist()} - {0}
        for each in (out, tmp_path / "alone")
    ]
    assert kept[0] == kept[1]
    before = bytes_of(out)
    assert build_index(run, other, out, shard=Shard(1, 2))[1:] == (0, 0, 0)  # up to date already
    assert bytes_of(out) == before


def test_the_command_takes_its_shard_from_a_scheduler(run, tiny_dataset, products, tmp_path, monkeypatch):
    def call(*words):
        return CliRunner().invoke(app, ["index", str(run), "--products", str(tiny_dataset), "--out", str(out), *words])

    out = tmp_path / "index"
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert "shard 1/2 is done, " in call("--shard", "auto/2").output
    assert "is not done" in str(call("--finish").exception)
    shutil.rmtree(out)
    call("--shard", "auto/2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    assert f"{products.num_rows:,} products; " in call("--shard", "auto").output
    assert "0 computed" in call("--finish").output
