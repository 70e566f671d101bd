"""An index: the same scores as without it, only what changed is computed, nothing half-written is used."""

import html
import itertools
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from zhichun.cli import app
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.tasks import Calibration
from zhichun.data.dataset import Dataset
from zhichun.data.prepare.clean_catalogue import read_catalogue
from zhichun.fit.train import train
from zhichun.measure.evaluate import evaluate
from zhichun.score.index import build
from zhichun.score.index.build import build_index
from zhichun.score.index.network import SplitNetwork
from zhichun.score.index.scorer import IndexScorer, Nearest
from zhichun.score.index.store import Encoded, Shard, States, block_of, content_hashes, is_index, shard_folders
from zhichun.score.rank import rank
from zhichun.score.scorer import Scorer, load_scorer
from zhichun.text.pairs import PairTexts

FORM = '{"kind": "Split", "product_layers": 1, "query_tokens": 12%s}'
WITHIN = {"fp32": 1e-5, "fp16": 1e-3, "int8": 0.05}


def trained(form, recipe, data, out):
    settings = [
        f"model.interaction={FORM % form}",
        "train.epochs=3",
        "train.learning_rate=0.01",
        "model.tiny.heads=1",
        "model.max_length=40",
    ]
    return train(recipe.with_settings(settings), data, out).path


@pytest.fixture(scope="module")
def run(tiny_recipe, tiny_dataset, tmp_path_factory):
    return trained("", tiny_recipe, tiny_dataset, tmp_path_factory.mktemp("split") / "run")


@pytest.fixture(scope="module")
def index(run, products, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "index"
    build_index(run, products, folder, precision="fp32")
    return folder


def columns_of(products, rows):
    some = products.take(pa.array(rows))
    return {name: some.column(name).to_pylist() for name in schema.TEXT_COLUMNS}


def scores(scorer, products, rows, queries):
    pairs = list(itertools.product(queries, rows))
    columns = columns_of(products, [row for _, row in pairs])
    return scorer.predict(scorer.read(PairTexts([query for query, _ in pairs], columns, ["us"] * len(pairs))))


QUERIES = ["red shoes", "usb cable for a phone with a very long query that is cut somewhere here", "x"]


@pytest.mark.parametrize("precision", WITHIN)
def test_scores_are_those_without_an_index(precision, run, products, tmp_path):
    build_index(run, products, tmp_path / "index", precision=precision)
    found = scores(IndexScorer.load(run, tmp_path / "index"), products, range(40), QUERIES)
    expected = scores(Scorer.load(run), products, range(40), QUERIES)
    assert expected.score.std() > 0.01
    assert np.abs(found.probabilities - expected.probabilities).max() < WITHIN[precision]
    assert np.mean([one == other for one, other in zip(found.labels, expected.labels, strict=True)]) >= 0.99


@pytest.mark.parametrize("form", [', "updates": "both"', ', "state": 16', ', "state": 16, "updates": "both"'])
def test_every_form_of_states_gives_the_same_scores(form, tiny_recipe, tiny_dataset, products, tmp_path):
    run = trained(form, tiny_recipe, tiny_dataset, tmp_path / "run")
    build_index(run, products, tmp_path / "index", precision="fp32")
    found = scores(IndexScorer.load(run, tmp_path / "index"), products, range(20), QUERIES)
    expected = scores(Scorer.load(run), products, range(20), QUERIES)
    assert np.abs(found.probabilities - expected.probabilities).max() < 1e-5


def test_a_query_of_more_tokens_than_a_head_has_dimensions_is_computed_plainly(run, index, products, monkeypatch):
    scorer = IndexScorer.load(run, index)
    expected = scores(scorer, products, range(20), QUERIES)
    scorer.network.absorbed.head_size = 0
    assert np.abs(scores(scorer, products, range(20), QUERIES).probabilities - expected.probabilities).max() < 1e-5


def test_order_batch_and_other_candidates_change_nothing(run, index, products, monkeypatch):
    scorer = IndexScorer.load(run, index)
    expected = scores(scorer, products, range(30), QUERIES[:1]).probabilities
    monkeypatch.setattr("zhichun.score.index.scorer.BLOCK_TOKENS", 50)
    assert np.abs(scores(scorer, products, range(30), QUERIES[:1]).probabilities - expected).max() < 1e-6
    backwards = scores(scorer, products, range(29, -1, -1), QUERIES[:1]).probabilities[::-1]
    assert np.abs(backwards - expected).max() < 1e-6
    alone = scores(scorer, products, [17], QUERIES[:1]).probabilities
    assert np.abs(alone - expected[17]).max() < 1e-6


def test_a_few_products_are_shared_out_to_all_cores(run, index, products, monkeypatch):
    scorer, blocks = IndexScorer.load(run, index), []
    whole = scorer._found
    monkeypatch.setattr(IndexScorer, "_found", lambda self, pairs, rows: blocks.append(len(rows)) or whole(pairs, rows))
    monkeypatch.setattr(type(scorer.network), "streams", 4)
    scores(scorer, products, range(10), QUERIES[:1])
    assert blocks == [3, 3, 3, 1]


@pytest.mark.parametrize("precision", WITHIN)
def test_a_product_that_is_not_in_it_is_rounded_as_if_it_were(precision, run, products, tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    build_index(run, products, whole, precision=precision)
    build_index(run, products.slice(0, 5), part, precision=precision)
    rows = range(20)
    expected, found = (scores(IndexScorer.load(run, folder), products, rows, QUERIES) for folder in (whole, part))
    assert np.abs(found.probabilities - expected.probabilities).max() < (2e-6 if precision != "int8" else 1e-3)


def test_commands_take_it_in_place_of_products(run, index, products, tiny_dataset, tmp_path):
    scorer = load_scorer(run, products=index)
    assert isinstance(scorer, IndexScorer)
    found = rank(scorer, "red shoes", read_catalogue(index), "us")
    expected = rank(Scorer.load(run), "red shoes", products, "us")
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-5)
    assert {one.product_id for one in found} == {one.product_id for one in expected}
    measured = evaluate(run, tiny_dataset, out=tmp_path / "a", products=index, shown=False)
    plain = evaluate(run, tiny_dataset, out=tmp_path / "b", trec=True, shown=False)
    lines = [(tmp_path / "b" / name).read_text().splitlines() for name in ("scored.run", "judged.qrels")]
    pairs = [{(line.split()[0], line.split()[2]) for line in of} for of in lines]
    assert pairs[0] == pairs[1]
    assert len(pairs[0]) == plain["pairs"]
    assert measured["engine"] == "torch, from an index in fp32"
    assert measured["ndcg"] == pytest.approx(plain["ndcg"], abs=1e-6)


def test_judged_pairs_in_pieces_are_scored_the_same_from_one_reading_of_the_catalogue(
    run, index, tiny_dataset, monkeypatch
):
    scorer, dataset, rows = IndexScorer.load(run, index), Dataset.open(tiny_dataset), np.arange(40)[::-1]
    expected = scorer.predict_judged(dataset, rows)
    readings, read = [], Dataset.product_batches
    monkeypatch.setattr(Dataset, "product_batches", lambda self, *own: readings.append(own) or read(self, *own))
    monkeypatch.setattr("zhichun.score.index.scorer.JUDGED_AT_ONCE", 7)
    found = scorer.predict_judged(dataset, rows)
    assert np.abs(found.probabilities - expected.probabilities).max() < 1e-6
    assert readings == [()]
    assert len(scorer.predict_judged(dataset, rows[:0]).score) == 0


def test_texts_are_found_as_the_catalogue_has_them_cleaned(run, index, products, monkeypatch):
    scorer, counts = IndexScorer.load(run, index), computed_products(monkeypatch)
    columns = columns_of(products, range(3))
    untidy = {name: [f" {text} \u200b" if text else None for text in of] for name, of in columns.items()}
    scorer.read(PairTexts(["red shoes"] * 3, untidy, ["us"] * 3))
    assert counts == []
    scorer.read(PairTexts(["red shoes"], {schema.TITLE: ["a product that is not in it"]}, ["us"]))
    assert counts == [1]


def test_half_a_character_in_a_text_is_read_as_without_an_index(run, index):
    texts = {schema.TITLE: ["half of a smiley \ud83d shoe"]}
    found, expected = (
        each.predict(each.read(PairTexts(["shoe"], texts, ["us"])))
        for each in (IndexScorer.load(run, index), Scorer.load(run))
    )
    assert found.score == pytest.approx(expected.score, abs=1e-5)


def test_the_commands_make_it_and_score_a_file_from_it(run, tiny_dataset, products, tmp_path):
    def call(*words):
        done = CliRunner().invoke(app, list(map(str, words)))
        assert done.exit_code == 0, done.output
        return done.output

    made = call("index", run, "--products", tiny_dataset, "--out", tmp_path / "index", "--precision", "fp32")
    assert f"{products.num_rows:,} products; " in made
    some = products.slice(0, 20)
    pairs = {name: some.column(name) for name in (schema.PRODUCT_ID, schema.LOCALE)}
    pq.write_table(pa.table({"query": ["red shoes"] * 20, **pairs}), tmp_path / "pairs.parquet")
    found = []
    for source in (tmp_path / "index", tiny_dataset):
        out = tmp_path / f"{source.name}.parquet"
        call("score", run, tmp_path / "pairs.parquet", out, "--products", source)
        found.append(pq.read_table(out).column("p_E").to_numpy())
    assert np.ptp(found[0]) > 0.01
    assert np.abs(found[0] - found[1]).max() < 1e-5


def test_a_server_scores_from_it(run, index, products):
    pytest.importorskip("bm25s")
    from zhichun.serve.app import ServeSettings

    scorer, catalogue = ServeSettings(run=run, products=index).load()
    assert isinstance(scorer, IndexScorer)
    assert len(catalogue) == products.num_rows


def test_the_page_finds_products_by_the_model_alone(run, index, serving):
    pytest.importorskip("bm25s")
    from zhichun.serve.app import ServeSettings
    from zhichun.serve.search_page import NEAREST, TOPS

    def page(url, **values):
        asked = urllib.parse.urlencode({"q": "zzz qqq", "locale": "us", **values})
        try:
            return urllib.request.urlopen(f"{url}/?{asked}").read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()

    scorer, catalogue = IndexScorer.load(run, index), read_catalogue(index)
    local = catalogue.filter(pc.equal(catalogue.column(schema.LOCALE), "us"))
    texts = {name: local.column(name).to_pylist() for name in schema.TEXT_COLUMNS}
    places = Nearest.of(scorer, texts).search("zzz qqq", max(TOPS))
    with serving(ServeSettings(run=run, products=index)) as url:
        found, by_words = page(url, top=NEAREST), page(url, top=20)
    assert "No product has a word of this query" in by_words
    assert re.findall(r'<span class="id">(.+?)</span>', found) == [
        one.product_id for one in rank(scorer, "zzz qqq", catalogue, "us", first=max(TOPS))
    ]
    first = found[found.index("First stage, mean states") : found.index('id="reranked"')]
    titles = [texts[schema.TITLE][place] for place in places[:3].tolist()]
    assert [html.unescape(each) for each in re.findall(r'<a href="#product-\d+"><span[^>]*>(.+?)</span>', first)][
        :3
    ] == titles
    with serving(ServeSettings(run=run, products=index / schema.PRODUCTS_FILE)) as url:
        assert "Only an index finds products by the model" in page(url, top=NEAREST)
        assert f'value="{NEAREST}"' not in page(url)


def computed_products(monkeypatch):
    counts, whole = [], SplitNetwork.shard_of

    def shard_of(self, columns, *others):
        counts.append(len(columns[schema.TITLE]))
        return whole(self, columns, *others)

    monkeypatch.setattr(SplitNetwork, "shard_of", shard_of)
    monkeypatch.setattr(build._Build, "_announce", lambda *_: None)
    return counts


def test_only_what_changed_is_computed_and_removed_states_are_gone(run, products, changed, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "SHARD_PRODUCTS", 64)
    folder = tmp_path / "index"
    first = build_index(run, products, folder, precision="fp16")
    texts = len({tuple(row.values()) for row in products.select(schema.TEXT_COLUMNS).to_pylist()})
    assert (first.products, first.computed, first.removed) == (products.num_rows, texts, 0)
    counts = computed_products(monkeypatch)
    assert build_index(run, products, folder, precision="fp16").computed == 0
    other = changed(products, [3, 70]).slice(0, products.num_rows - 1)
    again = build_index(run, other, folder, precision="fp16")
    assert (again.computed, again.removed, sum(counts)) == (2, 3, 2)
    gone = content_hashes(columns_of(products, [3, 70, products.num_rows - 1]))
    states = States.open(folder)
    assert (states.find(gone)[0] == -1).all()
    zeros = [not shard.encoded.states_NS[start].any() for shard in states.shards for start in shard.starts_R.tolist()]
    assert sum(zeros) == 3
    assert (states.find(content_hashes(columns_of(other, range(other.num_rows))))[0] >= 0).all()
    expected = scores(Scorer.load(run), other, range(10), QUERIES).probabilities
    assert (
        np.abs(scores(IndexScorer.load(run, folder), other, range(10), QUERIES).probabilities - expected).max() < 1e-3
    )


def test_a_shard_that_lost_much_is_made_again_without_it(run, products, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "SHARD_PRODUCTS", 64)
    build_index(run, products.slice(0, 128), tmp_path / "index")
    before = shard_folders(tmp_path / "index")
    made = build_index(run, products.slice(30, 98), tmp_path / "index")
    after = shard_folders(tmp_path / "index")
    assert made.removed == 30
    assert before[0] not in after
    assert before[1] in after
    assert len(States.open(tmp_path / "index").shards[-1].lengths_R) == made.computed < 64


def test_after_a_kill_it_goes_on_to_the_same_bytes(run, products, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "SHARD_PRODUCTS", 50)
    build_index(run, products, tmp_path / "whole")
    counts = computed_products(monkeypatch)
    counting = SplitNetwork.shard_of
    for stop in range(1, 4):

        def killed(self, *given, stop=stop):
            if len(counts) % 2:
                counts.append(0)
                raise InterruptedError
            return counting(self, *given)

        monkeypatch.setattr(SplitNetwork, "shard_of", killed)
        with pytest.raises(InterruptedError):
            build_index(run, products, tmp_path / "killed")
        assert not is_index(tmp_path / "killed")  # no catalogue yet
        with pytest.raises(UserError, match=r"is no index of products(.|\n)*zhichun index RUN"):
            IndexScorer.load(run, tmp_path)
        with pytest.raises(UserError, match=r"is not finished(.|\n)*it goes on"):
            load_scorer(run, products=tmp_path / "killed")
    monkeypatch.setattr(SplitNetwork, "shard_of", counting)
    build_index(run, products, tmp_path / "killed")
    files = [
        {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        for folder in (tmp_path / "whole", tmp_path / "killed")
    ]
    assert len(files[0]) > 12
    assert files[0] == files[1]


def test_what_another_process_removed_meanwhile_is_scored_as_before(run, products, changed, tmp_path):
    build_index(run, products, tmp_path / "index", precision="fp32")
    scorer = IndexScorer.load(run, tmp_path / "index")
    expected = scores(scorer, products, range(10), QUERIES).probabilities
    build_index(run, changed(products, [2, 5]), tmp_path / "index", precision="fp32")
    assert np.abs(scores(scorer, products, range(10), QUERIES).probabilities - expected).max() < 1e-5


def test_a_temperature_leaves_it_usable_and_is_in_its_scores(run, index, products, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    Calibration(temperature=2.0).save(tmp_path / "run" / "model")
    found = scores(IndexScorer.load(tmp_path / "run", index), products, range(5), QUERIES).probabilities
    expected = scores(Scorer.load(tmp_path / "run"), products, range(5), QUERIES).probabilities
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(found - scores(Scorer.load(run), products, range(5), QUERIES).probabilities).max() > 1e-3
    assert build_index(tmp_path / "run", products, index, precision="fp32").computed == 0


def test_states_are_overwritten_where_they_lie_and_whoever_has_them_open_can_tell(run, products, tmp_path):
    build_index(run, products.slice(0, 20), tmp_path / "index", precision="fp32")
    (folder,), states = shard_folders(tmp_path / "index"), States.open(tmp_path / "index")
    found = states.find(content_hashes(columns_of(products, [2, 5, 7])))
    before, gone = block_of(states.shards, *found)
    assert before.states_BTS.any(axis=(1, 2)).all()
    assert not len(gone)
    kept, size = (folder / "states.npy").stat(), 20
    Shard.open(folder).remove(found[1][:2], folder)
    after, gone = block_of(states.shards, *found)
    assert gone.tolist() == [0, 1]
    assert not after.states_BTS[:2].any()
    assert (after.states_BTS[2] == before.states_BTS[2]).all()
    assert states.shards[0].means_RS.any(axis=1).sum() == size - 2
    assert (folder / "states.npy").stat().st_ino == kept.st_ino
    Shard.open(folder).remove(found[1][:2], folder)  # again, after a kill


def test_the_first_stage_finds_the_nearest_and_ranks_only_them(run, index, products):
    scorer, catalogue = IndexScorer.load(run, index), read_catalogue(index)
    local = catalogue.filter(pc.equal(catalogue.column(schema.LOCALE), "us"))
    texts = {name: local.column(name).to_pylist() for name in schema.TEXT_COLUMNS}
    nearest = Nearest.of(scorer, texts)
    means = [scorer.computed({name: [of[row]] for name, of in texts.items()}).means_RS[0] for row in range(12)]
    centre = np.mean([scorer.computed(texts).means_RS], axis=(0, 1))
    assert np.abs(nearest.centre_S - centre).max() < 1e-5
    away = (np.asarray(means) - centre) / np.linalg.norm(np.asarray(means) - centre, axis=1)[:, None]
    assert np.abs(nearest.vectors_NS[:12] - away).max() < 1e-4
    place = nearest.search(texts[schema.TITLE][3], 5)
    assert len(place) == 5
    whole = rank(scorer, "red shoes", catalogue, "us")
    some = rank(scorer, "red shoes", catalogue, "us", first=7)
    ids = [local.column(schema.PRODUCT_ID)[row].as_py() for row in nearest.search("red shoes", 7).tolist()]
    assert [one.product_id for one in some] == [one.product_id for one in whole if one.product_id in ids]
    with pytest.raises(UserError, match=r"the first stage reads an index of a split model(.|\n)*zhichun index"):
        rank(Scorer.load(run), "red shoes", catalogue, "us", first=7)
    with pytest.raises(UserError, match=r"cannot find 0 products(.|\n)*1 or more"):
        rank(scorer, "red shoes", catalogue, "us", first=0)
    assert len(rank(scorer, "red shoes", catalogue, "us", first=10**6)) == local.num_rows


def test_the_first_stage_finds_products_that_are_not_in_the_index_by_their_texts(run, index, products, tmp_path):
    build_index(run, products.slice(0, 5), tmp_path / "part", precision="fp32")
    texts = columns_of(products, range(30))
    untidy = {name: [f" {text} \u200b" if text else None for text in of] for name, of in texts.items()}
    expected = Nearest.of(IndexScorer.load(run, index), texts)
    for given in (texts, untidy):
        found = Nearest.of(IndexScorer.load(run, tmp_path / "part"), given)
        assert np.abs(found.vectors_NS - expected.vectors_NS).max() < 1e-4
        assert (found.search("red shoes", 5) == expected.search("red shoes", 5)).all()


def test_what_is_no_index_of_it_is_refused(run, index, tiny_run, tiny_recipe, tiny_dataset, products, tmp_path):
    with pytest.raises(UserError, match=r"reads query and product together(.|\n)*model\.interaction=Split"):
        build_index(tiny_run, products, tmp_path / "index")
    with pytest.raises(UserError, match=r"is an index of the precision fp32\."):
        build_index(run, products, index, precision="int8")
    with pytest.raises(UserError, match=r"reads query and product together"):
        IndexScorer.load(tiny_run, index)
    other = trained(', "state": 16', tiny_recipe, tiny_dataset, tmp_path / "run")
    with pytest.raises(UserError, match=r"is an index of another model\."):
        build_index(other, products, index, precision="fp32")
    with pytest.raises(UserError, match=r"the index is not of the model(.|\n)*zhichun index"):
        IndexScorer.load(other, index)
    with pytest.raises(UserError, match=r"the folder holds something else\."):
        build_index(run, products, tiny_dataset)


def test_a_catalogue_without_products_is_refused_and_leaves_the_index(run, products, tmp_path):
    build_index(run, products.slice(0, 5), tmp_path / "index")
    with pytest.raises(UserError, match=r"there is no product to index(.|\n)*--products"):
        build_index(run, products.slice(0, 0), tmp_path / "index")
    assert len(States.open(tmp_path / "index").shards[0].lengths_R) == 5


def test_a_model_that_is_replaced_while_it_is_read_makes_no_index(run, products, tmp_path, monkeypatch):
    hashes = iter(["before", "after"])
    monkeypatch.setattr("zhichun.score.index.torch_network.whose_states", lambda _: next(hashes))
    with pytest.raises(UserError, match=r"was replaced while it was read(.|\n)*when the training is done"):
        build_index(run, products, tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_whole_numbers_are_near_and_their_scales_are_of_each_state():
    states_NS = (
        np.random.default_rng(0).normal(size=(7, 16)).astype(np.float32) * np.arange(7, dtype=np.float32)[:, None]
    )
    encoded = Encoded.of(states_NS, "int8")
    assert encoded.states_NS.dtype == np.int8
    near = encoded.states_NS * encoded.scales_N[:, None]
    assert (np.abs(near - states_NS).max(axis=1) <= encoded.scales_N / 2 + 1e-6).all()
    assert np.abs(encoded.states_NS[1:]).max(axis=1).tolist() == [127] * 6


def test_size_and_time_are_said_before_it_starts(run, products, tmp_path):
    lines: list[str] = []
    build_index(run, products, tmp_path / "index", precision="int8", say=lines.append)
    assert len(lines) == 1
    assert "of 3" in lines[0] or "of 2" in lines[0]
    assert "kB a product in int8; about" in lines[0]


def test_a_damaged_shard_is_named(run, products, tmp_path):
    build_index(run, products.slice(0, 10), tmp_path / "index")
    (folder,) = (tmp_path / "index").glob("shard-*")
    for name, length in (("states.npy", 200), ("side.npy", 0), ("kept.parquet", 10), ("means.npy", 0)):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"shard-00000: cannot be read(.|\n)*zhichun index"):
            IndexScorer.load(run, tmp_path / "index")
        (folder / name).write_bytes(whole)
    (folder / "means.npy").unlink()
    shutil.rmtree(folder)  # as the error says
    assert build_index(run, products.slice(0, 10), tmp_path / "index").computed == 10
    IndexScorer.load(run, tmp_path / "index")


def test_an_empty_call_scores_nothing(run, index):
    scorer = IndexScorer.load(run, index)
    assert len(scorer.predict(scorer.read(PairTexts([], {}, []))).score) == 0
