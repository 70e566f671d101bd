"""Trees and linear model of a second stage, trained on judged pairs with predictions that did not see their queries.

Equation   classes: multinomial log loss; ranker: LambdaMART, ``Σ |ΔnDCG_ij| log(1 + e^{-(r_i - r_j)})`` over pairs of a
           list with different gains; its output becomes a gain by a logistic curve, fitted on folds left out; linear:
           ``Σ -log softmax(x W)_label + λ |W|² / 2``, ``x`` of the encoder's vectors, standardised, cosines tenfold
Reference  Ke et al., 2017, *LightGBM*; Burges, 2010, *From RankNet to LambdaRank to LambdaMART*
Our number `benchmarks/quality_lists.py` measures it
Cost       two LightGBM trainings, and one of the ranker for each fold; seconds for 100,000 pairs. The linear model: a
           second for 3,000 pairs; it reads 30,000 at most
Traps      features must come from models that left out the pair's fold and were not chosen by it. LightGBM ranks
           integer grades: each is a place in the gains `esci`, sorted

Legend: ``P`` pairs, ``M`` probabilities of all runs, ``F`` features.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import lightgbm
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import logsumexp

from zhichun.core import schema
from zhichun.core.arrays import Bools, Doubles, Int64
from zhichun.core.settings import require_range
from zhichun.core.tasks import Floats, gain_vector
from zhichun.score.list_features import Candidates, Corpus
from zhichun.score.similarity import Similarity
from zhichun.score.stacked import SecondStage, as_gain

# Threads, by the number of pairs alone, so that every machine adds in one order; few pairs gain nothing by several.
THREADS, MANY_PAIRS = 4, 50_000
NEWTON_STEPS: Final = 50
# The group of the linear model; it has no features of the trees.
VECTORS: Final = "vectors of query and product"
# λ, and its pairs at most: screened on Chorus and the extract (experiments/LOG.md, 2026-11-27).
PENALTY, MOST_LINEAR = 2000.0, 30_000
LINEAR_STEPS: Final = 200


@dataclass(frozen=True, kw_only=True)
class StackSettings:
    """Settings of the trees.

    Parameters
    ----------
    rounds
        Trees of the ranker, and of each class.
    leaves
        Leaves of a tree at most.
    learning_rate
        Weight of a tree.
    least_pairs
        Pairs in a leaf at least.
    columns
        Share of the features that a tree reads.
    seed
        Of the order of lists and pairs, and of the features that a tree reads.
    """

    rounds: int = 30
    leaves: int = 8
    learning_rate: float = 0.1
    least_pairs: int = 20
    columns: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        require_range(self, "rounds", "least_pairs", "learning_rate", above=0)
        require_range(self, "leaves", least=2)
        require_range(self, "columns", above=0, most=1)
        require_range(self, "seed", least=0, most=2**31 - 1)

    def parameters(self, pairs: int, **more: Any) -> dict[str, Any]:
        """Return what LightGBM is given; the same data and settings give the same trees, bit for bit."""
        return {
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.least_pairs,
            "feature_fraction": self.columns,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": THREADS if pairs > MANY_PAIRS else 1,
            "verbosity": -1,
            **more,
        }


@dataclass(frozen=True, eq=False)
class JudgedCandidates:
    """Judged pairs with the predictions of models that did not see their query.

    Parameters
    ----------
    candidates
        Their texts, with whole lists.
    probabilities_PM
        Four of each run, in the order of the runs.
    labels_P
        As places in `schema.LABELS`.
    folds_P
        The fold of each pair's query.
    weights_P
        Of each pair; one of weight 0 is a list's member and is not learnt from.
    """

    candidates: Candidates
    probabilities_PM: npt.NDArray[np.floating]
    labels_P: Int64
    folds_P: Int64
    weights_P: npt.NDArray[np.floating]

    def select(self, rows: Int64, probabilities_PM: npt.NDArray[np.floating] | None = None) -> "JudgedCandidates":
        """Take whole lists, with other predictions if given."""
        given = self.probabilities_PM if probabilities_PM is None else probabilities_PM
        labels_P, folds_P, weights_P = self.labels_P[rows], self.folds_P[rows], self.weights_P[rows]
        return JudgedCandidates(self.candidates.select(rows), given[rows], labels_P, folds_P, weights_P)


def fit_second_stage(
    corpus: Corpus,
    judged: JudgedCandidates,
    settings: StackSettings | None = None,
    *,
    own: Sequence[str] = (),
    left_out: Collection[str] = (),
    like: SecondStage | None = None,
    similarity: Similarity | None = None,
) -> SecondStage:
    """Train the trees, and the linear model where the candidates have vectors.

    Parameters
    ----------
    corpus
        That the candidates were read with.
    judged
        What to learn from.
    settings
        Of the trees.
    own
        The user's numeric columns, that the candidates were read with.
    left_out
        Groups of features that are not read (`Candidates.groups`), and `VECTORS`.
    like
        One of the same pairs, whose scale of gains and linear model are taken; else both are fitted, the scale fold by
        fold out of fold.
    similarity
        That the candidates were read with, if any.

    Returns
    -------
    SecondStage
        Whose ``predict`` takes candidates, and the probabilities of the models of each fold.
    """
    settings = settings or StackSettings()
    features_PF = judged.candidates.features(judged.probabilities_PM)
    groups = judged.candidates.groups(judged.probabilities_PM.shape[1] // len(schema.LABELS))
    names = [name for group in groups.values() for name in group]
    features_PF[:, [names.index(name) for group in left_out if group != VECTORS for name in groups[group]]] = 0.0
    trees = _Trees(features_PF, names, judged, settings)
    all_P = np.ones(len(judged.labels_P), bool)
    slope, offset = trees.scale() if like is None else (like.slope, like.offset)
    classes, ranking = trees.classes(all_P).model_to_string(), trees.ranking(all_P).model_to_string()
    linear = None
    if VECTORS not in left_out:
        linear = _linear(judged, settings.seed) if like is None else like.linear
    return SecondStage(corpus, tuple(own), classes, ranking, slope, offset, similarity, linear)


@dataclass(frozen=True, eq=False)
class _Trees:
    """What both models are trained on."""

    features_PF: Doubles
    names: list[str]
    judged: JudgedCandidates
    settings: StackSettings

    def classes(self, chosen_P: Bools) -> lightgbm.Booster:
        """Train the classes on some of the pairs."""
        return self._train(chosen_P, self.judged.labels_P, objective="multiclass", num_class=len(schema.LABELS))

    def ranking(self, chosen_P: Bools) -> lightgbm.Booster:
        """Train the ranker on some of the lists, whole."""
        longest = int(np.bincount(self.judged.candidates.list_P).max())
        return self._train(
            chosen_P,
            len(schema.LABELS) - 1 - self.judged.labels_P,
            objective="lambdarank",
            label_gain=sorted(schema.GAINS["esci"].values()),
            lambdarank_truncation_level=longest,
        )

    def scale(self) -> tuple[float, float]:
        """Fit the gain to outputs of rankers that did not see the pair's fold."""
        folds_P = self.judged.folds_P
        if len(np.unique(folds_P)) < 2:
            return 1.0, 0.0
        output_P = np.zeros(len(folds_P))
        for fold in np.unique(folds_P):
            of_fold_P = folds_P == fold
            output_P[of_fold_P] = self.ranking(~of_fold_P).predict(self.features_PF[of_fold_P])
        known_P = self.judged.weights_P > 0
        gain_P = gain_vector()[self.judged.labels_P].astype(np.float64)
        return fit_gain(output_P[known_P], gain_P[known_P])

    def _train(self, chosen_P: Bools, targets_P: Int64, **objective: Any) -> lightgbm.Booster:
        lists_P, weights_P = self.judged.candidates.list_P, self.judged.weights_P
        rows = np.flatnonzero(chosen_P & (weights_P > 0))
        # Lists and the pairs in them in an order of the seed, so that none of either is read off the table.
        random = np.random.Generator(np.random.PCG64(self.settings.seed))
        place_L = random.permutation(int(lists_P.max()) + 1)
        rows = random.permutation(rows)
        rows = rows[np.argsort(place_L[lists_P[rows]], kind="stable")]
        starts = np.flatnonzero(np.diff(lists_P[rows], prepend=-1))
        data = lightgbm.Dataset(
            self.features_PF[rows],
            targets_P[rows],
            weight=weights_P[rows],
            group=np.diff(np.append(starts, len(rows))) if objective["objective"] == "lambdarank" else None,
            feature_name=self.names,
            params={"verbosity": -1},
        )
        return lightgbm.train(self.settings.parameters(len(rows), **objective), data, self.settings.rounds)


def _linear(judged: JudgedCandidates, seed: int) -> Floats | None:
    """Fit the linear model of the classes to the encoder's vectors, where there are any; see the equation above."""
    if judged.candidates.vectors is None:
        return None
    learnt = np.flatnonzero(judged.weights_P > 0)
    chosen = np.sort(np.random.default_rng(seed).permutation(learnt)[:MOST_LINEAR])
    read_PF = judged.candidates.vectors.select(judged.candidates.place_P[chosen]).features()
    mean_F, scale_F = read_PF.mean(axis=0), 1 / (read_PF.std(axis=0) + 1e-6)
    scale_F[:2] *= 10  # cosines say much already
    read_PF = (read_PF - mean_F) * scale_F
    weights_P1 = judged.weights_P[chosen, None]
    targets_PC = np.eye(len(schema.LABELS))[judged.labels_P[chosen]]
    shape = read_PF.shape[1] + 1, targets_PC.shape[1]

    def loss(flat: Doubles) -> tuple[float, Doubles]:
        weights_FC, bias_C = flat.reshape(shape)[:-1], flat.reshape(shape)[-1]
        logits_PC = read_PF @ weights_FC.astype(np.float32) + bias_C
        surprise_PC = logsumexp(logits_PC, axis=1, keepdims=True) - logits_PC
        slope_PC = weights_P1 * (np.exp(-surprise_PC) - targets_PC)
        slope_FC = read_PF.T @ slope_PC.astype(np.float32) + PENALTY * weights_FC
        found = (weights_P1 * targets_PC * surprise_PC).sum() + PENALTY / 2 * (weights_FC**2).sum()
        return found / len(chosen), np.concatenate([slope_FC, slope_PC.sum(axis=0)[None]]).ravel() / len(chosen)

    fitted = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": LINEAR_STEPS})
    weights_FC, bias_C = fitted.x.reshape(shape)[:-1] * scale_F[:, None], fitted.x.reshape(shape)[-1]
    return np.concatenate([weights_FC, (bias_C - mean_F @ weights_FC)[None]]).astype(np.float32)


def fit_gain(output_P: Doubles, gain_P: Doubles) -> tuple[float, float]:
    """Fit a rising logistic curve from outputs to gains, by Newton's steps with a weak prior at no slope."""
    given_P2, found = np.stack([output_P, np.ones_like(output_P)], axis=1), np.zeros(2)
    for _ in range(NEWTON_STEPS):
        made_P = as_gain(output_P, *found)
        slope_2 = given_P2.T @ (made_P - gain_P) + 1e-3 * found
        curve_22 = (given_P2.T * (made_P * (1 - made_P))) @ given_P2 + 1e-3 * np.eye(2)
        found = found - np.linalg.solve(curve_22, slope_2)
    return max(float(found[0]), 1e-3), float(found[1])  # a ranker without use still may not turn lists around
