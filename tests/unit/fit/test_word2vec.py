"""Word2vec of the trigrams, and that the model really starts from it (the authors' loading had no effect)."""

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from zhichun.cli import main
from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.fit import train as training
from zhichun.fit.word2vec import LONGEST, TrigramSentences, Word2VecSettings, train_trigram_vectors
from zhichun.model.model_folder import TrainedModel
from zhichun.model.relevance_model import ModelSettings
from zhichun.text.trigrams import TrigramVectors, TrigramVocabulary, vectors_path

pytest.importorskip("gensim")

QUICK = Word2VecSettings(size=8, epochs=2, window=3, negative=3, products=60)


@pytest.fixture(scope="module")
def dataset(tiny_dataset, tmp_path_factory):
    """A dataset folder of our own, with vectors of size 8."""
    folder = tmp_path_factory.mktemp("word2vec") / "data"
    shutil.copytree(tiny_dataset, folder)
    train_trigram_vectors(folder, QUICK)
    return folder


def vocabulary_of(folder):
    return TrigramVocabulary.load(folder / "vocabulary" / "trigrams.parquet")


def table_of(model):
    return model.ngrams.bag.weight.detach().numpy()


def trained(dataset, tiny_recipe, start, out):
    recipe = replace(tiny_recipe, model=replace(tiny_recipe.model, trigram_start=start))
    return TrainedModel.load(training.train(recipe, dataset, out).model).model


def test_sentences_are_the_ids_that_the_model_looks_up(dataset):
    vocabulary, opened = vocabulary_of(dataset), Dataset.open(dataset)
    sentences = list(TrigramSentences(opened, vocabulary))
    first = next(opened.product_batches()).slice(0, 1).to_pylist()[0]
    ids, _ = vocabulary.ids([first["product_title"]])
    assert sentences[0] == ids.tolist()
    assert len(sentences) == 5 * opened.product_count
    assert all(1 <= token < len(vocabulary) for sentence in sentences for token in sentence)


def test_products_that_a_step_made_are_left_out(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "data")
    catalogue = pq.read_table(copy / "products.parquet")
    place = catalogue.column_names.index("origin")
    made = catalogue.slice(0, 9).set_column(place, "origin", pa.array(["balanced"] * 9))
    pq.write_table(pa.concat_tables([catalogue, made]), copy / "products.parquet")
    vocabulary = vocabulary_of(dataset)
    assert list(TrigramSentences(Dataset.open(copy), vocabulary)) == list(
        TrigramSentences(Dataset.open(dataset), vocabulary)
    )


def test_an_even_draw_reads_so_many_products_and_a_long_text_is_cut(dataset, monkeypatch):
    sentences = TrigramSentences(Dataset.open(dataset), vocabulary_of(dataset), most=7)
    assert len(list(sentences)) == len(sentences) == 35
    assert max(map(len, sentences)) < LONGEST
    monkeypatch.setattr("zhichun.fit.word2vec.LONGEST", 5)
    assert max(map(len, sentences)) == 5


def test_trigrams_that_stand_side_by_side_lie_together(dataset):
    train_trigram_vectors(dataset, Word2VecSettings(size=16))
    vocabulary = vocabulary_of(dataset)
    vectors = TrigramVectors.load(dataset / "vocabulary", vocabulary, 16).vectors_VG
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    sentences = TrigramSentences(Dataset.open(dataset), vocabulary)
    pairs = np.array([pair for sentence in sentences for pair in itertools.pairwise(sentence)]) - 1
    beside = (unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(axis=1).mean()
    anywhere = (unit[pairs[:, 0]] * unit[np.random.default_rng(0).permutation(pairs[:, 1])]).sum(axis=1).mean()
    assert 1 - beside < 0.5 * (1 - anywhere)


def test_one_worker_gives_the_same_bytes_and_the_seed_counts(dataset):
    path = vectors_path(dataset / "vocabulary", 8)
    first = path.read_bytes()
    assert train_trigram_vectors(dataset, QUICK) == path
    assert path.read_bytes() == first
    train_trigram_vectors(dataset, replace(QUICK, seed=1))
    assert path.read_bytes() != first
    path.write_bytes(first)


def test_an_interrupted_run_leaves_nothing_and_starts_again(dataset):
    path = vectors_path(dataset / "vocabulary", 8)
    whole, there = path.read_bytes(), sorted(path.parent.iterdir())
    path.unlink()

    def kill(_, done, total):
        if done > 60:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train_trigram_vectors(dataset, QUICK, progress=kill)
    assert sorted(path.parent.iterdir()) == [file for file in there if file != path]
    read = []
    train_trigram_vectors(dataset, QUICK, progress=lambda _, done, total: read.append((done, total)))
    assert read[-1] == (120, 120)
    assert path.read_bytes() == whole


def test_training_makes_the_vectors_that_are_missing(dataset, tiny_recipe, tmp_path, capsys, monkeypatch):
    path = vectors_path(dataset / "vocabulary", 6)
    model = replace(tiny_recipe.model, trigram_start="word2vec", trigrams=6)
    with monkeypatch.context() as without:
        without.setattr(training, "find_spec", lambda name: None)
        with pytest.raises(UserError, match=rf"no gensim.*\n.*pip install.* && zhichun word2vec {dataset} --size 6$"):
            training.train(replace(tiny_recipe, model=model), dataset, tmp_path / "run")
    training.train(replace(tiny_recipe, model=model), dataset, tmp_path / "run")
    assert f"zhichun word2vec {dataset} --size 6" in capsys.readouterr().err
    made = path.read_bytes()
    train_trigram_vectors(dataset, Word2VecSettings(size=6))
    assert path.read_bytes() == made


def test_the_model_starts_from_the_vectors(dataset, tiny_recipe):
    settings = replace(tiny_recipe.model, trigram_start="word2vec")
    opened = Dataset.open(dataset)
    featurizer = training.make_featurizer(settings, opened)
    vectors = training.trigram_vectors(settings, featurizer, opened)
    model = training.build_model(settings, featurizer, TASKS["esci"], vectors)
    stored = TrigramVectors.load(dataset / "vocabulary", vocabulary_of(dataset), 8)
    np.testing.assert_array_equal(table_of(model)[1:], stored.vectors_VG)
    assert not table_of(model)[0].any()
    # What the unit puts out for one trigram is that trigram's vector.
    bags = {f"{name}_trigrams": torch.tensor([5]) for name in ("query", "product", "description")}
    offsets = {f"{name}_offsets": torch.tensor([0, 1]) for name in bags}
    pooled = model.ngrams({**bags, **offsets}).detach().numpy()
    np.testing.assert_array_equal(pooled[0], np.tile(stored.vectors_VG[4], 3))


def test_frozen_vectors_are_in_the_trained_model_bit_for_bit(dataset, tiny_recipe, tmp_path):
    model = trained(dataset, tiny_recipe, "word2vec frozen", tmp_path / "run")
    np.testing.assert_array_equal(
        table_of(model), TrigramVectors.load(dataset / "vocabulary", vocabulary_of(dataset), 8).table()
    )


def test_vectors_that_are_not_frozen_move_from_where_they_start(dataset, tiny_recipe, tmp_path):
    moved = table_of(trained(dataset, tiny_recipe, "word2vec", tmp_path / "run"))
    start = TrigramVectors.load(dataset / "vocabulary", vocabulary_of(dataset), 8).table()
    distance = np.linalg.norm(moved - start, axis=1)
    assert distance[1:].max() > 0
    assert np.median(distance[1:]) < 0.5 * np.median(np.linalg.norm(start[1:], axis=1))


def test_vectors_that_are_missing_or_of_another_vocabulary_are_refused(dataset, tmp_path):
    vocabulary = vocabulary_of(dataset)
    with pytest.raises(UserError, match=r"no trigram vectors of size 9.\n.*zhichun word2vec \S*data --size 9"):
        TrigramVectors.load(dataset / "vocabulary", vocabulary, 9)
    other = TrigramVocabulary(vocabulary.keys_V[::-1].copy(), vocabulary.counts_V)
    with pytest.raises(UserError, match=r"another vocabulary.*\n.*--size 8"):
        TrigramVectors.load(dataset / "vocabulary", other, 8)
    renamed = vectors_path(tmp_path, 4)
    shutil.copy(vectors_path(dataset / "vocabulary", 8), renamed)
    with pytest.raises(UserError, match="not 4 float32 each"):
        TrigramVectors.load(tmp_path, vocabulary, 4)
    renamed.write_bytes(renamed.read_bytes()[:-30])
    with pytest.raises(UserError, match="cannot be read"):
        TrigramVectors.load(tmp_path, vocabulary, 4)


def test_a_start_without_a_unit_is_refused():
    with pytest.raises(UserError, match=r"trigram_start='word2vec' has no effect.*\n.*trigram_start=random"):
        ModelSettings(trigrams=None, trigram_start="word2vec")


def test_the_command_says_how_to_train_with_what_it_made(dataset, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["word2vec", str(dataset), "--size", "4", "--epochs", "1", "--products", "20"])
    assert ended.value.code == 0
    assert "--set model.trigrams=4 --set model.trigram_start=word2vec" in capsys.readouterr().out
    assert TrigramVectors.load(dataset / "vocabulary", vocabulary_of(dataset), 4).made_by["products"] == 20


def test_a_catalogue_that_says_no_origin_is_refused(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "data")
    products = pq.read_table(copy / "products.parquet")
    pq.write_table(products.drop_columns("origin"), copy / "products.parquet")
    with pytest.raises(UserError, match=r"products.parquet: .*origin"):
        train_trigram_vectors(copy, QUICK)


def test_a_failure_while_reading_is_raised_and_does_not_hang(dataset, monkeypatch):
    def fail(text):
        raise OSError("the disk went away")

    monkeypatch.setattr("zhichun.fit.word2vec.clean_text", fail)
    with pytest.raises(OSError, match="went away"):
        train_trigram_vectors(dataset, QUICK)


def test_impossible_settings_are_answered():
    with pytest.raises(UserError, match="epochs=0"):
        Word2VecSettings(epochs=0)
    with pytest.raises(UserError, match="seed=-1"):
        Word2VecSettings(seed=-1)
