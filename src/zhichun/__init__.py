"""From a product catalogue and judged pairs to a trained, measured and served relevance model.

The public names are loaded when they are first used, so that what needs no torch does not import it.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "MRR": "zhichun.metrics",
    "Judged": "zhichun.metrics",
    "MacroF1": "zhichun.metrics",
    "MicroF1": "zhichun.metrics",
    "Precision": "zhichun.metrics",
    "Recipe": "zhichun.fit.recipe",
    "Scorer": "zhichun.score.scorer",
    "UserError": "zhichun.core.errors",
    "evaluate": "zhichun.measure.evaluate",
    "export": "zhichun.score.export.export_run",
    "load_recipe": "zhichun.fit.recipe",
    "load_scorer": "zhichun.score.scorer",
    "nDCG": "zhichun.metrics",
    "paired_bootstrap": "zhichun.metrics",
    "prepare": "zhichun.data.prepare.prepare",
    "pretrain": "zhichun.fit.pretrain",
    "rank": "zhichun.score.rank",
    "train": "zhichun.fit.train",
    "write_sample_shop": "zhichun.data.sample_shop",
}

if TYPE_CHECKING:
    from zhichun.core.errors import UserError as UserError
    from zhichun.data.prepare.prepare import prepare as prepare
    from zhichun.data.sample_shop import write_sample_shop as write_sample_shop
    from zhichun.fit.pretrain import pretrain as pretrain
    from zhichun.fit.recipe import Recipe as Recipe
    from zhichun.fit.recipe import load_recipe as load_recipe
    from zhichun.fit.train import train as train
    from zhichun.measure.evaluate import evaluate as evaluate
    from zhichun.metrics import MRR as MRR
    from zhichun.metrics import Judged as Judged
    from zhichun.metrics import MacroF1 as MacroF1
    from zhichun.metrics import MicroF1 as MicroF1
    from zhichun.metrics import Precision as Precision
    from zhichun.metrics import nDCG as nDCG
    from zhichun.metrics import paired_bootstrap as paired_bootstrap
    from zhichun.score.export.export_run import export as export
    from zhichun.score.rank import rank as rank
    from zhichun.score.scorer import Scorer as Scorer
    from zhichun.score.scorer import load_scorer as load_scorer

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zhichun' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
