"""`zhichun prepare` ends with a page, and `zhichun summary` makes it again, also with tokens."""

import json
import re

import pytest


@pytest.fixture
def data(home, tmp_path, succeed):
    said = succeed("prepare", home / "shop", tmp_path / "data")
    assert said.endswith(f"{tmp_path}/data/summary.html: what the data are like, as a page\n")
    return tmp_path / "data"


def test_preparing_leaves_the_page_that_is_made_again_byte_for_byte(data, succeed):
    before = {path.name: path.read_bytes() for path in data.glob("summary.*")}
    assert set(before) == {"summary.html", "summary.json"}
    assert succeed("summary", data) == f"{data}/summary.html: made\n"
    assert {path.name: path.read_bytes() for path in data.glob("summary.*")} == before


@pytest.mark.parametrize("folder", ["run", "run/model", "data/tokenizers/unigram-500"])
def test_tokens_are_counted_with_the_tokenizer_of_a_folder(home, data, folder, succeed):
    succeed("summary", data, "--tokenizer", home / folder, "--sample", 100)
    found, page = json.loads((data / "summary.json").read_text("utf-8")), (data / "summary.html").read_text("utf-8")
    assert found["sample"] == {"products": 100, "of": 300}
    assert found["tokens"]["tokenizer"] == folder.split("/")[-1]
    assert str(home) not in page
    pairs = sum(each["texts"] for each in found["lengths"]["pair"]["tokens"]["by_locale"].values())
    cut = sum(row["cut"] for row in found["tokens"]["cut"] if row["max_length"] == 64)
    assert 0 < pairs < 1000
    assert re.search(rf">64</th><td [^>]*>{cut / pairs:.1%}<", page)
    assert "100 of the 300 products, drawn evenly" in page
    succeed("summary", data)
    assert json.loads((data / "summary.json").read_text("utf-8"))["tokens"] is None


def test_what_cannot_be_summed_up_is_said_and_changes_nothing(home, data, fail, tmp_path):
    before = (data / "summary.json").read_bytes()
    assert "not a dataset folder" in fail("summary", tmp_path)
    assert "a sample cannot have 0 products" in fail("summary", data, "--sample", 0)
    assert "no fast tokenizer can be loaded for" in fail("summary", data, "--tokenizer", home / "shop")
    assert (data / "summary.json").read_bytes() == before
