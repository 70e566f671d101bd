"""What the pretext tasks read is what fine-tuning reads: documents, singles, pairs; masks and starts of words."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.text.features import Featurizer
from zhichun.text.tokenizer import PairTokenizer


def word_tokenizer(model, mask=True):
    """A tokenizer with BERT's special tokens."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[CLS]", "[SEP]", "[PAD]", "[UNK]", *(["[MASK]"] if mask else [])])
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return PairTokenizer(tokenizer)


def test_documents_and_pairs_are_those_of_fine_tuning(tiny_dataset, catalogue, reader):
    dataset = Dataset.open(tiny_dataset)
    pairs = open_pairs(dataset, Featurizer(reader.tokenizer, reader.fields), reader.max_length)
    rows = np.arange(0, len(pairs), 50)
    documents = reader.documents(catalogue.take(dataset.product_row[rows].astype(np.int64)))
    queries = reader.tokens([dataset.queries[row].as_py() for row in dataset.query_row[rows]])
    expected, made = pairs.collate(rows), reader.pairs(queries, documents)
    assert {"input_ids", "attention_mask", "token_type_ids"} == set(made)
    assert all(np.array_equal(array, expected[name]) for name, array in made.items())


def test_a_single_text_has_the_token_type_of_the_product(reader):
    arrays = reader.singles(reader.tokens(["red running shoes", "hat"]))
    assert arrays["token_type_ids"][:, 0].tolist() == [0, 0]
    assert (arrays["token_type_ids"][:, 1:] == arrays["attention_mask"][:, 1:]).all()
    ends = arrays["input_ids"][[0, 1], arrays["attention_mask"].sum(axis=1) - 1]
    assert ends.tolist() == list(reader.tokenizer.layout.suffix) * 2


def test_a_long_text_is_cut_with_its_end_kept(reader):
    arrays = reader.singles([np.full(1000, 9, np.int32)])
    assert arrays["input_ids"].shape == (1, reader.max_length)
    assert arrays["input_ids"][0, -1] == reader.tokenizer.layout.suffix[-1]


def test_no_texts_make_an_empty_batch(reader):
    assert {array.shape[0] for array in (*reader.singles([]).values(), *reader.pairs([], []).values())} == {0}


def test_mask_and_specials_are_the_tokenizer_s(reader):
    tokenizer = reader.tokenizer.tokenizer
    assert tokenizer.id_to_token(reader.tokenizer.mask_id) == "<mask>"
    assert [tokenizer.id_to_token(id_) for id_ in reader.special_ids] == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert len(reader.tokenizer.word_starts_V) == tokenizer.get_vocab_size()


def test_a_tokenizer_without_a_mask_is_refused_when_one_is_asked_for():
    tokenizer = word_tokenizer(models.WordPiece({"a": 0, "b": 1}, unk_token="a"), mask=False)
    with pytest.raises(UserError, match="no mask token"):
        _ = tokenizer.mask_id


def test_words_begin_where_sentencepiece_marks_them_and_at_every_japanese_piece(reader):
    ids = reader.tokenizer.tokenizer.get_vocab()
    starts = {piece: bool(reader.tokenizer.word_starts_V[id_]) for piece, id_ in ids.items()}
    marked = [piece for piece in starts if piece.startswith("▁")]
    japanese = [piece for piece in starts if any("぀" <= char <= "鿿" for char in piece[:1])]
    assert len(marked) > 50
    assert len(japanese) > 20
    assert all(starts[piece] for piece in (*marked, *japanese))
    assert not any(starts[piece] for piece in starts if piece.isascii() and piece.isalpha())


def test_words_begin_where_wordpiece_and_byte_level_pieces_say_so():
    wordpiece = word_tokenizer(models.WordPiece({"run": 0, "##ning": 1, "靴": 2, "##靴": 3}, unk_token="run"))
    assert wordpiece.word_starts_V[:4].tolist() == [True, False, True, False]
    byte_level = word_tokenizer(models.BPE({"Ġrun": 0, "ning": 1, "a": 2, "b": 3}, []))
    assert byte_level.word_starts_V[:2].tolist() == [True, False]


def test_special_tokens_have_the_names_of_transformers(reader):
    assert reader.tokenizer.special_names() == {
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }


def test_all_columns_of_a_document_are_read(catalogue, reader):
    texts = catalogue.take(catalogue.rows[:20])
    lengths = np.asarray([len(tokens) for tokens in reader.documents(texts)])
    alone = sum(
        np.asarray([len(tokens) for tokens in reader.tokens(texts.columns[name])]) for name in schema.TEXT_COLUMNS
    )
    assert (lengths == alone + 4 * len(reader.tokenizer.layout.middle)).all()
