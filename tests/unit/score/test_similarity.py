"""The similarity of a sentence encoder: what it reads, what it remembers, and that a graph gives the same."""

import shutil

import numpy as np
import pytest
import torch

from zhichun.core.errors import UserError
from zhichun.score import similarity as module
from zhichun.score.export.graph import write_sentences
from zhichun.score.similarity import Similarity

QUERIES = ["red shoes", "RED  shoes", "knife", "red shoes"]
PRODUCTS = {
    "product_title": ["Running shoes", "Running shoes", "A steel knife " + "long " * 200, None],
    "product_brand": ["Acme", "Acme", None, None],
    "product_color": ["red", "blue", None, "red"],
}


def test_it_is_the_cosine_of_the_means_of_query_and_title_with_brand(sentence_encoder):
    found = Similarity.load(sentence_encoder)
    by_hand = []
    for query, text in (("red shoes", "Running shoes Acme"), ("knife", "A steel knife " + "long " * 200)):
        vectors = []
        for one in (query, text):
            ids = torch.from_numpy(found.reader.singles(found.reader.tokens([one.strip()]))["input_ids"])
            assert ids.shape[1] <= module.LONGEST
            hidden = found.encoder.encoder(ids, torch.ones_like(ids), torch.zeros_like(ids))
            vectors.append(hidden[0].mean(dim=0))
        by_hand.append(float(torch.cosine_similarity(*vectors, dim=0)))
    cosine = found.of(QUERIES, PRODUCTS)
    assert cosine[[0, 2]] == pytest.approx(by_hand, abs=1e-6)
    assert cosine[0] == cosine[1], "spellings of a query are one, and the color is not read"
    assert np.isfinite(cosine[3]), "a product without texts has a vector too"


def test_a_product_is_read_once_and_memory_is_bounded(sentence_encoder, monkeypatch):
    read, found = [], Similarity.load(sentence_encoder)
    inner = found.vectors_of
    object.__setattr__(found, "vectors_of", lambda arrays: (read.append(len(arrays["input_ids"])), inner(arrays))[1])
    first = found.of(QUERIES, PRODUCTS)
    assert sum(read) == 5  # two queries, three texts of products
    assert found.of(QUERIES, PRODUCTS).tolist() == first.tolist()
    assert sum(read) == 5
    monkeypatch.setattr(module, "MOST_KNOWN", 3)
    found.of(["another"], {"product_title": ["cup"]})
    assert len(found.known) == 3
    assert found.of(QUERIES, PRODUCTS) == pytest.approx(first, abs=1e-6)


@pytest.mark.parametrize("missing", [None, "onnxruntime"])
def test_saved_or_as_a_graph_it_gives_the_same(sentence_encoder, tmp_path, monkeypatch, missing):
    found = Similarity.load(sentence_encoder)
    expected = found.of(QUERIES, PRODUCTS)
    found.save(tmp_path / "saved")
    assert Similarity.load(tmp_path / "saved").of(QUERIES, PRODUCTS) == pytest.approx(expected, abs=1e-6)
    write_sentences(found, tmp_path / "graph")
    if missing:
        pytest.importorskip("openvino")
        monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    served = Similarity.load(tmp_path / "graph")
    assert served.encoder is None
    assert served.of(QUERIES, PRODUCTS) == pytest.approx(expected, abs=1e-5)


def test_an_encoder_s_prompts_stand_before_queries_and_products_and_are_kept(sentence_encoder, tmp_path):
    shutil.copytree(sentence_encoder, tmp_path / "prompted")
    (tmp_path / "prompted" / module.PROMPTS).write_text('{"prompts": {"query": "red ", "passage": "blue "}}')
    plain, found = Similarity.load(sentence_encoder), Similarity.load(tmp_path / "prompted")
    expected = plain.of(["red shoes"], {"product_title": ["blue cup"]})
    assert found.of(["shoes"], {"product_title": ["cup"]}) == pytest.approx(expected, abs=1e-6)
    found.save(tmp_path / "saved")
    write_sentences(found, tmp_path / "graph")
    for folder in ("saved", "graph"):
        assert Similarity.load(tmp_path / folder).prompts == ("red ", "blue ")
    assert plain.prompts == ("", "")


def test_prompts_are_found_by_an_encoder_s_name_on_the_hub_and_missed_of_an_e5(
    sentence_encoder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name, prompts in (("prompted", '{"prompts": {"query": "red ", "passage": "blue "}}'), ("e5-tiny", "{}")):
        cached = tmp_path / f"models--someone--{name}"
        shutil.copytree(sentence_encoder, cached / "snapshots" / "1")
        (cached / "snapshots" / "1" / module.PROMPTS).write_text(prompts)
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text("1")
    assert Similarity.load("someone/prompted").prompts == ("red ", "blue ")
    assert not capsys.readouterr().err
    assert Similarity.load("someone/e5-tiny").prompts == ("", "")
    assert "someone/e5-tiny ranks much worse without its prompts" in capsys.readouterr().err
    (cached / "snapshots" / "1" / module.PROMPTS).unlink()
    assert Similarity.load("someone/e5-tiny").prompts == ("", "")


def test_an_encoder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        Similarity.load(str(tmp_path / "nowhere"))
