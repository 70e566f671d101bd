"""A trained model as something that scores texts: the same scores as in training, whatever the batch or the order.

Scoring has two halves: `read` turns texts into pairs of features, `predict` gives the model's prediction for them. A
run, which torch computes, and an export, which needs neither torch nor transformers, are a `Scorer`; several of them
together are an `Ensemble` or, under a second stage, a `Stack`, with the same members. All else is a function of these:
rank, score a file, evaluate, serve.

Legend: ``P`` pairs, ``C`` classes.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar

import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Int32, Int64
from zhichun.core.storage import local
from zhichun.core.tasks import TASKS, Prediction, Task
from zhichun.score.engine import AUTO, Engine, Progress, predict_with
from zhichun.score.export.export_folder import is_export
from zhichun.score.folders import is_ensemble, is_stack, model_folder
from zhichun.score.given import Products, columns_of, query_of
from zhichun.score.index.store import is_begun
from zhichun.text.features import MOST_BYTES, CachingFeaturizer, Featurizer
from zhichun.text.pairs import Columns, Pairs, PairTexts, country_index
from zhichun.text.tokenizer import PairTokenizer

if TYPE_CHECKING:
    from zhichun.score.ensemble import Ensemble
    from zhichun.score.index.scorer import IndexScorer
    from zhichun.score.stacked import Stack

SECONDS_TO_MEASURE: Final = 0.5  # of each engine
S = TypeVar("S", bound="Scorer")
T = TypeVar("T", bound=Hashable)
R = TypeVar("R")


class Scores(Protocol[R]):
    """What runs, exports and ensembles have in common; ``R`` is what they make of texts, and predict from."""

    @property
    def task(self) -> Task:
        """What is predicted."""

    @property
    def engine_name(self) -> str:
        """The engine, for users."""

    @property
    def max_length(self) -> int:
        """Tokens that a pair is cut to; of an ensemble, by the member that reads most."""

    @property
    def tokenizer(self) -> PairTokenizer:
        """What cuts texts into tokens; of an ensemble, that of its first member."""

    @property
    def lookahead(self) -> int:
        """Chunks of a file to read ahead while one is scored; see `Engine.lookahead`."""

    @property
    def reads_lists(self) -> bool:
        """Whether a pair's score depends on the other products of its query; of an ensemble, in any member."""

    @property
    def own(self) -> Sequence[str]:
        """The user's own columns of products that it reads, beside texts."""

    def remembering(self) -> Self:
        """Return a scorer that reads a product once and remembers it, in bounded memory."""

    def read(self, texts: PairTexts) -> R:
        """Read the texts of P pairs; see `Scorer.read`."""

    def predict(self, pairs: R, rows: Int64 | None = None, *, progress: Progress | None = None) -> Prediction:
        """Predict pairs that were read; see `Scorer.predict`."""

    def score(self, query: str, products: Products, locale: str | None = None) -> Prediction:
        """Score products for one query; see `ScoresProducts.score`."""


PairScorer = Scores[Any]


class ScoresProducts:
    """The way to score the products of one query, for whatever reads and predicts."""

    @property
    def own(self) -> Sequence[str]:
        """None, unless a class says otherwise."""
        return ()

    def score(self: PairScorer, query: str, products: Products, locale: str | None = None) -> Prediction:
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
        columns, locales = columns_of(products, locale, self.own)
        return self.predict(self.read(PairTexts([query_of(query)] * len(locales), columns, locales)))


@dataclass(frozen=True)
class OneModel(ScoresProducts):
    """One model that scores.

    Parameters
    ----------
    featurizer
        Reads texts.
    max_length
        Tokens that a pair is cut to.
    task
        What the model predicts.
    engine
        Computes the logits.
    """

    featurizer: Featurizer
    max_length: int
    task: Task
    engine: Engine

    @property
    def engine_name(self) -> str:
        """Name of the engine."""
        return self.engine.name

    @property
    def lookahead(self) -> int:
        """As the engine's."""
        return self.engine.lookahead

    @property
    def reads_lists(self) -> bool:
        """As the engine's."""
        return self.engine.reads_lists

    @property
    def tokenizer(self) -> PairTokenizer:
        """What cuts texts into tokens."""
        return self.featurizer.tokenizer


@dataclass(frozen=True)
class Scorer(OneModel):
    """Scores pairs of query and product."""

    @classmethod
    def load(cls, run: Path | str, device: str | None = None, engine: str = AUTO) -> Self:
        """Load the model of a run folder, a model folder itself, or an export of one.

        Parameters
        ----------
        run
            Folder of `zhichun train`, its ``model/``, a folder of `zhichun export`, or a name on the hub, `USER/NAME`.
        device
            Of a run, such as ``cpu`` or ``cuda``; a GPU where there is one, if not given.
        engine
            ``torch`` or ``torch-bf16`` for a run; ``onnx``, ``onnx-int8``, ``openvino``, ``openvino-bf16`` or
            ``openvino-int8`` for an export that has it. ``auto`` is fp32 for a run on a CPU, bf16 on a GPU that has it
            in hardware, and for an export the fastest safe one on this CPU by rule (`export.exported.choose`);
            ``measure`` tries an export's all.

        Raises
        ------
        UserError
            When there is no such folder, its training is not finished, it is damaged, or it has no such engine.
        """
        folder = local(run)
        if is_export(folder):
            from zhichun.score.export.exported import load_export

            config, featurizer, engines = load_export(folder, engine, device)
            task = TASKS[config.task].calibrated_in(folder)
            scorers = [cls(featurizer, config.max_length, task, each) for each in engines]
            return scorers[0] if len(scorers) == 1 else _fastest(scorers)
        from zhichun.score.torch_engine import load_run

        trained, network = load_run(model_folder(folder), device, engine)
        return cls(trained.featurizer, trained.settings.max_length, trained.task, network)

    def remembering(self, most_bytes: int = MOST_BYTES) -> Self:
        """Return a scorer that reads a product once, as long as the features of all fit into so many bytes."""
        return replace(self, featurizer=CachingFeaturizer.of(self.featurizer, most_bytes))

    def read(self, texts: PairTexts) -> Pairs:
        """Read the texts of P pairs; a query or product that comes more than once is read once."""
        featurizer, (queries, products, locales, _) = self.featurizer, texts
        distinct_queries, query_row_P = distinct(queries)
        columns, product_row_P = distinct_products(products, len(queries))
        return Pairs(
            queries=featurizer.queries(distinct_queries, self.max_length),
            products=featurizer.products(columns, self.max_length),
            query_row_P=query_row_P,
            product_row_P=product_row_P,
            country_P=np.fromiter(map(country_index, locales), np.int32, len(locales)),
            layout=featurizer.tokenizer.layout,
            pad_id=featurizer.tokenizer.pad_id,
            max_length=self.max_length,
            list_P=distinct(texts.of_lists)[1] if self.reads_lists else None,
        )

    def predict(self, pairs: Pairs, rows: Int64 | None = None, *, progress: Progress | None = None) -> Prediction:
        """Predict pairs that were read.

        Parameters
        ----------
        pairs
            What `read` gives, or `zhichun.data.feature_store.open_pairs`.
        rows
            Which of them, in the order of the answer; all if not given.
        progress
            Called with the number of pairs that each batch adds.
        """
        chosen = np.arange(len(pairs)) if rows is None else rows
        return self.task.predict(predict_with(self.engine, pairs, chosen, progress=progress))


def load_scorer(
    folder: Path | str, device: str | None = None, engine: str = AUTO, *, products: Path | None = None
) -> "Scorer | Ensemble | Stack | IndexScorer":
    """Load whatever a folder holds that scores: a run, an export of one, an ensemble or a stack of them.

    Parameters
    ----------
    folder
        Of `zhichun train`, `zhichun export`, `zhichun ensemble` or `zhichun stack`; or a name on the hub, `USER/NAME`.
    device, engine
        As for `Scorer.load`; of an ensemble or a stack, for every member.
    products
        The products to score: where it is an index of `zhichun index`, states are taken from there.

    Raises
    ------
    UserError
        When there is no such folder, or it is not finished or damaged.
    """
    folder = local(folder)
    index = products if products is not None and is_begun(products) else None
    if is_stack(folder):
        from zhichun.score.stacked import Stack

        return Stack.load(folder, device, engine, index=index)
    if index is not None:
        from zhichun.score.index.scorer import IndexScorer

        return IndexScorer.load(folder, index, device, engine)
    if is_ensemble(folder):
        from zhichun.score.ensemble import Ensemble

        return Ensemble.load(folder, device, engine)
    return Scorer.load(folder, device, engine)


def tokens_read(pairs: Any) -> Int64:
    """Count the tokens of each pair that a `PairScorer` has read, ``[P]``; of an ensemble, by its first member."""
    lengths: Int64 = (pairs[0] if isinstance(pairs, tuple) else pairs).lengths
    return lengths


def _fastest(scorers: Sequence[S]) -> S:
    """Time scorers on made-up texts of half the greatest length."""
    from zhichun.score.plan import made_up_texts, scoring_rate

    def rate(scorer: S) -> float:
        return scoring_rate(scorer.engine, made_up_texts(scorer, scorer.max_length // 2), SECONDS_TO_MEASURE)

    return max(scorers, key=rate)


def distinct(values: Sequence[T]) -> tuple[list[T], Int32]:
    """Return the distinct values, in the order in which they come, and the place there of each value."""
    places: dict[T, int] = {}
    rows = np.fromiter((places.setdefault(value, len(places)) for value in values), np.int32, len(values))
    return list(places), rows


def distinct_products(products: Columns, count: int) -> tuple[dict[str, Sequence[str | None]], Int32]:
    """Return the texts of the distinct products of so many pairs, and the place there of each pair's product."""
    given = [products.get(name) or [None] * count for name in schema.TEXT_COLUMNS]
    found, row_P = distinct(list(zip(*given, strict=True)))
    texts = list(zip(*found, strict=True)) or [()] * len(schema.TEXT_COLUMNS)
    return dict(zip(schema.TEXT_COLUMNS, texts, strict=True)), row_P
