"""Documents cut to a number of tokens, as Cohere's ``max_tokens_per_doc`` asks for."""

from collections.abc import Sequence
from typing import Final

from tokenizers import Tokenizer

from zhichun.score.given import Product
from zhichun.score.pair_scorer import PairScorer
from zhichun.text.document import COLUMN_OF

# About twice as many as most tokens have, of any language.
CHARACTERS_PER_TOKEN: Final = 16


def cut(scorer: PairScorer, products: Sequence[Product], most: int) -> list[Product]:
    """Cut each product to its first tokens, field by field: title, brand, color, bullets, description.

    Parameters
    ----------
    scorer
        Whose tokenizer counts; of an ensemble, that of the first member.
    products
        Texts or mappings.
    most
        Tokens of each product; from the length on that the model reads at all, nothing is cut.
    """
    if most >= scorer.max_length:
        return list(products)
    tokenizer = scorer.tokenizer.tokenizer
    return [_cut({"title": product} if isinstance(product, str) else product, most, tokenizer) for product in products]


def _cut(product: Product, room: int, tokenizer: Tokenizer) -> Product:
    assert not isinstance(product, str)
    kept = dict(product)
    for field, column in COLUMN_OF.items():
        for name in (field, column):
            if text := kept.get(name):
                kept[name], tokens = first_tokens(text, room, tokenizer)
                room -= tokens
    return kept


def first_tokens(text: str, most: int, tokenizer: Tokenizer) -> tuple[str | None, int]:
    """Cut a text to its first tokens; gives it and how many it has, with ``None`` for nothing.

    Only as much of a long text is read as is needed: its cut is looked for in the first half of what was read, where
    what comes after cannot change the tokens any more.
    """
    if most <= 0:
        return None, 0
    size = CHARACTERS_PER_TOKEN * most
    while True:
        ends = [end for _, end in tokenizer.encode(text[:size], add_special_tokens=False).offsets]
        if size >= len(text):
            return (text, len(ends)) if len(ends) <= most else (text[: ends[most - 1]], most)
        if len(ends) > most and ends[most - 1] <= size // 2:
            return text[: ends[most - 1]], most
        size *= 4
