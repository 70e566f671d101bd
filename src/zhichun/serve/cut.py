"""Documents cut to a number of tokens, as Cohere's ``max_tokens_per_doc`` asks for."""

from collections.abc import Sequence

from tokenizers import Tokenizer

from zhichun.scoring.pair_scorer import PairScorer, Product
from zhichun.text.document import COLUMN_OF


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
                offsets = tokenizer.encode(text, add_special_tokens=False).offsets
                kept[name] = text[: offsets[room - 1][1]] if 0 < room < len(offsets) else text if room > 0 else None
                room -= len(offsets)
    return kept
