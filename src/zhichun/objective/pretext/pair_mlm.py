"""Masked language model on pairs: a product and a query that it was judged with, as fine-tuning reads them.

Equation   as `pretext.mlm`, on ``query </s></s> product`` cut to the encoder's length, not packed
Reference  the team GraphMIRAcles at the same contest, who gained 0.003 nDCG by it; not in the paper
Our number no gain measured: no table of ours has it
Cost       one pass of the encoder over a row for each product that has a query, padded to the longest
Traps      queries come from training judgements alone, or validation would be read beforehand; labels are not looked
           at, so the pairs are not all relevant. It has a transform and bias of its own beside those of `mlm`. Where
           query and product are read apart (`model.interaction`), the query's tokens alone are masked: the product's
           never see it

A product without a judged query gives none; one of several queries is drawn again in every epoch.

Legend: ``B`` pairs, ``T`` tokens, ``N`` hidden places.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from zhichun.data.feature_store import CatalogueTexts
from zhichun.objective.pretext import task
from zhichun.objective.pretext.mlm import Masked, hide
from zhichun.text.pairs import SECOND_START, Arrays, ProductTexts, TextReader


@dataclass(frozen=True, kw_only=True)
class PairMLM(Masked):
    """Masked language model on judged training queries with their products."""

    name: ClassVar[str] = "pair_mlm"

    def examples(self, texts: ProductTexts, catalogue: CatalogueTexts, reader: TextReader, draw: task.Draw) -> Arrays:
        """Make a row of each product that has a query; ``masked`` and ``target`` ``[N]`` as `MLM.examples` has them."""
        queries = catalogue.queries(texts.rows)
        with_query = [place for place, found in enumerate(queries) if found]
        generators = [draw.generator(self.name, int(texts.rows[place])) for place in with_query]
        chosen = [
            queries[place][int(random.integers(len(queries[place])))]
            for place, random in zip(with_query, generators, strict=True)
        ]
        arrays = reader.pairs(reader.tokens(chosen), reader.documents(texts.at(with_query)))
        ids_BT = arrays["input_ids"]
        lengths = arrays.get(SECOND_START, arrays["attention_mask"].sum(axis=1)).tolist()  # of what may be masked
        hidden_BT = np.zeros(ids_BT.shape, np.bool_)
        target_BT = ids_BT.copy()
        for place, random in enumerate(generators):
            read = slice(lengths[place])
            ids_BT[place, read], hidden_BT[place, read] = hide(
                ids_BT[place, read], random, self.share, self.unit, reader
            )
        masked_N = np.flatnonzero(hidden_BT)
        return {
            **arrays,
            "masked": masked_N,
            "target": target_BT.ravel()[masked_N].astype(np.int64),
            task.ITEMS: np.asarray(len(masked_N), np.int64),
        }
