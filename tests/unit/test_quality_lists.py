"""The benchmark of lists: its folds, what its outcomes are kept under, its figures and their intervals."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.fit.recipe import Recipe
from zhichun.fit.recipes.tiny import tiny
from zhichun.metrics import MacroF1, MicroF1, nDCG

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # where a script finds what stands beside it
import list_cells
import list_figures
import list_rows
import quality_lists
import rater_shares
from list_rows import BM25, OURS_TRIES, PLAIN, RANDOM, RATERS, THEIRS_TRIES, Row

sys.path.pop(0)


@pytest.fixture
def bench(tmp_path):
    """20 queries, one of them in two spellings, of three products each; the first in the shop's test split."""
    queries = [f"query {number}" for number in range(20)] + ["QUERY 3"]
    rows = [
        {
            schema.EXAMPLE_ID: 3 * at + place,
            schema.QUERY: query,
            schema.QUERY_ID: at,
            schema.PRODUCT_ID: f"p{place}" if query != "QUERY 3" else f"q{place}",
            schema.LOCALE: "us",
            schema.LABEL: label,
            schema.SMALL: 1,
            schema.LARGE: 1,
            schema.SPLIT: "test" if at < 4 or query == "QUERY 3" else "train",
        }
        for at, query in enumerate(queries)
        for place, label in enumerate("ESI")
    ]
    products = [
        dict.fromkeys(schema.PRODUCT_COLUMNS)
        | {schema.PRODUCT_ID: f"{kind}{place}", schema.TITLE: f"thing {place}", schema.LOCALE: "us"}
        for kind in "pq"
        for place in range(3)
    ]
    source = tmp_path / "source"
    source.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), source / schema.OFFICIAL_EXAMPLES_FILE)
    text = pa.schema([(name, pa.string()) for name in schema.PRODUCT_COLUMNS])
    pq.write_table(pa.Table.from_pylist(products, text), source / schema.OFFICIAL_PRODUCTS_FILE)
    return list_cells.Bench("shop", source, tiny(), "tiny", tmp_path / "work", tmp_path / "kept")


def with_encoder(bench, folder):
    return replace(bench, recipe=Recipe().with_settings([f"model.encoder={folder}", "model.max_length=64"]))


def test_a_query_is_in_one_fold_in_all_its_spellings_and_folds_are_equally_large(bench):
    queries = bench.judged.column(schema.QUERY).to_pylist()
    folds = {query.lower(): set() for query in queries}
    for query, fold in zip(queries, bench.fold_P.tolist(), strict=True):
        folds[query.lower()].add(fold)
    assert all(len(found) == 1 for found in folds.values())
    assert np.bincount([found.pop() for found in folds.values()]).tolist() == [4] * 5


def test_a_fold_is_the_test_split_of_its_dataset_and_inner_folds_leave_it_out(bench):
    left_out = bench.left_out(1)
    assert sorted(left_out) == np.flatnonzero(bench.fold_P == 1).tolist()
    both = [bench.left_out(1, part) for part in range(list_cells.INNER)]
    assert all(sorted(rows[bench.fold_P[rows] == 1]) == sorted(left_out) for rows in both)
    inner = np.concatenate([rows[bench.fold_P[rows] != 1] for rows in both])
    assert sorted(inner) == np.flatnonzero(bench.fold_P != 1).tolist()
    training, held = list_cells.Held.of(bench.data(1)).split(0)
    assert not set(training) & set(held)


def test_the_given_split_is_measured_where_it_is_asked_for(bench):
    of_test = replace(bench, test=True)
    assert list(of_test.folds) == [0]
    splits = of_test.judged.column(schema.SPLIT).to_pylist()
    assert [splits[row] for row in of_test.left_out(0)] == ["test"] * 15
    assert int(quality_lists.measured(of_test).sum()) == 15


def test_only_what_can_be_used_is_measured_and_other_data_of_the_name_are_made_anew(bench, capsys):
    first, path = bench.data(0), bench.source / schema.OFFICIAL_EXAMPLES_FILE
    rows = pq.read_table(path).to_pylist()
    twice, differs, unknown = ({**rows[number], schema.EXAMPLE_ID: 900 + number} for number in range(3))
    differs[schema.LABEL], unknown[schema.PRODUCT_ID] = "C", "of no catalogue"
    rows[3][schema.LOCALE] = "US"
    ratings = [f"{row[schema.QUERY]},{row[schema.PRODUCT_ID]},{judge},3" for row in rows[3:6] for judge in "ab"]
    (bench.source / list_cells.RATINGS_FILE).write_text("\n".join(["query,product_id,judge,grade", *ratings]))
    pq.write_table(pa.Table.from_pylist([*rows, twice, differs, unknown]), path)
    bench = replace(bench, name="shop")
    left = sorted(number % 900 for number in bench.judged.column(schema.EXAMPLE_ID).to_pylist())
    assert left == [0, *range(2, len(rows))], "one of each pair, none of two labels"
    assert "4 judgements are left out" in capsys.readouterr().out
    assert sorted(bench.left_out(0)) == np.flatnonzero(bench.fold_P == 0).tolist()
    assert bench.data(0) != first
    assert bench.votes_PC.sum() == 6
    quality_lists.report(bench, {row.name: [quality_lists.said_by(bench, row, 0)] for row in (RANDOM, BM25)}, BM25.name)


def test_an_outcome_is_kept_under_what_decides_it(bench):
    def key(row, **changed):
        cell = list_cells.Cell(row, 0, None, 0)
        return replace(bench, **changed).path(cell).parent.name.rpartition("-")[2]

    assert key(PLAIN) == key(replace(PLAIN, name="another"))
    others = [replace(PLAIN, settings=("train.epochs=9",)), replace(PLAIN, side="theirs")]
    others.append(replace(others[1], loss="ListNet"))
    assert len({key(row) for row in (PLAIN, *others)}) == 4
    assert key(PLAIN) != key(PLAIN, test=True)
    before = key(PLAIN)
    (bench.source / list_cells.RATINGS_FILE).write_text("query,product_id,judge,grade\n")
    assert key(PLAIN) != before


def test_outcomes_are_kept_and_read_and_only_missing_ones_are_trained(bench, monkeypatch):
    asked = []

    def trained(self, cell, recipe, data):
        asked.append((cell.fold, recipe.train.seed))
        return np.full((len(self.left_out(cell.fold)), 4), [3.0, 1.0, 0.0, 1.00004], np.float32)

    monkeypatch.setattr(list_cells.Bench, "_trained", trained)
    cells = [list_cells.Cell(PLAIN, fold, None, 7) for fold in bench.folds]
    bench.run(cells[:2])
    bench.run(cells)
    assert asked == [(fold, 7) for fold in range(5)]
    assert bench.logits(cells[0])[0].tolist() == pytest.approx([3, 1, 0, 1.00004], abs=1e-7)
    said = json.loads(pq.read_schema(bench.path(cells[0])).metadata[b"cell"])
    assert (said["row"], said["recipe"]["train"]["seed"]) == (PLAIN.name, 7)
    systems = {row.name: [quality_lists.said_by(bench, row, 7)] for row in (PLAIN, RANDOM, BM25)}
    found = quality_lists.report(bench, systems, PLAIN.name)
    assert found["counts"] == {"pairs": 63, "queries": 21, "queries_of_one_product": 0, "queries_ranked": 21}
    assert found["systems"][PLAIN.name]["mean"]["micro_f1"] == pytest.approx(1 / 3)
    assert "micro_f1" not in found["systems"][BM25.name]["mean"]


def test_the_second_stage_reads_models_of_inner_folds_and_costs_no_training(bench, sentence_encoder, monkeypatch):
    asked = []
    bench = with_encoder(bench, sentence_encoder)

    def trained(self, cell, recipe, data):
        """Know the labels of the fold, which nothing may be learnt from, and of the inner folds every other one."""
        asked.append((cell.fold, cell.inner))
        places = self.left_out(cell.fold, cell.inner)
        known = np.eye(4)[list_cells.label_codes_of(self.judged)[places]]
        known[(self.fold_P[places] != cell.fold) & (places % 2 == 0)] = 0.25
        return (4 * known).astype(np.float32)

    monkeypatch.setattr(list_cells.Bench, "_trained", trained)
    row = list_rows.with_stack(PLAIN)
    cells = [list_cells.Cell(row, fold, None, 0) for fold in bench.folds]
    bench.run(cells)
    assert asked == [(fold, inner) for fold in range(5) for inner in range(list_cells.INNER)]
    place, said = quality_lists.of_fold(bench, cells[2])
    assert sorted(place) == np.flatnonzero(bench.fold_P == 2).tolist()
    assert said.probabilities.sum(axis=1) == pytest.approx(1)
    chosen = quality_lists.select(bench, [PLAIN, row], 2)  # of the trainings that are there
    for one in (PLAIN, row):
        assert set(chosen[one.name]) == {"ndcg", "ndcg@10", "mrr", "micro_f1", "macro_f1", "log_loss"}
    place, _ = quality_lists.of_fold(bench, list_cells.Cell(row, 2, 1, 0))
    both = bench.left_out(2, 1)
    assert sorted(place) == sorted(both[bench.fold_P[both] != 2])
    assert len(asked) == 15
    place, _ = quality_lists.of_fold(bench, list_cells.Cell(list_rows.TREES, 2, 1, 0))
    assert sorted(place) == sorted(both[bench.fold_P[both] != 2]), "to choose by, trees predict no pair of the fold"
    trees = quality_lists.said_by(bench, list_rows.TREES, 0)
    assert trees.probabilities.shape == (63, 4)
    both, tree, model = (
        quality_lists.of_fold(bench, list_cells.Cell(of, 2, 1, 0))
        for of in (list_rows.with_trees(PLAIN), list_rows.TREES, PLAIN)
    )
    of_tree, of_model = (dict(zip(place, said.scores, strict=True)) for place, said in (tree, model))
    expected = [0.7 * of_tree[place] + 0.3 * of_model[place] for place in both[0]]
    assert both[1].scores == pytest.approx(expected)
    assert both[1].probabilities.sum(axis=1) == pytest.approx(1)
    assert len(asked) == 15, "trees alone have no model, and a model beside them is one that is there"


def test_a_choice_by_the_other_folds_reads_their_trainings_alone(bench, monkeypatch):
    asked = []

    def trained(self, cell, recipe, data):
        """Know all labels of fold 2 and none of the others."""
        asked.append((cell.fold, cell.inner))
        known = np.eye(4)[list_cells.label_codes_of(self.judged)[self.left_out(cell.fold)]]
        return (4 * known * (cell.fold == 2)).astype(np.float32)

    monkeypatch.setattr(list_cells.Bench, "_trained", trained)
    bench.run([list_cells.Cell(PLAIN, fold, None, 0) for fold in bench.folds])
    without, beside = (quality_lists.select(bench, [PLAIN], fold, quality_lists.OTHER_FOLDS) for fold in (2, 3))
    assert without[PLAIN.name]["micro_f1"] == pytest.approx(1 / 3)
    assert beside[PLAIN.name]["micro_f1"] > 0.4
    assert {inner for _, inner in asked} == {None}


def test_raters_shares_are_targets_where_a_pair_was_rated(bench):
    judged = bench.judged
    query, product = (judged.column(name)[5].as_py() for name in (schema.QUERY, schema.PRODUCT_ID))
    lines = [f"{query},{product},judge{judge},{grade}" for judge, grade in ((1, 3), (2, 3), (3, 0))]
    (bench.source / list_cells.RATINGS_FILE).write_text("\n".join(["query,product_id,judge,grade", *lines, ""]))
    table = pq.read_table(bench._raters_table(list_cells.Cell(PLAIN, 0, None, 0)))
    shares = np.stack([table.column(f"p_{label}").to_numpy() for label in schema.LABELS], axis=1)
    assert shares[5] == pytest.approx([2 / 3, 0, 0, 1 / 3])
    others = np.delete(np.arange(len(shares)), 5)
    assert (shares[others].argmax(axis=1) == list_cells.label_codes_of(judged)[others]).all()


def rate(bench, *rated):
    """Write three raters' grades of pairs: the pair's place in `judged`, and the grades."""
    lines = ["query,product_id,judge,grade"]
    for place, grades in rated:
        query, product = (bench.judged.column(name)[place].as_py() for name in (schema.QUERY, schema.PRODUCT_ID))
        lines += [f"{query},{product},judge{judge},{grade}" for judge, grade in enumerate(grades)]
    (bench.source / list_cells.RATINGS_FILE).write_text("\n".join([*lines, ""]))


def test_raters_majority_is_a_target_and_of_several_the_least_relevant(bench):
    rate(bench, (5, (3, 3, 0)), (7, (3, 2, 1)))
    table = pq.read_table(bench._majority_table(list_cells.Cell(PLAIN, 0, None, 0)))
    codes = np.stack([table.column(f"p_{label}").to_numpy() for label in schema.LABELS], axis=1).argmax(axis=1)
    expected = list_cells.label_codes_of(bench.judged).copy()
    expected[[5, 7]] = schema.LABELS.index("E"), schema.LABELS.index("C")
    assert codes.tolist() == expected.tolist()


def test_a_teacher_says_of_a_training_pair_what_its_model_without_that_query_says(bench):
    row = list_rows.ROWS["ours, split 3 taught"]
    cell = list_cells.Cell(row, 1, None, 5)
    teachers = cell.teachers()
    assert [(of.row, of.fold, of.inner, of.seed) for of in teachers] == [(list_rows.TEACHES, 1, n, 5) for n in range(3)]
    assert not list_cells.Cell(PLAIN, 1, None, 5).teachers()
    for teacher in teachers:
        logits = np.tile(np.float32([teacher.inner, 0, 0, 0]), (len(bench.left_out(1, teacher.inner)), 1))
        bench._keep(teacher, logits, 1)
    setting = bench._with_places(cell)[-1]
    path = json.loads(setting.removeprefix("train.soft_labels="))["predictions"][0]
    table = pq.read_table(path)
    place_of = {example: place for place, example in enumerate(bench.judged.column(schema.EXAMPLE_ID).to_pylist())}
    told = {
        place_of[ex]: p for ex, p in zip(*(table.column(n).to_pylist() for n in ("example_id", "p_E")), strict=True)
    }
    assert sorted(told) == np.flatnonzero(bench.fold_P != 1).tolist()
    for inner in range(3):
        for place in set(bench.left_out(1, inner)) - set(np.flatnonzero(bench.fold_P == 1)):
            assert told[place] == pytest.approx(np.exp(inner) / (np.exp(inner) + 3))
    assert list_rows.TEACHER in json.dumps(bench.recipe_of(cell).to_json()), "a cell's name tells nothing of places"
    with pytest.raises(SystemExit, match="left out the inner folds"):
        bench._with_places(replace(cell, inner=0))


def test_smoothing_and_temperature_are_chosen_on_inner_folds_by_the_grades_of_raters(bench, monkeypatch):
    """Raters are of two minds on each pair. One row foretells just that, but twice as sure; others are surer still."""
    rated = [place for place in range(63) if place % 3]
    rate(bench, *((place, (3, 3, 0)) for place in rated))
    truth = np.log([2 / 3, 1e-9, 1e-9, 1 / 3])
    asked = []

    def run(self, cells):
        asked.append(cells)
        for cell in cells:
            best, whole = cell.row is rater_shares.SMOOTHED[0.1], cell.inner is None
            logits = truth * 2 if best else truth[::-1] * (1 if whole else 3)
            bench._keep(cell, np.tile(logits, (len(bench.left_out(cell.fold, cell.inner)), 1)), 1)

    monkeypatch.setattr(list_cells.Bench, "run", run)
    found = rater_shares.compare(bench, [0, 1])
    assert [of["smoothing"] for of in found["chosen"].values()] == [0.1] * 5
    tried = found["chosen"]["0"]["tries"][rater_shares.SMOOTHED[0.1].name]
    assert tried["temperature"] == pytest.approx(2, rel=0.01)
    assert found["counts"]["grades"] == 3 * len(rated)
    entropy = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
    means = {name: of["mean"]["log_loss"] for name, of in found["systems"].items()}
    assert means[rater_shares.OF_MAJORITY_AT] == pytest.approx(entropy, abs=1e-4)
    assert means[rater_shares.FREQUENCY] == pytest.approx(entropy)
    assert means[rater_shares.OF_MAJORITY] == pytest.approx(-(2 / 3 * np.log(0.8) + 1 / 3 * np.log(0.2)), abs=1e-4)
    gap = found["differences"][f"{rater_shares.OF_SHARES} minus {rater_shares.OF_MAJORITY_AT}"]["log_loss"]
    assert gap["mean"] == pytest.approx(means[rater_shares.OF_SHARES] - entropy, abs=1e-4)
    assert {cell.row for cell in asked[1]} == {rater_shares.SMOOTHED[0.1]}
    assert {cell.seed for cell in asked[0] if cell.inner is not None} == {0}


def test_raters_targets_are_not_compared_where_nobody_rated(bench):
    with pytest.raises(SystemExit, match=r"no ratings\.csv"):
        rater_shares.compare(bench, [0])


def test_both_sides_have_as_many_tries_and_only_ours_names_raters():
    assert len(OURS_TRIES) == len(THEIRS_TRIES) == 6
    assert not any(RATERS in setting for row in THEIRS_TRIES for setting in row.settings)


def test_the_best_of_theirs_may_be_two_models_and_of_ours_is_one():
    found = {row.name: {"ndcg@10": 0.5} | ({"micro_f1": 0.5} if row.classifies else {}) for row in THEIRS_TRIES}
    found |= {row.name: {"ndcg@10": 0.5, "micro_f1": 0.5} for row in OURS_TRIES}
    found["theirs, BCE"]["ndcg@10"], found["theirs, CE, 5e-5"]["micro_f1"] = 0.9, 0.6
    found["ours, encoder alone, with trees"] = {"ndcg@10": 0.6, "micro_f1": 0.45}
    found["ours, plain"] = {"ndcg@10": 0.45, "micro_f1": 0.58}
    chosen = quality_lists.winners(found)
    assert chosen[quality_lists.THEIRS_BEST] == ("theirs, BCE", "theirs, CE, 5e-5")
    assert chosen[quality_lists.OURS_BEST] == ("ours, encoder alone, with trees",) * 2
    assert chosen[quality_lists.OURS_PAIRS] == ("ours, plain",) * 2


def test_where_most_queries_have_one_product_the_best_is_chosen_by_labels():
    found = {row.name: {"micro_f1": 0.5, "macro_f1": 0.3} for row in (*THEIRS_TRIES, *OURS_TRIES) if row.classifies}
    found["theirs, BCE"] = {}
    found["theirs, CE, 5e-5"]["macro_f1"], found["ours, trees alone"]["macro_f1"] = 0.4, 0.4
    found["ours, plain"]["micro_f1"] = 0.55
    chosen = quality_lists.winners(found)
    assert chosen[quality_lists.THEIRS_BEST] == ("theirs, CE, 5e-5",) * 2
    assert chosen[quality_lists.OURS_BEST] == ("ours, trees alone",) * 2
    assert chosen[quality_lists.OURS_PAIRS] == ("ours, plain",) * 2


def test_figures_leave_out_queries_with_one_grade_and_differences_are_of_seed_means():
    rng = np.random.default_rng(0)
    labels, query_ids = rng.integers(4, size=60), np.repeat(np.arange(20), 3)
    labels[:3] = 0  # the first query has one grade
    truth = list_figures.Judgements(query_ids, labels)
    assert truth.counts()["queries_ranked"] == len({q for q in range(20) if len(set(labels[query_ids == q])) > 1})

    def said(seed):
        probabilities = np.random.default_rng(seed).dirichlet(np.ones(4), size=60)
        return list_figures.Said(probabilities[:, 0], probabilities)

    first, second = [said(1), said(2)], [said(3)]
    found = list_figures.differences(first, second, truth)
    for metric in (MicroF1(), MacroF1()):
        means = [np.mean([metric(one.classed(truth)) for one in side]) for side in (first, second)]
        assert found[metric.name]["mean"] == pytest.approx(means[0] - means[1])
        assert found[metric.name]["low"] < found[metric.name]["mean"] < found[metric.name]["high"]
    figure = list_figures.figures(first[0], truth)
    assert figure["ndcg"] == pytest.approx(nDCG()(first[0].ranked(truth)))
    assert found["ndcg"]["queries"] == truth.counts()["queries_ranked"]


def test_an_unknown_row_is_refused_by_name():
    with pytest.raises(SystemExit, match="no row 'nothing'"):
        quality_lists.named(["nothing"])
    assert quality_lists.named([PLAIN.name]) == [PLAIN]
    assert isinstance(PLAIN, Row)
