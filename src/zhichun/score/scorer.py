"""A trained model as something that scores texts: the same answers as in training, whatever the batch or the order.

The model is a run, which torch computes, or an export of one, which needs neither torch nor transformers.

Legend: ``P`` pairs, ``C`` classes.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Int32, Int64
from zhichun.core.errors import UserError
from zhichun.core.tasks import Floats, Prediction, Task
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.dataset.feature_store import open_pairs
from zhichun.score.engines.engine import AUTO, Engine, predict_with
from zhichun.score.ensemble.ensemble_folder import is_ensemble
from zhichun.score.export.export_folder import is_export
from zhichun.score.feature_cache import MOST_BYTES, CachingFeaturizer
from zhichun.score.given import Columns, Products, columns_of, query_of
from zhichun.score.pair_scorer import (
    Progress,
    Reading,
    Stage,
    counted,
)
from zhichun.score.token_batches import Rows
from zhichun.text.document import country_index
from zhichun.text.features import Featurizer
from zhichun.text.pairs import Pairs
from zhichun.text.tokenizer import PairTokenizer

if TYPE_CHECKING:
    from zhichun.model.model_folder import TrainedModel

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Scorer:
    """Scores pairs of query and product.

    Parameters
    ----------
    featurizer
        Reads texts.
    max_length
        Tokens that a pair is cut to.
    task
        What the model predicts.
    engine
        Computes the logits; its ``name`` says what with.
    """

    featurizer: Featurizer
    max_length: int
    task: Task
    engine: Engine

    @classmethod
    def load(cls, run: Path | str, device: str | None = None, engine: str = AUTO) -> Self:
        """Load the model of a run folder, a model folder itself, or an export of one.

        Parameters
        ----------
        run
            Folder of `zhichun train`, its ``model/``, or a folder of `zhichun export`.
        device
            Of a run, such as ``cpu`` or ``cuda``; a GPU where there is one, if not given.
        engine
            ``torch`` or ``torch-bf16`` for a run; ``onnx``, ``onnx-int8``, ``openvino``, ``openvino-bf16`` or
            ``openvino-int8`` for an export that has it. ``auto`` is fp32 for a run on a processor, bf16 on
            a GPU that has units for it, and for an export the fastest safe one on this processor by rule
            (`scoring.exported.choose`); ``measure`` tries an export's all.

        Raises
        ------
        UserError
            When there is no such folder, its training is not finished, it is damaged, or it has no such engine.
        """
        folder = Path(run)
        if is_export(folder):
            from zhichun.score.export.exported import load_export

            config, featurizer, chosen = load_export(folder, engine, device)
            return cls(featurizer, config.max_length, config.task_of, chosen)
        from zhichun.score.engines.torch_engine import load_run

        trained, network = load_run(model_folder(folder), device, engine)
        return cls(trained.featurizer, trained.settings.max_length, trained.task, network)

    @classmethod
    def of(cls, trained: "TrainedModel") -> Self:
        """Take a model that is in memory, on the device where it is."""
        from zhichun.score.engines.torch_engine import TorchEngine

        return cls(trained.featurizer, trained.settings.max_length, trained.task, TorchEngine.of(trained.model.eval()))

    def remembering(self, most_bytes: int = MOST_BYTES) -> Self:
        """Give a scorer that reads a product once, as long as the features of all fit into so many bytes."""
        return replace(self, featurizer=CachingFeaturizer.of(self.featurizer, most_bytes))

    @property
    def engine_name(self) -> str:
        """What computes."""
        return self.engine.name

    @property
    def lookahead(self) -> int:
        """As the engine's."""
        return self.engine.lookahead

    @property
    def tokenizer(self) -> PairTokenizer:
        """What cuts texts into tokens."""
        return self.featurizer.tokenizer

    def logits(self, pairs: Pairs, rows: Rows, *, progress: Progress | None = None) -> Floats:
        """Score pairs whose features are there already; gives the logits of ``rows``, ``[P, C]``, in their order."""
        return predict_with(self.engine, pairs, rows, progress=progress)

    def predict(self, pairs: Pairs, rows: Rows, *, progress: Progress | None = None) -> Prediction:
        """Say what the logits of ``rows`` mean."""
        return self.task.predict(self.logits(pairs, rows, progress=progress))

    def score(self, query: str, products: Products, locale: str | None = None) -> Prediction:
        """Score products for one query, as files and requests are scored.

        Parameters
        ----------
        query
            The query.
        products
            Texts (taken as titles), or mappings with ``title``, ``brand``, ``color``, ``bullets``, ``description`` or
            the catalogue's own column names; ``locale`` or ``product_locale`` in one goes before the argument. They
            come in a list, an array, a series or a data frame; a lone text or mapping is one product. A gap (``None``,
            ``NaN``) is a product, or a field, without a text; a number is its digits.
        locale
            Locale of query and products, however it is written (``US``, ``en-US``); ``us`` if not given. The model
            knows ``us``, ``es`` and ``jp`` apart; all others are one to it.

        Returns
        -------
        Prediction
            ``score`` to rank by, ``[P]``, ``probabilities`` ``[P, C]`` and ``labels``, in the order of ``products``.

        Raises
        ------
        UserError
            For an empty query, and for a product with a field that is unknown or holds no text.
        """
        columns, locales = columns_of(products, locale)
        return self.score_pairs([query_of(query)] * len(locales), columns, locales)

    def score_pairs(
        self, queries: Sequence[str], products: Columns, locales: Sequence[str], *, progress: Progress | None = None
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
        return self.reading(queries, products, locales)(progress)

    def reading(self, queries: Sequence[str], products: Columns, locales: Sequence[str]) -> Reading:
        """Read the texts of P pairs now, and give what scores them; see `PairScorer.reading`."""
        pairs = self.read(queries, products, locales)
        return lambda progress=None: self.predict(pairs, np.arange(len(pairs)), progress=progress)

    def score_counted(
        self, queries: Sequence[str], products: Columns, locales: Sequence[str]
    ) -> tuple[Prediction, Int64]:
        """Score P pairs, and count the tokens that are read of each, ``[P]``."""
        pairs = self.read(queries, products, locales)
        return self.predict(pairs, np.arange(len(pairs))), pairs.lengths

    def score_examples(self, dataset: Dataset, rows: Rows, *, stages: Stage | None = None) -> Prediction:
        """Score pairs of a dataset folder; see `PairScorer.score_examples`."""
        pairs = self.read_examples(dataset, stages)
        return self.predict(pairs, rows, progress=counted(stages, "score", len(rows)))

    def read_examples(self, dataset: Dataset, stages: Stage | None = None) -> Pairs:
        """Read all pairs of a dataset folder, which keeps what was read."""
        return open_pairs(dataset, self.featurizer, self.max_length, stages)

    def read(self, queries: Sequence[str], products: Columns, locales: Sequence[str]) -> Pairs:
        """Read the texts of P pairs; a query or product that comes more than once is read once."""
        given = [products.get(name) or [None] * len(queries) for name in schema.TEXT_COLUMNS]
        distinct_queries, query_row_P = _distinct(queries)
        distinct_products, product_row_P = _distinct(list(zip(*given, strict=True)))
        featurizer = self.featurizer
        texts = list(zip(*distinct_products, strict=True)) or [()] * len(schema.TEXT_COLUMNS)
        read = featurizer.queries(distinct_queries)
        # A pair is cut longest first: which of two long texts is the longer must still show.
        most = max(self.max_length, 1 + int(read.tokens.lengths.max(initial=0)))
        return Pairs(
            queries=read,
            products=featurizer.products(dict(zip(schema.TEXT_COLUMNS, texts, strict=True)), most),
            query_row_P=query_row_P,
            product_row_P=product_row_P,
            country_P=np.fromiter(map(country_index, locales), np.int32, len(locales)),
            layout=featurizer.tokenizer.layout,
            pad_id=featurizer.tokenizer.pad_id,
            max_length=self.max_length,
        )


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
    if is_ensemble(run):
        raise UserError("is an ensemble, and one run is needed here.", file=run, remedy="Name one of its members.")
    if (run / "recipe.json").is_file():
        raise UserError("the training is not finished.", file=run, remedy="Go on with: zhichun train … --resume")
    return run


def _distinct(values: Sequence[T]) -> tuple[list[T], Int32]:
    places: dict[T, int] = {}
    rows = np.fromiter((places.setdefault(value, len(places)) for value in values), np.int32, len(values))
    return list(places), rows
