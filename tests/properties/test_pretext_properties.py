"""What holds of spans and of pretext examples for any text."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zhichun.core import schema
from zhichun.objective.pretext import MLM, Contrastive, Product2Query
from zhichun.objective.pretext.mlm import frame
from zhichun.objective.pretext.task import Draw, SpanLengths, cut, draw_spans, repeat_words, without, word_of_token
from zhichun.text.pairs import ProductTexts

SEEDS = st.integers(0, 2**32 - 1)
LENGTHS = st.builds(
    SpanLengths,
    mean=st.floats(0.1, 30),
    shortest=st.integers(1, 8),
    longest=st.integers(12, 20),
    longest_of_two=st.integers(8, 12),
)
TEXTS = st.text(st.sampled_from("abc é-靴ラ "), max_size=40).map(lambda text: " ".join(text.split()))
SPECIAL = np.asarray([0, 1])


@settings(deadline=None)
@given(SEEDS, LENGTHS, st.integers(0, 100))
def test_spans_lie_in_the_text_in_order_apart_and_within_their_bounds(seed, lengths, more):
    size = lengths.shortest + more
    spans = draw_spans(np.random.default_rng(seed), size, lengths)
    assert len(spans) in (1, 2)
    assert spans[0][0] >= 0
    assert spans[-1][1] <= size
    assert all(end - start >= lengths.shortest for start, end in spans)
    if len(spans) == 2:
        assert spans[0][1] < spans[1][0]
        assert all(end - start <= lengths.longest_of_two for start, end in spans)
    else:
        assert spans[0][1] - spans[0][0] <= max(lengths.longest, 2 * lengths.longest_of_two)


@settings(deadline=None)
@given(SEEDS, TEXTS.filter(lambda text: len(text) >= 4))
def test_what_is_cut_and_what_remains_are_together_the_text(seed, text):
    spans = draw_spans(np.random.default_rng(seed), len(text), SpanLengths(mean=8, shortest=4))
    parts = cut(text, spans), without(text, spans)
    assert sorted("".join(parts).replace(" ", "")) == sorted(text.replace(" ", ""))
    assert all(part == " ".join(part.split()) for part in parts)


@settings(deadline=None)
@given(SEEDS, st.lists(st.booleans(), max_size=40), st.floats(0.01, 1))
def test_a_text_with_repeated_words_has_whole_words_twice_in_a_row_and_no_special_token(seed, starts, share):
    starts_V, tokens = np.asarray(starts, np.bool_), np.arange(len(starts), dtype=np.int32)
    words = word_of_token(tokens, starts_V, SPECIAL)
    rest, again = repeat_words(tokens, np.random.default_rng(seed), share, starts_V, SPECIAL).tolist(), []
    for number in np.unique(words):
        word = tokens[words == number].tolist()
        assert rest[: len(word)] == word
        rest = rest[len(word) :]
        if word == rest[: len(word)]:
            rest = rest[len(word) :]
            again.append(word)
    assert not rest
    assert not {0, 1} & {token for word in again for token in word}
    ordinary = len(np.unique(words[~np.isin(tokens, SPECIAL)]))
    assert min(1, ordinary) <= len(again) <= max(min(1, ordinary), int(share * ordinary))


@st.composite
def products(draw):
    count = draw(st.integers(1, 5))
    columns = {name: draw(st.lists(TEXTS, min_size=count, max_size=count)) for name in schema.TEXT_COLUMNS}
    locales = draw(st.lists(st.sampled_from(["us", "es", "jp", "fr"]), min_size=count, max_size=count))
    nothing = np.zeros(count, np.int64)
    return ProductTexts(np.arange(count), locales, columns, nothing, nothing)


class Shop:
    """The products that were made, as a catalogue."""

    def __init__(self, texts):
        self.texts = texts

    def take(self, rows):
        return self.texts.at(rows.tolist())

    def of_locale(self, locale):
        return np.flatnonzero(np.asarray(self.texts.locales) == locale)


@settings(deadline=None)
@given(products(), SEEDS)
def test_packing_keeps_every_token_in_its_place(reader, texts, seed):
    arrays = MLM(share=0.5).examples(texts, Shop(texts), reader, Draw(seed, 0))
    ids_BT = arrays["input_ids"].copy()
    ids_BT.reshape(-1)[arrays["masked"]] = arrays["target"]
    before, specials = frame(reader)
    lengths = arrays["attention_mask"].sum(axis=1) - specials
    packed = [ids[before : before + length] for ids, length in zip(ids_BT, lengths, strict=True)]
    documents = zip(reader.tokens(texts.locales), reader.documents(texts), strict=True)
    expected = [tokens for document in documents for tokens in document]
    assert np.concatenate(packed).tolist() == np.concatenate(expected).tolist()


@settings(deadline=None)
@given(products(), SEEDS)
def test_true_queries_are_of_the_product_and_false_ones_never(reader, texts, seed):
    made = []

    class Recorder:
        def tokens(self, queries):
            made.extend(queries)
            return reader.tokens(queries)

        def documents(self, products):
            return list(zip(products.rows.tolist(), reader.documents(products), strict=True))

        def pairs(self, first, second):
            return {"row": np.asarray([row for row, _ in second], np.int64)}

    arrays = Product2Query().examples(texts, Shop(texts), Recorder(), Draw(seed, 0))
    assert len(made) == len(arrays["row"]) == len(arrays["label"]) == int(arrays["items"])
    for query, row, label in zip(made, arrays["row"].tolist(), arrays["label"].tolist(), strict=True):
        fields = [texts.columns[name][row] for name in (schema.TITLE, schema.BRAND, schema.COLOR)]
        text = " ".join(filter(None, fields)).casefold()
        assert fields[0]
        if label:
            assert all(part in text for part in query.casefold().split())
        else:
            assert query.casefold() not in text


@settings(deadline=None)
@given(products(), SEEDS)
def test_the_two_readings_of_a_text_hold_the_same_pieces(reader, texts, seed):
    arrays = Contrastive(repetition=0.5).examples(texts, Shop(texts), reader, Draw(seed, 0))
    count = len(arrays["row"])
    assert len(arrays["input_ids"]) == 2 * count == 2 * int(arrays["items"])
    for one, other in zip(arrays["input_ids"][:count], arrays["input_ids"][count:], strict=True):
        assert set(other.tolist()) <= set(one.tolist()) | {reader.tokenizer.pad_id}
