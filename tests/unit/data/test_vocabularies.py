import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.prepare.vocabularies import write_vocabularies
from zhichun.text.trigrams.bags import TrigramVocabulary
from zhichun.text.vocabulary import Vocabulary


@pytest.fixture
def shop(tmp_path):
    """Two brands, a color, and one query in each split."""
    products, examples = tmp_path / "products.parquet", tmp_path / "examples.parquet"
    columns = dict.fromkeys(schema.TEXT_COLUMNS, [None] * 4)
    columns |= {
        schema.TITLE: ["xyz", "xyz", "once", "<b>xyz</b>"],
        schema.BRAND: ["Nike", "NIKE&reg;", "Puma", None],
        schema.COLOR: ["red", None, "Red", "blue"],
    }
    pq.write_table(pa.table(columns), products)
    judged = {schema.QUERY: ["foo", "foo", "bar", "qux"], schema.SPLIT: ["train", "train", "train", "test"]}
    pq.write_table(pa.table(judged), examples)
    return products, examples


def test_the_three_vocabularies_of_a_dataset(tmp_path, shop):
    seen = []
    folder = tmp_path / "new" / "vocabulary"
    counts = write_vocabularies(folder, *shop, min_count_trigram=3, progress=lambda *step: seen.append(step))
    assert counts == {"brands": 1, "colors": 1, "trigrams": 3}
    assert Vocabulary.load(folder / "brands.parquet") == Vocabulary(("nike",), (2,))
    assert Vocabulary.load(folder / "colors.parquet") == Vocabulary(("red",), (2,))
    trigrams = pq.read_table(folder / "trigrams.parquet").to_pydict()
    # Tags do not count, nor does a query twice, nor a test query at all.
    assert trigrams == {"trigram": ["xyz", "bar", "foo"], "count": [3, 1, 1]}
    assert len(TrigramVocabulary.load(folder / "trigrams.parquet")) == 4
    assert seen == [("brands", 4, 4), ("colors", 4, 4), ("trigrams", 4, 4)]


def test_the_same_input_gives_the_same_bytes(tmp_path, shop):
    for name in ("one", "two"):
        write_vocabularies(tmp_path / name, *shop)
    for file in ("brands.parquet", "colors.parquet", "trigrams.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_unusable_files_are_named(tmp_path, shop):
    products, examples = shop
    with pytest.raises(UserError, match=r"nowhere\.parquet: there is no such file"):
        write_vocabularies(tmp_path / "v", tmp_path / "nowhere.parquet", examples)
    with pytest.raises(UserError, match=r"examples\.parquet: lacks the columns \['product_brand'\]"):
        write_vocabularies(tmp_path / "v", examples, examples)
    products.write_bytes(products.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"products\.parquet: cannot be read as Parquet"):
        write_vocabularies(tmp_path / "v", products, examples)
    assert not (tmp_path / "v").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path, shop):
    with pytest.raises(UserError, match=r"products\.parquet: the folder cannot be made"):
        write_vocabularies(shop[0], *shop)
