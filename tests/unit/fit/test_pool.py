"""A pool: which queries and products are in it, what the teacher says of them, and what a student learns of it."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.tasks import Calibration
from zhichun.data.dataset import Dataset, query_bucket
from zhichun.data.predictions import fold_count, fold_path
from zhichun.fit import pool
from zhichun.fit.pool import held_out_by_teacher, make_pool, with_pool
from zhichun.fit.recipe import PretrainingRecipe
from zhichun.fit.train import train
from zhichun.score.make_ensemble import make_ensemble
from zhichun.score.scorer import Scorer
from zhichun.text.fold import fold_query
from zhichun.text.pairs import PairTexts


@pytest.fixture(scope="module")
def dataset(tiny_dataset):
    return Dataset.open(tiny_dataset)


@pytest.fixture(scope="module")
def queries(dataset, tmp_path_factory):
    """Queries of the shop, judged ones of both splits among them, and new ones."""
    known = [
        dict(zip(("query", "locale"), each, strict=True))
        for each in dict.fromkeys(
            zip(dataset.column(schema.QUERY).tolist(), dataset.column(schema.LOCALE).tolist(), strict=True)
        )
    ]
    title = pq.read_table(dataset.folder / schema.PRODUCTS_FILE).filter(pa.compute.field(schema.LOCALE) == "us")
    words = [{"query": " ".join(text.split()[:2]), "locale": "US"} for text in title[schema.TITLE].to_pylist()[:30]]
    more = [
        {"query": " ", "locale": "us"},
        {"query": "shoe", "locale": "de"},
        {**words[0], "query": words[0]["query"].upper()},
    ]
    path = tmp_path_factory.mktemp("queries") / "queries.jsonl"
    path.write_text("\n".join(map(json.dumps, [*known, *words, *more])))
    return path


@pytest.fixture(scope="module")
def made(tiny_run, dataset, queries, tmp_path_factory):
    out = tmp_path_factory.mktemp("pool") / "pool.parquet"
    return out, make_pool(tiny_run, dataset.folder, queries, out, per_query=8, at_random=0.25, shown=False)


def test_no_query_is_of_the_test_split_or_of_what_the_teacher_held_out(made, dataset):
    table, counts = pq.read_table(made[0]), made[1]
    tested = {fold_query(query) for query in dataset.column(schema.QUERY)[dataset.column(schema.SPLIT) == schema.TEST]}
    pooled = {fold_query(query) for query in table[schema.QUERY].to_pylist()}
    assert pooled
    assert not pooled & tested
    assert not any(query_bucket(query) == 0 for query in pooled)  # the tiny run's validation_fold is null
    assert counts["pairs"] == len(table)
    assert {pool.IN_TEST, pool.HELD_OUT, pool.EMPTY, pool.NO_PRODUCT, pool.TWICE} == set(counts["left_out"])


def test_a_locale_whose_products_are_all_made_for_training_is_in_no_shop(dataset, queries, tmp_path):
    shutil.copytree(dataset.folder, tmp_path / "data")
    path = tmp_path / "data" / schema.PRODUCTS_FILE
    products = pq.read_table(path)
    origin = ["translation" if where == "us" else schema.CATALOGUE for where in products[schema.LOCALE].to_pylist()]
    place = products.column_names.index(schema.ORIGIN)
    kind = products.schema.field(place).type
    pq.write_table(products.set_column(place, schema.ORIGIN, pa.array(origin, pa.string()).cast(kind)), path)
    taken, left_out = pool._chosen(Dataset.open(tmp_path / "data"), queries, {}, "us", ())
    assert taken
    assert "us" not in {where for _, where in taken}
    assert left_out[pool.NO_PRODUCT] > 1


def test_candidates_are_unjudged_products_of_the_locale_some_by_bm25_and_some_at_random(made, dataset, tiny_run):
    table = pq.read_table(made[0])
    keys = list(
        zip(*(table[name].to_pylist() for name in (schema.QUERY, schema.LOCALE, schema.PRODUCT_ID)), strict=True)
    )
    judged = set(
        zip(*(dataset.column(name).tolist() for name in (schema.QUERY, schema.LOCALE, schema.PRODUCT_ID)), strict=True)
    )
    assert len(set(keys)) == len(keys)
    assert not set(keys) & judged
    assert max(np.unique([query + where for query, where, _ in keys], return_counts=True)[1]) == 8
    products = pq.read_table(dataset.folder / schema.PRODUCTS_FILE).to_pylist()
    text_of = {(row[schema.LOCALE], row[schema.PRODUCT_ID]): row for row in products}
    query, where, product = keys[0]
    assert set(query.lower().split()) & set(text_of[where, product][schema.TITLE].lower().split())
    row = text_of[where, product]
    columns = {name: [row[name]] for name in schema.TEXT_COLUMNS}
    scorer = Scorer.load(tiny_run)
    said = scorer.predict(scorer.read(PairTexts([query], columns, [where]))).probabilities[0]
    np.testing.assert_allclose([table[f"p_{label}"][0].as_py() for label in schema.LABELS], said, atol=1e-5)


def test_a_pool_that_was_killed_goes_on_and_is_the_same(made, dataset, tiny_run, queries, tmp_path, monkeypatch):
    out, call = tmp_path / "pool.parquet", {"per_query": 8, "at_random": 0.25, "shown": False}
    run_job = pool.ScoringJob.run

    def killed(job, progress=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(pool.ScoringJob, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        make_pool(tiny_run, dataset.folder, queries, out, **call)
    assert not out.exists()
    monkeypatch.setattr(pool.ScoringJob, "run", run_job)
    monkeypatch.setattr(pool, "_candidates", None)  # they are there
    make_pool(tiny_run, dataset.folder, queries, out, **call)
    assert pq.read_table(out).equals(pq.read_table(made[0]))
    assert [path.name for path in tmp_path.iterdir()] == ["pool.parquet"]


def test_a_second_process_leaves_the_pool_of_the_first_alone(made, dataset, tiny_run, queries, tmp_path, monkeypatch):
    out, call = tmp_path / "pool.parquet", {"per_query": 8, "at_random": 0.25, "shown": False}
    choose = pool._candidates

    def twice(*given):
        monkeypatch.setattr(pool, "_candidates", choose)
        with pytest.raises(UserError, match="in use by process"):
            make_pool(tiny_run, dataset.folder, queries, out, **call)
        return choose(*given)

    monkeypatch.setattr(pool, "_candidates", twice)
    make_pool(tiny_run, dataset.folder, queries, out, **call)
    assert pq.read_table(out).equals(pq.read_table(made[0]))
    assert [path.name for path in tmp_path.iterdir()] == ["pool.parquet"]


def test_a_teacher_that_knows_no_labels_is_refused_before_candidates_are_chosen(
    one_score_run, dataset, queries, tmp_path
):
    with pytest.raises(UserError, match="must know the four labels"):
        make_pool(one_score_run, dataset.folder, queries, tmp_path / "pool.parquet", shown=False)
    assert not list(tmp_path.iterdir())


def test_the_pairs_are_trained_on_towards_the_teachers_probabilities_and_never_validated_on(made, dataset):
    pooled = with_pool(dataset, made[0], None)
    before, added = dataset.examples.num_rows, pooled.examples.slice(dataset.examples.num_rows)
    assert set(added[schema.ORIGIN].to_pylist()) == {schema.TEACHER}
    table = pq.read_table(made[0])
    np.testing.assert_allclose(
        np.stack(added[schema.LABEL_SHARES].to_pylist())[:, 0], table["p_E"].to_numpy(), atol=1e-6
    )
    training, validation = pooled.split(None)
    assert (training >= before).sum() == len(table)
    assert (validation < before).all()
    assert validation.tolist() == dataset.split(None)[1].tolist()
    # A query that is judged too is one list with its judged pairs.
    shared = np.isin(pooled.column(schema.QUERY_ID)[before:], dataset.column(schema.QUERY_ID))
    same = [
        fold_query(query) in {fold_query(q) for q in dataset.queries.to_pylist()}
        for query in added[schema.QUERY].to_pylist()
    ]
    assert shared.tolist() == same
    assert any(shared)
    assert not all(shared)


@pytest.mark.parametrize("fold", [0, 3])
def test_a_teacher_that_has_seen_what_is_validated_on_is_refused(made, dataset, fold):
    with pytest.raises(UserError, match=rf"(?s)held out the folds \[None\], not {fold}.*validation_fold"):
        with_pool(dataset, made[0], fold)


def test_a_planted_query_of_the_test_split_is_caught(made, dataset, tmp_path):
    table = pq.read_table(made[0])
    query = dataset.column(schema.QUERY)[dataset.column(schema.SPLIT) == schema.TEST][0]
    planted = pa.array([query.upper(), *table[schema.QUERY].to_pylist()[1:]])
    pq.write_table(
        table.set_column(table.column_names.index(schema.QUERY), schema.QUERY, planted), tmp_path / "p.parquet"
    )
    with pytest.raises(UserError, match="is in the test split"):
        with_pool(dataset, tmp_path / "p.parquet", None)
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "p.parquet")
    with pytest.raises(UserError, match="no pool for this dataset"):
        with_pool(dataset, tmp_path / "p.parquet", None)


def test_what_a_teacher_held_out_is_read_from_its_run_and_an_export_does_not_say(tiny_run, tiny_dataset, tmp_path):
    assert held_out_by_teacher(tiny_run, tiny_dataset) == [None]
    assert held_out_by_teacher(tiny_run / "model", tiny_dataset) == [None]
    shutil.copytree(tiny_run / "model", tmp_path / "export" / "model")
    with pytest.raises(UserError, match="does not say which queries it held out"):
        held_out_by_teacher(tmp_path / "export", tiny_dataset)
    (tmp_path / "export" / "recipe.json").write_bytes((tiny_run / "recipe.json").read_bytes())  # as on the hub
    with pytest.raises(UserError, match="does not say which dataset it was trained on"):
        held_out_by_teacher(tmp_path / "export", tiny_dataset)


def test_teachers_that_have_together_read_every_fold_make_no_pool(tiny_run, tiny_dataset, tmp_path):
    other = shutil.copytree(tiny_run, tmp_path / "other")
    recipe = json.loads((other / "recipe.json").read_text())
    (other / "recipe.json").write_text(json.dumps(recipe | {"train": recipe["train"] | {"validation_fold": 1}}))
    Calibration(temperature=2.0).save(other / "model")  # so that it is another model
    make_ensemble([tiny_run, other], tmp_path / "ensemble")
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack" / "stack.json").write_text("{}")
    for name in ("ensemble", "stack"):
        with pytest.raises(UserError, match=r"no fold that all of it held out(.|\n)*one of the runs"):
            held_out_by_teacher(tmp_path / name, tiny_dataset)


def test_a_teacher_whose_encoder_has_read_what_it_held_out_makes_no_pool(tiny_run, tiny_dataset, tmp_path):
    run, encoder = tmp_path / "run", tmp_path / "encoder"
    run.mkdir()
    encoder.mkdir()
    shutil.copy(tiny_run / "environment.json", run)
    recipe = json.loads((tiny_run / "recipe.json").read_text())
    recipe["model"]["encoder"] = str(encoder)
    (run / "recipe.json").write_text(json.dumps(recipe))
    read = PretrainingRecipe().with_settings(["objective.pair_mlm=PairMLM"])
    (encoder / "recipe.json").write_text(json.dumps(read.to_json()))
    assert held_out_by_teacher(run, tiny_dataset) == [None], "both leave out the same twentieth"
    (encoder / "recipe.json").write_text(json.dumps(read.with_settings(["train.validation_fold=1"]).to_json()))
    with pytest.raises(UserError, match=r"the encoder .* has read queries of one twentieth of the queries") as error:
        held_out_by_teacher(run, tiny_dataset)
    assert error.value.file == run


def test_a_teacher_of_another_dataset_is_refused_as_its_folds_are_of_other_queries(tiny_run, tiny_dataset, tmp_path):
    (tmp_path / schema.MANIFEST_FILE).write_text((tiny_dataset / schema.MANIFEST_FILE).read_text() + "\n")
    with pytest.raises(UserError, match="was trained on another dataset than") as error:
        held_out_by_teacher(tiny_run, tmp_path)
    assert str(tiny_dataset) in error.value.remedy


@pytest.mark.parametrize("wrong", [{"per_query": 0}, {"at_random": 1.5}, {"weight": 0}, {"out": "pool.csv"}])
def test_settings_out_of_range_are_refused(tiny_run, dataset, queries, tmp_path, wrong):
    out = tmp_path / wrong.pop("out", "pool.parquet")
    with pytest.raises(UserError, match="a pool needs"):
        make_pool(tiny_run, dataset.folder, queries, out, **wrong)


def test_queries_of_which_none_is_left_are_refused_with_the_reasons(tiny_run, dataset, tmp_path):
    query = dataset.column(schema.QUERY)[dataset.column(schema.SPLIT) == schema.TEST][0]
    (tmp_path / "queries.csv").write_text(f'query\n"{query}"\n')
    with pytest.raises(UserError, match=r"no query is left \(1 are in the test split"):
        make_pool(tiny_run, dataset.folder, tmp_path / "queries.csv", tmp_path / "pool.parquet")


def test_a_student_trains_on_a_pool_and_is_validated_on_judged_pairs_alone(made, tiny_dataset, tiny_recipe, tmp_path):
    recipe = replace(tiny_recipe, train=replace(tiny_recipe.train, pool=str(made[0]), epochs=1))
    train(recipe, tiny_dataset, tmp_path / "student")
    predicted = pq.read_table(tmp_path / "student" / "predictions.parquet")
    assert set(predicted[schema.ORIGIN].to_pylist()) == {schema.JUDGED}
    assert (tmp_path / "student" / "model").is_dir()


def test_the_next_step_is_a_command_whatever_the_names_are(made, dataset, tmp_path):
    assert made[1]["next"].endswith(f"--set train.pool={made[0]} --set train.soft_labels=null")
    runs, of = tmp_path / "a 'b", replace(dataset, folder=Path("da ta"))
    for fold in range(fold_count(dataset)):
        assert "soft_labels=null" in pool._next(runs / "fold-1", of, Path("pool"), [1])
        fold_path(runs, fold).mkdir(parents=True)
        (fold_path(runs, fold) / "predictions.parquet").touch()
    settings = ["train.pool=po ol.parquet", "train.validation_fold=1"]
    settings.append(f'train.soft_labels.predictions=["{runs}"]')
    words = ["--data", "da ta", "--out", "STUDENT", *(word for each in settings for word in ("--set", each))]
    named = pool._next(runs / "fold-1", of, Path("po ol.parquet"), [1])
    assert shlex.split(named) == ["zhichun", "train", "distil:pooled", *words]
    assert "soft_labels=null" in pool._next(runs, of, Path("pool"), [1])


def test_a_pool_of_another_catalogue_is_refused_by_its_own_name(made, dataset, tmp_path):
    shutil.copytree(dataset.folder, tmp_path / "data")
    path, pooled = tmp_path / "data" / schema.PRODUCTS_FILE, set(pq.read_table(made[0])[schema.PRODUCT_ID].to_pylist())
    products = pq.read_table(path)
    gone = [product == min(pooled) for product in products[schema.PRODUCT_ID].to_pylist()]
    pq.write_table(products.filter(pa.array([not each for each in gone])), path)
    with pytest.raises(UserError, match="holds products that the dataset lacks") as refused:
        with_pool(Dataset.open(tmp_path / "data"), made[0], None)
    assert refused.value.file == made[0]
