"""Product2Brand: predict the brand from title and bullets; the table of brands becomes fine-tuning's ID embedding.

Equation   as in `pretext.facet`
Reference  the paper, 3.1
Our number nDCG 0.896 with colors, added to 0.925: `benchmarks/results/tables/table3-shop.md`
Cost       as in `pretext.facet`; there were 151,519 brands in the paper
Traps      the title often has the brand, as in the paper; then little more than copying is learnt
"""

from dataclasses import dataclass
from typing import ClassVar

from zhichun.objective.pretext.facet import Facet
from zhichun.text.pairs import ProductTexts, Rows


@dataclass(frozen=True, kw_only=True)
class Product2Brand(Facet):
    """Brand prediction; the options are those of `Facet`."""

    name: ClassVar[str] = "product2brand"
    table: ClassVar[str] = "brand"

    def labels(self, texts: ProductTexts) -> Rows:
        """Return the brands."""
        return texts.brands
