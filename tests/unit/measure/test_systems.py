"""What is compared: nothing that a system was trained on, and what else is left out is counted."""

import gzip
import shutil

import numpy as np
import pytest

from zhichun.cli import main
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import read_json
from zhichun.data.dataset import Dataset
from zhichun.measure.compare import compare
from zhichun.measure.evaluate import rows_of, trained_pairs
from zhichun.measure.systems import count_left_out, read_systems
from zhichun.score.folders import EnsembleConfig, MemberEntry, fingerprint


def read_system(place, dataset, rows):
    [system] = read_systems([place], dataset, rows)
    return system


@pytest.fixture
def dataset(tiny_dataset):
    return Dataset.open(tiny_dataset)


def ranking(dataset, rows, path):
    """Write the judged pairs as another system's ranking."""
    columns = (dataset.column(name)[rows].tolist() for name in (schema.QUERY, schema.PRODUCT_ID, schema.LOCALE))
    pairs = enumerate(zip(*columns, strict=True))
    lines = [f'"{query}",{product},{locale},{-place}' for place, (query, product, locale) in pairs]
    path.write_text("\n".join(["query,product_id,locale,score", *lines]) + "\n")
    return path


def ensemble(folder, *models):
    entries = [
        MemberEntry(name=str(path), path=str(path), task="esci", weight=1 / len(models), fingerprint=fingerprint(path))
        for path in models
    ]
    folder.mkdir()
    EnsembleConfig(weights="equal", members=tuple(entries)).save(folder)
    return folder


def test_what_was_trained_on_follows_from_the_recipe_of_a_run_and_from_the_members_of_an_ensemble(
    audited_data, fold_runs, tmp_path
):
    in_training, fold = audited_data.column(schema.SPLIT) == schema.TRAIN, audited_data.column(schema.FOLD)
    first, second = (fold_runs / f"fold-{number}" / "model" for number in (0, 1))
    places = (first.parent, first, first.parent / "scored.parquet", ensemble(tmp_path / "one", first))
    for place in places:
        np.testing.assert_array_equal(trained_pairs(place, audited_data), in_training & (fold != 0))
    np.testing.assert_array_equal(trained_pairs(ensemble(tmp_path / "two", first, second), audited_data), in_training)
    assert trained_pairs(tmp_path / "production.csv", audited_data) is None
    (first.parent / "environment.json").write_text('{"dataset": {"folder": "other", "manifest": "0"}}')
    assert trained_pairs(first, audited_data) is None


def test_a_run_is_compared_on_what_it_was_not_trained_on(tiny_run, tiny_dataset, dataset, tmp_path):
    rows = rows_of(dataset, "all")
    shop = ranking(dataset, rows, tmp_path / "shop.csv")
    trained = (dataset.column(schema.SPLIT)[rows] == "train") & ~dataset.held_out(None)[rows]
    found = compare(tiny_run, shop, tiny_dataset, split="all", draws=100, shown=False)
    assert found["pairs"] == len(rows) - trained.sum()
    assert f"{tiny_run}: {trained.sum():,} of {len(rows):,} pairs are left out, since" in found["notes"][0]
    assert found["left_out"][1] == {"unjudged": 0, "elsewhere": trained.sum(), "missing": 0}
    assert not any(
        "trained on" in note for note in compare(tiny_run, shop, tiny_dataset, draws=100, shown=False)["notes"]
    )


def test_a_run_of_which_nothing_is_left_is_refused_and_one_that_is_not_known_is_named(
    audited_data, fold_runs, tiny_export, tmp_path
):
    both = ensemble(tmp_path / "both", *(fold_runs / f"fold-{number}" / "model" for number in (0, 1)))
    with pytest.raises(UserError, match=r"trained on all of these pairs\.\n.*--split test"):
        compare(both, both, audited_data.folder, split="train", shown=False)
    found = compare(tiny_export, tiny_export, audited_data.folder, split="train", draws=100, shown=False)
    assert f"{tiny_export}: it is not known whether it was trained on these pairs" in found["notes"][0]


def test_an_evaluation_on_training_pairs_warns(tiny_run, tiny_dataset, dataset, tmp_path, capsys):
    rows, run = rows_of(dataset, "train"), tmp_path / "run"
    shutil.copytree(tiny_run, run)
    trained = int((~dataset.held_out(None)[rows]).sum())
    assert 0 < trained < len(rows)
    for split, warned in (("train", trained), ("test", None)):
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", str(run), "--data", str(tiny_dataset), "--split", split])
        assert ended.value.code in (0, None)
        said = f"Warning: {trained:,} of {len(rows):,} pairs were trained on" in capsys.readouterr().out
        page = f"{trained:,} of them were trained on" in (run / "report.html").read_text()
        assert said == page == (warned is not None)
        assert read_json(run / "metrics.json").get("trained_on") == warned


def test_rows_that_are_judged_elsewhere_are_told_from_those_that_nobody_judged_and_missing_pairs_counted(
    dataset, tmp_path
):
    tested, everything = rows_of(dataset, "test"), rows_of(dataset, "all")
    path = ranking(dataset, np.setdiff1d(everything, tested[:3]), tmp_path / "shop.csv")
    # A row without a locale is of the one that the dataset was made with.
    path.write_text(path.read_text().replace(",us,", ",,") + "nobody asked,1,us,1\n")
    said = []
    found = count_left_out(read_system(path, dataset, tested), tested, said.append)
    assert found == {"unjudged": 1, "elsewhere": len(everything) - len(tested), "missing": 3}
    assert [line.removeprefix(f"{path}: ").split(",")[0] for line in said] == [
        "1 rows are not judged",
        f"{found['elsewhere']:,} rows are judged but not among the pairs compared",
        f"3 of {len(tested)} pairs are missing",
    ]


def test_a_column_that_no_table_has_is_refused(tiny_dataset, dataset, tmp_path):
    shop = ranking(dataset, rows_of(dataset, "test"), tmp_path / "shop.csv")
    other = tmp_path / "other.csv"
    other.write_text(shop.read_text().replace("query,", "asked,"))
    found = compare(shop, other, tiny_dataset, columns={"query": "asked"}, draws=100)
    assert found["parts"]["all"]["figures"]["ndcg"]["difference"] == 0
    with pytest.raises(UserError, match=r"no table has a column 'askd'\.\nDid you mean 'asked'"):
        compare(shop, other, tiny_dataset, columns={"query": "askd"})


def test_a_run_file_is_known_by_its_ending_also_compressed_or_by_its_first_line(dataset, tmp_path):
    rows = rows_of(dataset, "test")
    columns = (dataset.column(name)[rows].tolist() for name in (schema.QUERY_ID, schema.PRODUCT_ID))
    pairs = enumerate(zip(*columns, strict=True), start=1)
    text = "".join(f"{query} Q0 {product} {rank} {-rank} bm25\n" for rank, (query, product) in pairs)
    (tmp_path / "bm25.run.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("run.txt", "run.bm25", "bm25.run"):
        (tmp_path / name).write_text(text)
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(read_system(path, dataset, rows).score_E[rows], -1 - np.arange(len(rows)))
    (tmp_path / "run.bm25").write_text("query;product\n")
    with pytest.raises(UserError, match=r"'\.bm25' names no known format\n.*\.run for rankings"):
        read_system(tmp_path / "run.bm25", dataset, rows)
