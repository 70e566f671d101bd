"""A trained model as something that scores texts: the same answers as in training, whatever the batch or the order.

Legend: ``P`` pairs, ``C`` classes.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch

from zhichun import schema
from zhichun.data.table import number_text
from zhichun.errors import UserError, suggest
from zhichun.nn.model_folder import TrainedModel
from zhichun.scoring.predict import predict
from zhichun.tasks import Prediction, Task
from zhichun.text.document import COLUMN_OF, country_index
from zhichun.text.pairs import Pairs
from zhichun.text.ragged import Int32

Product = str | Mapping[str, str | None]
T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Scorer:
    """Scores pairs of query and product.

    Parameters
    ----------
    trained
        Network, tokenizer and vocabularies.
    """

    trained: TrainedModel

    @classmethod
    def load(cls, run: Path | str, device: str | None = None) -> Self:
        """Load the model of a run folder, or a model folder itself.

        Parameters
        ----------
        run
            Folder of `zhichun train`, or its ``model/``.
        device
            Such as ``cpu`` or ``cuda``; a GPU where there is one, if not given.

        Raises
        ------
        UserError
            When there is no such folder, its training is not finished, or it is damaged.
        """
        folder = Path(run)
        trained = TrainedModel.load(model_folder(folder))
        trained.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(trained)

    @property
    def task(self) -> Task:
        """What the model predicts."""
        return self.trained.task

    def score(self, query: str, products: Sequence[Product], locale: str = "us") -> Prediction:
        """Score products for one query.

        Parameters
        ----------
        query
            The query.
        products
            Texts (taken as titles), or mappings with ``title``, ``brand``, ``color``, ``bullets``, ``description`` or
            the catalogue's own column names; ``locale`` or ``product_locale`` in one goes before the argument.
        locale
            Locale of query and products.

        Returns
        -------
        Prediction
            ``score`` to rank by, ``[P]``, ``probabilities`` ``[P, C]`` and ``labels``, in the order of ``products``.

        Raises
        ------
        UserError
            For a product with a field that is unknown or holds no text.
        """
        rows = [_as_row(product, locale) for product in products]
        columns = {name: [row[name] for row in rows] for name in schema.TEXT_COLUMNS}
        return self.score_pairs([query] * len(rows), columns, [row[schema.LOCALE] or locale for row in rows])

    def score_pairs(
        self,
        queries: Sequence[str],
        products: Mapping[str, Sequence[str | None]],
        locales: Sequence[str],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> Prediction:
        """Score P pairs; a query or product that comes more than once is read once.

        Parameters
        ----------
        queries
            Query of each pair.
        products
            Texts of each pair's product by the catalogue's column names; a missing column counts as empty.
        locales
            Locale of each pair.
        progress
            Called with the number of pairs that each batch adds.
        """
        given = [products.get(name) or [None] * len(queries) for name in schema.TEXT_COLUMNS]
        distinct_queries, query_row_P = _distinct(queries)
        distinct_products, product_row_P = _distinct(list(zip(*given, strict=True)))
        featurizer = self.trained.featurizer
        texts = list(zip(*distinct_products, strict=True)) or [()] * len(schema.TEXT_COLUMNS)
        pairs = Pairs(
            queries=featurizer.queries(distinct_queries),
            products=featurizer.products(dict(zip(schema.TEXT_COLUMNS, texts, strict=True))),
            query_row_P=query_row_P,
            product_row_P=product_row_P,
            country_P=np.fromiter(map(country_index, locales), np.int32, len(locales)),
            layout=featurizer.tokenizer.layout,
            pad_id=featurizer.tokenizer.pad_id,
            max_length=self.trained.settings.max_length,
        )
        logits_PC = predict(self.trained.model, pairs, np.arange(len(pairs)), progress=progress)
        return self.task.predict(logits_PC)


def model_folder(run: Path) -> Path:
    """Find the model folder of a run.

    Raises
    ------
    UserError
        When there is none.
    """
    if not run.is_dir():
        raise UserError("there is no such folder.", file=run, remedy="Give a run folder made by: zhichun train")
    if (run / "model").is_dir():
        return run / "model"
    if (run / "recipe.json").is_file():
        raise UserError("the training is not finished.", file=run, remedy="Go on with: zhichun train … --resume")
    return run


def _as_row(product: Product, locale: str) -> dict[str, str | None]:
    """Give a product's texts by the catalogue's column names."""
    row: dict[str, str | None] = dict.fromkeys((*schema.TEXT_COLUMNS, schema.LOCALE))
    if isinstance(product, str):
        return {**row, schema.TITLE: product, schema.LOCALE: locale}
    names = {**COLUMN_OF, "locale": schema.LOCALE, "product_id": schema.PRODUCT_ID, "id": schema.PRODUCT_ID}
    known = (*names, *schema.PRODUCT_COLUMNS)
    for name, text in product.items():
        if name not in known:
            raise UserError(f"a product has no field {name!r}.", remedy=suggest(name, known))
        row[names.get(name, name)] = _as_text(name, text)
    return row


def _as_text(name: str, value: Any) -> str | None:
    """Take numbers for what they look like, and NaN, which data frames put into gaps, for nothing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float | np.number):
        return number_text(float(value))
    raise UserError(f"a product's {name!r} is {value!r}.", remedy="Give a text, or None where there is none.")


def _distinct(values: Sequence[T]) -> tuple[list[T], Int32]:
    places: dict[T, int] = {}
    rows = np.fromiter((places.setdefault(value, len(places)) for value in values), np.int32, len(values))
    return list(places), rows
