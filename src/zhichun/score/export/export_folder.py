"""The folder of `zhichun export`: a model that needs neither torch nor transformers, and no pickle.

``config.json`` (task, sizes, formats, checks, hashes), ``tokenizer.json``, ``vocabulary/``, ``tables/`` (NumPy arrays
of the embeddings that are looked up outside the graph), and a folder for each format: ``onnx/``, ``onnx-int8/``,
``openvino/``, ``openvino-int8/``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zhichun.core import settings as codec
from zhichun.core.files import check_hashes, write_hashes
from zhichun.core.tasks import TASKS, Task, TaskName
from zhichun.text.document import check_fields
from zhichun.text.features import Featurizer

FORMAT: Final = 2
KIND: Final = "zhichun export"
CONFIG: Final = "config.json"
REMEDY: Final = "Copy the folder again, or make it again with: zhichun export RUN"
# What each format's folder holds: the file that a runtime opens, and the precision of its weights.
FORMATS: Final = {
    "onnx": ("model.onnx", "fp32"),
    "onnx-int8": ("model.onnx", "int8"),
    "openvino": ("model.xml", "fp32"),
    "openvino-int8": ("model.xml", "int8"),
}
# A graph is safe when it gives so many pairs the label of the fp32 model; a regressor's must be so near on average.
SAFE_LABELS: Final = 0.99
SAFE_SCORE: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class Check:
    """How near an exported graph is to the model that it was made from, on pairs that it was not calibrated with.

    Parameters
    ----------
    pairs
        How many were compared.
    labels
        Share of them with the same label; ``None`` of a regressor.
    score
        Mean difference of the scores, without sign.
    logits
        Greatest difference of the logits, without sign.
    """

    pairs: int
    labels: float | None
    score: float
    logits: float

    @property
    def safe(self) -> bool:
        """Whether `auto` may choose the graph in place of the model."""
        return self.score <= SAFE_SCORE if self.labels is None else self.labels >= SAFE_LABELS


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """The content of ``config.json``.

    Parameters
    ----------
    task
        Name of the task.
    max_length, fields
        What the encoder reads.
    inputs
        The graph's inputs: names of `Pairs.collate`, and ``side_features`` where there are any.
    side_features
        Sizes of what is looked up outside the graph, in order: ``country``, ``brand``, ``color``, ``trigrams``.
    checks
        Of each format that is there, and of `openvino-bf16` where the CPU that exported has it in hardware.
    about
        What the model is and what it was made with, for people.
    """

    task: TaskName
    max_length: int
    fields: tuple[str, ...]
    inputs: tuple[str, ...]
    side_features: dict[str, int]
    checks: dict[str, Check]
    about: dict[str, Any]

    def __post_init__(self) -> None:
        check_fields(self.fields)

    @property
    def task_of(self) -> Task:
        """What the model predicts."""
        return TASKS[self.task]

    def check_of(self, engine: str) -> Check:
        """Return an engine's own check, or that of the format that it reads."""
        return self.checks.get(engine) or self.checks[format_of(engine)]

    def save(self, folder: Path) -> None:
        """Write ``config.json``, and the hashes of all files."""
        codec.write_settings(self, folder / CONFIG, format=FORMAT, kind=KIND)
        write_hashes(folder)

    @classmethod
    def load(cls, folder: Path) -> "ExportConfig":
        """Read ``config.json`` and check that every file is as it was written.

        Raises
        ------
        UserError
            When it is damaged, of another version, or a file is missing or has changed.
        """
        config = codec.read_settings(cls, folder / CONFIG, format=FORMAT, remedy=REMEDY)
        check_hashes(folder, REMEDY)
        return config

    def featurizer(self, folder: Path) -> Featurizer:
        """Load what reads texts."""
        return Featurizer.load(
            folder,
            self.fields,
            trigrams="trigrams" in self.side_features,
            brands="brand" in self.side_features,
            colors="color" in self.side_features,
        )


def format_of(engine: str) -> str:
    """Name the exported format that an engine reads."""
    return engine.removesuffix("-bf16")


def is_export(folder: Path) -> bool:
    """Tell a folder of `zhichun export` from a run and from a model folder."""
    path = folder / CONFIG
    return path.is_file() and f'"{KIND}"' in path.read_text("utf-8", "replace")  # also one that is damaged
