"""The similarity of a sentence encoder: what it reads, what it remembers, and that a graph gives the same."""

import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.score import similarity as module
from zhichun.score.export.graph import write_sentences
from zhichun.score.similarity import Similarity

# Title, brand, color, bullets, description: in the order of `schema.TEXT_COLUMNS`.
PRODUCTS = [
    {"product_title": "Running shoes", "product_brand": "Acme", "product_bullet_point": "light"},
    {
        "product_title": "Running shoes",
        "product_brand": "Acme",
        "product_bullet_point": "light",
        "product_color": "red",
    },
    {"product_title": "A steel knife " + "long " * 200, "product_description": "sharp"},
    {"product_color": "red"},
]
LIST = [tuple(product.get(name) for name in schema.TEXT_COLUMNS) for product in PRODUCTS]


def of(similarity, query="red shoes", products=LIST):
    return similarity.of_lists([(query, products)])[0][0]


def test_they_are_cosines_of_the_means_of_texts_and_of_the_query_s_tokens(sentence_encoder):
    found = Similarity.load(sentence_encoder)

    def states(text):
        ids = torch.from_numpy(found.reader.singles(found.reader.tokens([text.strip()]))["input_ids"])
        assert ids.shape[1] <= module.LONGEST
        return found.encoder.encoder(ids, torch.ones_like(ids), torch.zeros_like(ids))[0]

    def unit(text):
        return functional.normalize(states(text).mean(dim=0), dim=0)

    layout = found.reader.tokenizer.layout
    words = functional.normalize(states("red shoes")[len(layout.prefix) : -len(layout.suffix)], dim=1)
    titles = {0: unit("Running shoes Acme"), 2: unit(PRODUCTS[2]["product_title"]), 3: unit("")}
    wholes = {0: titles[0] + unit("light"), 2: titles[2] + unit("sharp"), 3: titles[3]}
    wholes = {row: functional.normalize(whole, dim=0) for row, whole in wholes.items()}
    query = unit("red shoes")
    best = max(wholes.values(), key=lambda whole: float(query @ whole))
    made = of(found)
    for row, whole in wholes.items():
        by_hand = [query @ titles[row], query @ whole, (words @ whole).min(), best @ whole]
        assert made[row] == pytest.approx([float(value) for value in by_hand], abs=2e-5)
    assert (made[0] == made[1]).all(), "the color is not read"
    assert (of(found, "RED  shoes") == made).all(), "spellings of a query are one"
    assert np.isfinite(made).all(), "a product without texts has vectors too, and a query without words"
    assert np.isfinite(of(found, "")).all()


def test_the_order_of_a_list_changes_nothing_and_its_best_is_most_like_itself(sentence_encoder):
    found, order = Similarity.load(sentence_encoder), [2, 0, 3, 1]
    made = of(found)
    assert (of(found, products=[LIST[place] for place in order]) == made[order]).all()
    assert made[made[:, 1].argmax(), 3] == 1
    alone = of(found, products=LIST[2:3])
    assert (alone[0, :3] == made[2, :3]).all()
    assert alone[0, 3] == 1, "as the best of any list"


def test_a_product_is_read_once_and_memory_is_bounded(sentence_encoder, monkeypatch):
    read, found = [], Similarity.load(sentence_encoder)
    inner = found.states_of
    object.__setattr__(found, "states_of", lambda arrays: (read.append(len(arrays["input_ids"])), inner(arrays))[1])
    first = found.of_products(LIST)
    assert sum(read) == 5  # three titles with brand, bullets, a description: the colour is none of them
    again = found.of_products(LIST)
    assert all((first[product] == again[product]).all() for product in LIST)
    assert sum(read) == 5
    monkeypatch.setattr(module, "MOST_KNOWN", 3)
    found.of_products([("cup", *LIST[3][1:])])
    assert len(found.known) == 3
    assert found.of_products(LIST)[LIST[0]] == pytest.approx(first[LIST[0]], abs=1e-6)


def test_saved_or_as_a_graph_by_either_runtime_it_gives_the_same(sentence_encoder, tmp_path, monkeypatch):
    found = Similarity.load(sentence_encoder)
    expected = of(found)
    found.save(tmp_path / "saved")
    assert of(Similarity.load(tmp_path / "saved")) == pytest.approx(expected, abs=1e-6)
    write_sentences(found, tmp_path / "graph")
    for runtime in ("onnxruntime", "openvino"):
        pytest.importorskip(runtime)
        served = Similarity.load(tmp_path / "graph")
        assert served.encoder is None
        assert of(served) == pytest.approx(expected, abs=3e-5)
        monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)  # onnxruntime is not there


def test_an_encoder_s_prompts_stand_before_queries_and_products_and_are_kept(sentence_encoder, tmp_path):
    shutil.copytree(sentence_encoder, tmp_path / "prompted")
    (tmp_path / "prompted" / module.PROMPTS).write_text('{"prompts": {"query": "red ", "passage": "blue "}}')
    plain, found = Similarity.load(sentence_encoder), Similarity.load(tmp_path / "prompted")
    expected, none = of(plain, products=[("blue cup", *[None] * 4)]), [None] * 4
    prompted = of(found, "shoes", [("cup", *none)])
    assert prompted[0, :2] == pytest.approx(expected[0, :2], abs=1e-6)
    assert prompted[0, 2] >= expected[0, 2], "a prompt's token is no word of the query"
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
