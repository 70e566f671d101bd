"""An ablation: a table whose rows are one recipe with something changed in each."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from zhichun.core import schema
from zhichun.core.errors import UserError, suggest
from zhichun.metrics.figures import CALIBRATION, RANKING

MLM_LOSS: Final = "mlm_loss"
# Measured query by query, so that two rows can be compared on the same queries; the others only seed by seed.
PAIRED: Final = ("micro_f1", *(metric.name for metric in RANKING))
METRICS: Final = (
    *PAIRED,
    "macro_f1",
    *(f"f1.{label}" for label in schema.LABELS),
    *(metric.name for metric in CALIBRATION),
    MLM_LOSS,
)
_SETTING: Final = re.compile(r"[\w.]+ *=")


@dataclass(frozen=True, kw_only=True)
class Dropping:
    """Training on fewer judgements: those that an audit doubts most are left out.

    Parameters
    ----------
    share
        Of the judged training pairs, what is left out.
    settings
        What is set on top of the base recipe for the models that are asked; they must tell the four labels apart.
    """

    share: float = 0.04
    settings: tuple[str, ...] = ("task=esci",)

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UserError(f"{self.share} of the judgements cannot be dropped.", remedy="Give a share, such as 0.04.")
        check_settings(self.settings, "dropping")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: what is changed, and what the paper has for it.

    Parameters
    ----------
    name
        What the row is called; its runs lie in the folder `folder`.
    settings
        What is set on top of the base recipe, such as ``objective.loss=Poly1``; whole, not on top of the row above.
    pretraining
        What is set on top of the base pre-training recipe, whose encoder the row then starts from; ``None`` is a row
        without pre-training.
    dropping
        Which judgements are left out of its training; ``None`` leaves out none.
    paper
        The paper's figure of a metric, as a share (0.7508, not 75.08).
    paper_difference
        The paper's difference to the row that this one is compared with, where it reports only that.

    Raises
    ------
    UserError
        For a setting that is not KEY=VALUE or sets the seed, or a figure of an unknown metric.
    """

    name: str
    settings: tuple[str, ...] = ()
    pretraining: tuple[str, ...] | None = None
    dropping: Dropping | None = None
    paper: Mapping[str, float] = field(default_factory=dict)
    paper_difference: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings((*self.settings, *(self.pretraining or ())), f"row {self.name!r}")
        for metric in (*self.paper, *self.paper_difference):
            check_metric(metric)
        if not self.folder:
            raise UserError(f"a row cannot be called {self.name!r}.", remedy="Use letters or digits.")

    @property
    def folder(self) -> str:
        """The name as a folder's name: lower case, what is no letter or digit is a hyphen."""
        return re.sub(r"[\W_]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A table: rows that are run with several seeds each and compared.

    Parameters
    ----------
    name
        Title of the table.
    caption
        What it shows, in a sentence or two.
    metrics
        Figures that it shows, of `METRICS`; each row has those of its task.
    rows
        The rows, in order.
    compared_with
        What a row's difference is to, among the rows of the same task: the ``first``, or for a table that adds one
        thing after another the one ``above``.

    Raises
    ------
    UserError
        For no row at all, two rows of one name, or an unknown metric.
    """

    name: str
    caption: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    compared_with: Literal["first", "above"] = "first"

    def __post_init__(self) -> None:
        for metric in self.metrics:
            check_metric(metric)
        folders = [row.folder for row in self.rows]
        twice = {row.name for row in self.rows if folders.count(row.folder) > 1}
        if twice:
            raise UserError(f"{self.name}: rows share a name: {', '.join(sorted(twice))}.", remedy="Rename one.")
        if not self.rows or not self.metrics:
            raise UserError(f"{self.name} has no {'metric' if self.rows else 'row'}.", remedy="Give it one.")

    def row(self, name: str) -> Row:
        """Find a row by its name or its folder's.

        Raises
        ------
        UserError
            When there is none.
        """
        for row in self.rows:
            if name in (row.name, row.folder):
                return row
        raise UserError(f"{self.name} has no row {name!r}.", remedy=suggest(name, [row.name for row in self.rows]))


def check_metric(name: str) -> None:
    """Refuse the name of a metric that a table cannot show."""
    if name not in METRICS:
        raise UserError(f"there is no metric {name!r}.", remedy=suggest(name, METRICS))


def check_settings(settings: Sequence[str], where: str) -> None:
    """Refuse settings that are none, and such as choose the seed, which is the table's to choose."""
    for setting in settings:
        if not _SETTING.match(setting):
            raise UserError(f"{where}: {setting!r} is no setting.", remedy="Write KEY=VALUE.")
        if setting.partition("=")[0].strip() == "train.seed":
            raise UserError(f"{where}: {setting} would give all runs one seed.", remedy="Use --seeds.")
