"""The run's own pairs: some to calibrate int8 with, others to check every export on.

Legend: ``P`` pairs, ``C`` outputs.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError
from zhichun.core.files import read_json
from zhichun.core.tasks import Floats, Task
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.dataset.feature_store import Progress, open_pairs
from zhichun.model.model_folder import TrainedModel
from zhichun.score.engines.engine import Engine, predict_with
from zhichun.score.export.export_folder import Check
from zhichun.text.pairs import Arrays, Pairs

CALIBRATED = 300
CHECKED = 500


@dataclass(frozen=True)
class Sample:
    """Pairs of a dataset.

    Parameters
    ----------
    pairs
        All of its pairs.
    calibration
        Int64 of pairs that were trained on.
    check
        Int64 of pairs that were held out, ``[P]``.
    """

    pairs: Pairs
    calibration: Int64
    check: Int64

    @classmethod
    def draw(cls, run: Path, trained: TrainedModel, data: Path, progress: Progress | None = None) -> "Sample":
        """Draw pairs as a run's recipe parts them; always the same ones.

        Raises
        ------
        UserError
            For a folder that is no dataset or has no such pairs.
        """
        dataset = Dataset.open(data)
        training, held_out = dataset.split(read_json(run / "recipe.json")["train"]["validation_fold"])
        pairs = open_pairs(dataset, trained.featurizer, trained.settings.max_length, progress)
        chance = np.random.default_rng(0)
        return cls(pairs, chance.permutation(training)[:CALIBRATED], chance.permutation(held_out)[:CHECKED])

    def calibration_batches(self) -> Iterator[Arrays]:
        """Give the pairs to calibrate with, one by one."""
        for row in self.calibration:
            yield self.pairs.collate(np.asarray([row]))

    def logits(self, engine: Engine) -> Floats:
        """Score the pairs to check, ``[P, C]``."""
        return predict_with(engine, self.pairs, self.check)


def compare(task: Task, expected_PC: Floats, found_PC: Floats) -> Check:
    """Hold an export's logits against those of the model that it was made from."""
    expected, found = task.predict(expected_PC), task.predict(found_PC)
    same = None
    if expected.labels is not None and found.labels is not None:
        same = float(np.mean([one == other for one, other in zip(expected.labels, found.labels, strict=True)]))
    return Check(
        pairs=len(found_PC),
        labels=same,
        score=float(np.abs(found.score - expected.score).mean()),
        logits=float(np.abs(found_PC - expected_PC).max()),
    )


def recorded_data(run: Path) -> Path:
    """Find the dataset folder that a run was trained on.

    Raises
    ------
    UserError
        When it is not there any more, or has changed since.
    """
    remedy = "Name a dataset folder with --data: exports are calibrated and checked on its pairs."
    recorded = read_json(run / "environment.json")["dataset"]
    data = Path(recorded["folder"])
    manifest = data / "manifest.json"
    if not manifest.is_file():
        raise UserError("the dataset that the run was trained on is not there.", file=data, remedy=remedy)
    if hashlib.sha256(manifest.read_bytes()).hexdigest() != recorded["manifest"]:
        raise UserError("the dataset has changed since the run was trained on it.", file=data, remedy=remedy)
    return data
