"""The one door to everything that scores: a run, an export of one, or an ensemble of them."""

from pathlib import Path

from zhichun.score.engines.engine import AUTO
from zhichun.score.ensemble.ensemble import Ensemble
from zhichun.score.ensemble.ensemble_folder import ensemble_fingerprint, is_ensemble
from zhichun.score.job import fingerprint
from zhichun.score.pair_scorer import PairScorer
from zhichun.score.scorer import Scorer, model_folder


def load_scorer(folder: Path | str, device: str | None = None, engine: str = AUTO) -> PairScorer:
    """Load whatever a folder holds that scores.

    Parameters
    ----------
    folder
        Of `zhichun train`, `zhichun export` or `zhichun ensemble`.
    device, engine
        As for `Scorer.load`; of an ensemble, for every member.

    Raises
    ------
    UserError
        When there is no such folder, or it is not finished or damaged.
    """
    place = Path(folder)
    return Ensemble.load(place, device, engine) if is_ensemble(place) else Scorer.load(place, device, engine)


def fingerprint_of(folder: Path) -> str:
    """Hash of all that decides the answers of what a folder holds.

    Raises
    ------
    UserError
        When there is nothing that scores.
    """
    return ensemble_fingerprint(folder) if is_ensemble(folder) else fingerprint(model_folder(folder))
