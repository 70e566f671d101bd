"""The three tasks of the Shopping Queries Dataset, and what a model's outputs mean in each.

Legend: ``P`` pairs, ``C`` outputs of the model, ``L`` labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.core.arrays import Bools, Doubles, Int64
from zhichun.core.errors import UserError
from zhichun.core.settings import read_settings, require_range, write_settings

Floats = npt.NDArray[np.float32]
CALIBRATION_FILE: Final = "calibration.json"
CALIBRATE_AGAIN: Final = "Make it again with: zhichun calibrate RUN"
SUBSTITUTE_INDEX: Final = schema.LABELS.index("S")


TaskName = Literal["esci", "substitute", "gain"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a classifier's logits become, and when a label is given: ``calibration.json`` of a model or an export.

    Parameters
    ----------
    temperature
        What logits are divided by.
    curves
        Of each class, probabilities in ascending order and what each becomes; between two of them the curve is a line.
        None where the temperature is enough.
    least
        Of a class, the lowest probability at which it is given as label; ``None`` where it never is. A class that is
        not named is always given.
    about
        What it was fitted to and the figures, for people.
    """

    temperature: float = 1.0
    curves: tuple[tuple[tuple[float, ...], ...], ...] = ()
    least: dict[str, float | None] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_range(self, "temperature", above=0, remedy=CALIBRATE_AGAIN)
        for curve in self.curves:
            if len(curve) != 2 or len(curve[0]) != len(curve[1]) or not curve[0]:
                raise UserError("a curve is not of two rows that are equally long.", remedy=CALIBRATE_AGAIN)
            # Asked for what is right, since no comparison holds for NaN.
            if not (np.diff(curve).min(initial=0) >= 0 and 0 < curve[1][0] <= curve[1][-1] <= 1):
                raise UserError("a curve falls, or leaves 0 to 1.", remedy=CALIBRATE_AGAIN)
        for name, least in self.least.items():
            if not (least is None or 0 <= least <= 1):
                raise UserError(f"the least probability of {name} is {least}, not 0 to 1.", remedy=CALIBRATE_AGAIN)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read that of a model folder or an export; one that changes nothing where there is none.

        Raises
        ------
        UserError
            When it is damaged.
        """
        path = folder / CALIBRATION_FILE
        return read_settings(cls, path, format=1, remedy=CALIBRATE_AGAIN) if path.is_file() else cls()

    def save(self, folder: Path) -> None:
        """Write it into a model folder or an export; one that changes nothing is no file."""
        if replace(self, about={}) == Calibration():
            (folder / CALIBRATION_FILE).unlink(missing_ok=True)
        else:
            write_settings(self, folder / CALIBRATION_FILE, format=1, kind="zhichun calibrate")

    def probabilities(self, logits_PC: npt.NDArray[Any]) -> Doubles:
        """Turn logits into probabilities."""
        found_PC = softmax(logits_PC, self.temperature)
        if self.curves:
            found_PC = np.stack(
                [np.interp(of_P, xs, ys) for of_P, (xs, ys) in zip(found_PC.T, self.curves, strict=True)], 1
            )
            found_PC /= found_PC.sum(axis=1, keepdims=True)
        return found_PC


@dataclass(frozen=True)
class Task:
    """What is predicted of a pair.

    Parameters
    ----------
    name
        ``esci`` (four classes, task 2), ``substitute`` (two classes, task 3), or ``gain`` (regression, task 1).
    classes
        Names of the classes; empty for the regressor.
    calibration
        Of a classifier, as `zhichun calibrate` found it.
    """

    name: TaskName
    classes: tuple[str, ...]
    calibration: Calibration = field(default=Calibration(), compare=False)

    def __post_init__(self) -> None:
        if len(self.calibration.curves) not in (0, len(self.classes)) or set(self.calibration.least) - {*self.classes}:
            raise UserError(f"the calibration is not of the task {self.name!r}.", remedy=CALIBRATE_AGAIN)

    def calibrated_in(self, folder: Path) -> Self:
        """Return the task with the calibration that lies in a model folder or an export."""
        return replace(self, calibration=Calibration.load(folder))

    @property
    def outputs(self) -> int:
        """Outputs of the model's last layer."""
        return len(self.classes) or 1

    def targets(self, labels_P: Int64) -> Int64 | Floats:
        """Turn E/S/C/I indices into the task's targets: class indices, or gains 1, 0.1, 0.01, 0 for the regressor."""
        if self.name == "esci":
            return labels_P
        if self.name == "substitute":
            return (labels_P == SUBSTITUTE_INDEX).astype(np.int64)
        gains: Floats = gain_vector()[labels_P]
        return gains

    def soft_targets(self, shares_PL: Floats) -> Floats:
        """Turn the shares of judges that chose E, S, C and I into probabilities ``[P, C]``, or into expected gains."""
        if self.name == "esci":
            return shares_PL
        if self.name == "substitute":
            share_P = shares_PL[:, SUBSTITUTE_INDEX]
            return np.stack([1 - share_P, share_P], axis=1)
        gains: Floats = shares_PL @ gain_vector()
        return gains

    def gains(self, targets: npt.NDArray[Any], preset: str = "esci") -> Floats:
        """Turn targets, hard or soft, into expected gains ``[P]``; those of the regressor are gains already."""
        if not self.classes:
            return targets.astype(np.float32)
        gain_C = gain_vector(preset) if self.name == "esci" else np.asarray([0, 1], np.float32)
        return gain_C[targets] if targets.ndim == 1 else (targets @ gain_C).astype(np.float32)

    def predict(self, logits_PC: npt.NDArray[np.floating[Any]]) -> "Prediction":
        """Turn logits into probabilities, scores and classes."""
        if not self.classes:
            # The logistic function without overflow.
            gain_P = np.exp(-np.logaddexp(0, -logits_PC[:, 0].astype(np.float64))).astype(np.float32)
            return Prediction(self, None, gain_P)
        return self.of_probabilities(self.calibration.probabilities(logits_PC))

    def of_probabilities(self, probabilities_PC: Doubles) -> "Prediction":
        """Return the prediction that probabilities of the classes make, ``[P, C]``."""
        score_P = probabilities_PC @ gain_vector() if self.name == "esci" else probabilities_PC[:, 1]
        return Prediction(self, probabilities_PC.astype(np.float32), score_P.astype(np.float32))


@dataclass(frozen=True)
class Prediction:
    """A model's predictions for P pairs.

    Parameters
    ----------
    task
        The task of the classes.
    probabilities
        ``[P, C]``, or ``None`` from a regressor.
    score
        What to rank by, ``[P]``: the expected gain ``p_E + 0.1 p_S + 0.01 p_C``, the regressed gain, or for the
        substitute task the probability of being one.
    """

    task: Task
    probabilities: Floats | None
    score: Floats

    @property
    def labels(self) -> list[str | None] | None:
        """The most likely class of each pair, ``None`` where it is less sure than promised; a regressor has none."""
        if self.probabilities is None:
            return None
        least = [self.task.calibration.least.get(name, 0.0) for name in self.task.classes]
        best_P, given_P = self.probabilities.argmax(axis=1), are_given(self.probabilities, least)
        pairs = zip(best_P.tolist(), given_P.tolist(), strict=True)
        return [self.task.classes[place] if given else None for place, given in pairs]

    def select(self, rows: Int64 | Bools) -> "Prediction":
        """Take some of the pairs, by a mask or by indices."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        return Prediction(self.task, probabilities, self.score[rows])

    def columns(self) -> dict[str, Any]:
        """Return the prediction as columns: ``p_E`` … and ``label`` of a classifier, ``gain`` of all but task 3."""
        columns: dict[str, Any] = {}
        if self.probabilities is not None:
            columns |= {f"p_{name}": self.probabilities[:, place] for place, name in enumerate(self.task.classes)}
            columns["label"] = self.labels
        return columns if self.task.name == "substitute" else {**columns, "gain": self.score}


def are_given(probabilities_PC: npt.NDArray[Any], least: Sequence[float | None]) -> Bools:
    """Return which pairs have their likeliest label, by the lowest probability at which each is given, ``[P]``."""
    # In the precision of the probabilities, of which the thresholds are some.
    least_C = np.array([np.inf if each is None else each for each in least], probabilities_PC.dtype)
    return np.asarray(probabilities_PC.max(axis=1, initial=0) >= least_C[probabilities_PC.argmax(axis=1)])


def softmax(logits_PC: npt.NDArray[Any], temperature: "float | npt.NDArray[Any]" = 1.0) -> Doubles:
    """Turn logits into probabilities in float64, divided by one temperature or by that of each pair, ``[P, 1]``."""
    shifted_PC = (logits_PC.astype(np.float64) - logits_PC.max(axis=1, keepdims=True)) / temperature
    exponents_PC = np.exp(shifted_PC)
    return np.asarray(exponents_PC / exponents_PC.sum(axis=1, keepdims=True))


def gain_vector(preset: str = "esci") -> Floats:
    """Gains of E, S, C and I as an array."""
    return np.asarray([schema.GAINS[preset][label] for label in schema.LABELS], np.float32)


TASKS: Final[dict[str, Task]] = {
    "esci": Task("esci", schema.LABELS),
    "substitute": Task("substitute", ("other", "S")),
    "gain": Task("gain", ()),
}
