"""Pairs assembled from separately tokenised texts against the tokenizer's own encoding of the pair.

The tokenizers have the shapes of XLM-R, BERT, DeBERTa-v2 and ModernBERT, and that of our own tiny encoder.
"""

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from zhichun.core.errors import UserError
from zhichun.data.feature_store import train_unigram
from zhichun.text.clean import clean_text
from zhichun.text.features import MOST_CHARACTERS, MOST_OF_A_WORD, ProductFeatures, QueryFeatures, readable
from zhichun.text.pairs import Pairs, truncated_lengths
from zhichun.text.tokenizer import PairTokenizer

WORDS = re.findall(
    r"\S+",
    "red running shoes women's shoe 42 cm 10.5\" USB-C, (pack of 2) zapatillas rojas niño corazón "
    "赤い靴 レディース ２４ｃｍ ｶﾀｶﾅ ﬁne ½ ❤️ 👩‍👩‍👧 İstanbul 3/4 & naïve x",
)
SPECIALS = {"<": ("<s>", "<pad>", "</s>", "<unk>", "<mask>"), "[": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")}


def corpus():
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=8)) for _ in range(300)]


def finish(tokenizer, trainer, single, pair):
    tokenizer.train_from_iterator(corpus(), trainer)
    names = {token for token in pair.replace(":1", "").split() if not token.startswith("$")}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(name, tokenizer.token_to_id(name)) for name in sorted(names)]
    )
    return tokenizer


def xlmr():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=list(SPECIALS["<"]), unk_token="<unk>", show_progress=False
    )
    finish(tokenizer, trainer, "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    return tokenizer


def bert():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=250, special_tokens=list(SPECIALS["["]), show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    return tokenizer


def deberta():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(behavior="isolated"), pre_tokenizers.Metaspace()]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=list(SPECIALS["["]), unk_token="[UNK]", show_progress=False
    )
    return finish(tokenizer, trainer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")


def modernbert():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIALS["["]),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return finish(tokenizer, trainer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]")


def tiny():
    return train_unigram(corpus(), 200)


SHAPES = {make.__name__: make for make in (xlmr, bert, deberta, modernbert, tiny)}


@pytest.fixture(params=SHAPES, scope="module")
def tokenizer(request):
    return PairTokenizer(SHAPES[request.param]())


def assembled(tokenizer, queries, products, max_length, most=None):
    """Collate every query with the product beside it as training and scoring do."""
    rows = np.arange(len(queries), dtype=np.int32)
    pairs = Pairs(
        queries=QueryFeatures(tokenizer.encode(queries, most), None),
        products=ProductFeatures(
            tokenizer.encode_documents(list(zip(*products, strict=True)), most), None, None, None, None
        ),
        query_row_P=rows,
        product_row_P=rows,
        country_P=rows * 0,
        layout=tokenizer.layout,
        pad_id=tokenizer.pad_id,
        max_length=max_length,
    )
    batch = pairs.collate(rows)
    assert pairs.lengths.tolist() == batch["attention_mask"].sum(axis=1).tolist()
    return batch


def reference(tokenizer, queries, products, max_length):
    """What the library makes of the pairs of texts; a product's fields are joined by the text of the separator."""
    whole = Tokenizer.from_str(tokenizer.tokenizer.to_str())
    whole.enable_truncation(max_length, strategy="longest_first")
    whole.enable_padding(pad_id=tokenizer.pad_id)
    separator = "".join(whole.id_to_token(token) for token in tokenizer.layout.middle)
    return whole.encode_batch(
        [(query, separator.join(fields)) for query, fields in zip(queries, products, strict=True)]
    )


def assert_equal(tokenizer, queries, products, max_length):
    """Compare all pairs but those whose texts both fill an odd room alone, the first the longer: see below."""
    room = max_length - tokenizer.layout.specials
    lengths = zip(
        tokenizer.encode(queries).lengths,
        tokenizer.encode_documents(list(zip(*products, strict=True))).lengths,
        strict=True,
    )
    same = [place for place, (first, second) in enumerate(lengths) if not (room % 2 and first > second >= room)]
    queries, products = [queries[place] for place in same], [products[place] for place in same]
    if not same:
        return
    ours, theirs = (make(tokenizer, queries, products, max_length) for make in (assembled, reference))
    assert ours["input_ids"].tolist() == [encoding.ids for encoding in theirs]
    assert ours["attention_mask"].tolist() == [encoding.attention_mask for encoding in theirs]
    types = [encoding.type_ids for encoding in theirs]
    assert ours.get("token_type_ids", np.zeros_like(ours["input_ids"])).tolist() == types


def texts(most):
    return st.lists(st.sampled_from(WORDS), max_size=most).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(texts(30), st.tuples(texts(12), texts(2), texts(30))), min_size=1, max_size=4),
    max_length=st.integers(8, 120),
)
def test_ids_types_and_mask_are_those_of_the_pair_of_texts(tokenizer, pairs, max_length):
    queries, products = zip(*pairs, strict=True)
    assert_equal(tokenizer, queries, products, max_length)


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(texts(60), st.tuples(texts(60), texts(60))), min_size=1, max_size=3),
    max_length=st.integers(8, 60),
)
def test_a_pair_is_the_same_whether_its_texts_were_tokenised_whole_or_not(tokenizer, pairs, max_length):
    queries, products = zip(*pairs, strict=True)
    whole, first = (assembled(tokenizer, queries, products, max_length, most) for most in (None, max_length))
    assert {name: array.tolist() for name, array in whole.items()} == {
        name: array.tolist() for name, array in first.items()
    }


@pytest.mark.parametrize("max_length", [8, 9, 10, 11, 32, 33, 64, 512])
def test_every_way_of_cutting(tokenizer, max_length):
    long, short = " ".join(WORDS * 3), "red shoes"
    queries = [long, long, short, short, "", "", long, short]
    products = [[long, long], [short, ""], [long, ""], [short, short], ["", ""], ["", long], ["", ""], ["", ""]]
    assert_equal(tokenizer, queries, products, max_length)


def test_a_pair_is_cut_to_every_length_as_the_library_cuts_it(tokenizer):
    query, product = " ".join(WORDS), [" ".join(WORDS[::-1]), "red", ""]
    whole = int(assembled(tokenizer, [query], [product], 10_000)["attention_mask"].sum())
    for max_length in range(8, whole + 2):
        assert_equal(tokenizer, [query, "red"], [product, product], max_length)


@settings(deadline=None)
@given(first=st.integers(0, 50), second=st.integers(0, 50), room=st.integers(0, 60))
def test_cutting_keeps_what_fits_and_fills_the_room(first, second, room):
    kept = truncated_lengths(first, second, room)
    assert kept[0] <= first
    assert kept[1] <= second
    assert sum(kept) == min(first + second, room)


def test_of_two_texts_that_each_fill_the_room_the_second_gets_the_odd_token():
    assert truncated_lengths(60, 50, 5) == truncated_lengths(5, 6, 5) == truncated_lengths(50, 60, 5) == (2, 3)
    assert truncated_lengths(60, 5, 6) == (3, 3)
    assert truncated_lengths(60, 4, 5) == (3, 2)


LONG_TEXTS = st.lists(
    st.sampled_from(
        [*WORDS, "x" * 700, "赤い靴レディース" * 60, "e" + "\u0301" * 40, "\u0600", "\u3099", "ﾞ", "<mask>", "＜mask＞"]
    )
    | st.text(st.characters(codec="utf-8"), max_size=6),
    max_size=400,
).map(lambda words: clean_text(" ".join(words)))


@settings(max_examples=150, deadline=None)
@given(written=st.lists(LONG_TEXTS, min_size=1, max_size=3), most=st.integers(1, 60))
def test_the_first_tokens_of_a_long_text_are_those_of_the_whole(tokenizer, written, most):
    whole, first = tokenizer.encode(written), tokenizer.encode(written, most)
    assert [first[row].tolist() for row in range(len(written))] == [
        whole[row][:most].tolist() for row in range(len(written))
    ]
    documents, cut = (tokenizer.encode_documents([written, written[::-1]], cut)[0].tolist() for cut in (None, most))
    assert cut == documents[:most]


def test_no_more_of_a_long_text_is_tokenised_than_is_needed(tokenizer, monkeypatch):
    read, ids = [], tokenizer._ids
    monkeypatch.setattr(tokenizer, "_ids", lambda texts: read.extend(map(len, texts)) or ids(texts))
    tokenizer.encode(["red shoes " * 5_000] * 3, 64)
    assert read == [8 * 64 + 1] * 3


def test_the_words_of_a_tokenizer_that_does_not_split_at_spaces_are_read_whole(tokenizer):
    whole = Tokenizer.from_str(tokenizer.tokenizer.to_str())
    whole.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    assert PairTokenizer(whole).beginning("red shoes", 1) == "red shoes"
    assert tokenizer.beginning("red shoes", 1) == "red"


@settings(deadline=None)
@given(st.text(max_size=50), st.integers(0, 2000), st.sampled_from(["<b>x</b> ", "y", "a &amp; b "]))
def test_what_is_read_of_a_text_does_not_depend_on_when_it_was_cleaned(text, times, more):
    raw = text + more * (times * 20)
    read = readable(raw)
    assert read == readable(clean_text(raw)) == readable(read)
    assert len(read) <= MOST_CHARACTERS
    assert all(len(word) <= MOST_OF_A_WORD for word in read.split(" "))


@pytest.mark.parametrize(
    "text", ["a{}b", " {} ", "{}", "{0}{0}", "red{} shoes", "<{}", "{}>"], ids=lambda text: repr(text)
)
@pytest.mark.parametrize("wide", [False, True], ids=["plain", "full-width"])
def test_special_tokens_written_in_a_text_are_not_obeyed(tokenizer, text, wide):
    special = [token for family in SPECIALS.values() for token in family]
    forms = ["".join(chr(ord(char) + 0xFEE0) for char in token) if wide else token for token in special]
    encoded = tokenizer.encode([text.format(form) for form in forms])
    names = {tokenizer.tokenizer.id_to_token(int(token)) for row in range(len(forms)) for token in encoded[row]}
    assert not names & (set(special) - {"<unk>", "[UNK]"})


def test_a_tokenizer_that_does_not_join_texts_is_refused():
    alone = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    with pytest.raises(UserError, match="does not separate two texts with special tokens"):
        PairTokenizer(alone)


def test_the_fingerprint_tells_tokenizers_apart_and_survives_saving(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = PairTokenizer.load(tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode(WORDS).to_arrow() == tokenizer.encode(WORDS).to_arrow()
    assert PairTokenizer(train_unigram(["other words altogether"] * 50, 60)).fingerprint != tokenizer.fingerprint


def test_training_a_tokenizer_again_gives_the_same_one():
    assert len({PairTokenizer(train_unigram(corpus(), 200)).fingerprint for _ in range(5)}) == 1


def test_a_missing_or_damaged_tokenizer_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no tokenizer\.json"):
        PairTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(UserError, match=r"tokenizer\.json: not a readable tokenizer"):
        PairTokenizer.load(tmp_path)
