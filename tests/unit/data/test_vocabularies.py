import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.prepare.vocabularies import write_vocabularies
from zhichun.text.trigrams import TrigramVocabulary
from zhichun.text.vocabulary import Vocabulary


def silent(what, done, total):
    """Say nothing."""


@pytest.fixture
def shop(tmp_path):
    """Two brands, a color, one query in each split, and a product that a step made."""
    columns = dict.fromkeys(schema.TEXT_COLUMNS, [None] * 5)
    columns |= {
        schema.TITLE: ["xyz", "xyz", "once", "xyz", "made"],
        schema.BRAND: ["Nike", "NIKE®", "Puma", None, "Puma"],
        schema.COLOR: ["red", None, "Red", "blue", "blue"],
        schema.ORIGIN: [*["catalogue"] * 4, "balanced"],
    }
    pq.write_table(pa.table(columns), tmp_path / schema.PRODUCTS_FILE)
    judged = {schema.QUERY: ["foo", "foo", "bar", "qux"], schema.SPLIT: ["train", "train", "train", "test"]}
    pq.write_table(pa.table(judged), tmp_path / schema.EXAMPLES_FILE)
    return tmp_path


def test_the_three_vocabularies_of_a_dataset(shop):
    seen = []
    counts = write_vocabularies(shop, 3, lambda *step: seen.append(step))
    assert counts == {"brands": 1, "colors": 1, "trigrams": 3}
    folder = shop / "vocabulary"
    assert Vocabulary.load(folder / "brands.parquet") == Vocabulary(("nike",), (2,))
    assert Vocabulary.load(folder / "colors.parquet") == Vocabulary(("red",), (2,))
    trigrams = pq.read_table(folder / "trigrams.parquet").to_pydict()
    # A query counts once, and a test query not at all.
    assert trigrams == {"trigram": ["xyz", "bar", "foo"], "count": [3, 1, 1]}
    assert len(TrigramVocabulary.load(folder / "trigrams.parquet")) == 4
    assert seen == [("vocabularies", 5, 5)]


def test_the_same_input_gives_the_same_bytes(shop):
    files = [shop / "vocabulary" / f"{name}.parquet" for name in ("brands", "colors", "trigrams")]
    written = []
    for _ in range(2):
        write_vocabularies(shop, 15, silent)
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]


def test_a_folder_that_cannot_be_made_is_named(shop):
    (shop / "vocabulary").write_text("")
    with pytest.raises(UserError, match=r"vocabulary/brands\.parquet: "):
        write_vocabularies(shop, 15, silent)
