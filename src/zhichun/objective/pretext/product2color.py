"""Product2Color: predict the color from title and bullets; the table of colors becomes fine-tuning's ID embedding.

Equation   as in `pretext.facet`
Reference  the paper, 3.1
Our number nDCG 0.896 with brands, added to 0.925: `benchmarks/results/tables/table3-shop.md`
Cost       as in `pretext.facet`; there were 47,036 colors in the paper
Traps      sellers spell one color in many ways, and each is a class of its own
"""

from dataclasses import dataclass
from typing import ClassVar

from zhichun.objective.pretext.facet import Facet
from zhichun.text.pairs import ProductTexts, Rows


@dataclass(frozen=True, kw_only=True)
class Product2Color(Facet):
    """Color prediction; the options are those of `Facet`."""

    name: ClassVar[str] = "product2color"
    table: ClassVar[str] = "color"

    def labels(self, texts: ProductTexts) -> Rows:
        """Return the colors."""
        return texts.colors
