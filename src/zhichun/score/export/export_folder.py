"""The folder of `zhichun export`: a model that needs neither torch nor transformers, and no pickle.

``config.json`` (task, sizes, formats, checks), ``calibration.json`` of a calibrated model, ``tokenizer.json``,
``vocabulary/``, ``tables/``, ``hashes.json``, and a folder for each format: ``onnx/``, ``onnx-int8/``, ``openvino/``,
``openvino-int8/``.

``tables/`` has the side features as NumPy arrays: embeddings of country, brand, color and trigrams. They are constants
of a query or a product, so a graph takes them as one input instead of carrying the tables: a bag of any length becomes
one vector, and nothing is padded.

Legend: ``B`` pairs, ``N`` trigrams of a batch, ``V`` rows of a table, ``G`` size of a trigram's vector, ``S`` size of
all parts together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
import numpy.typing as npt

from zhichun.core import settings as codec
from zhichun.core.arrays import Int64
from zhichun.core.errors import readable
from zhichun.core.files import check_hashes, write_hashes
from zhichun.core.tasks import Floats, TaskName
from zhichun.text.features import Featurizer
from zhichun.text.pairs import Arrays, check_fields

FORMAT: Final = 3
KIND: Final = "zhichun export"
CONFIG: Final = "config.json"
REMEDY: Final = "Copy the folder again, or make it again with: zhichun export RUN"
LISTS_FILE: Final = "lists.onnx"  # the list head, beside the graphs that it reads, for every engine
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
TABLES: Final = "tables"
TRIGRAMS: Final = "trigrams"
# Of the graph: the input of all side features together, and the output.
SIDE: Final = "side_features"
OUTPUT: Final = "logits"
# With a list head: the second output, and what the graph of the list head reads.
VECTORS: Final = "vectors"
LISTED: Final = (VECTORS, "list")
# Of models that read query and product apart: the two graphs below the split, what they read and give, and what the
# graph above it reads.
PRODUCT: Final = "product"
QUERY: Final = "query"
LOWER: Final = ("input_ids", "attention_mask")
STATES: Final = "states"
OWN: Final = "own"
THERE: Final = "there"
SCALES: Final = "scales"
UPPER: Final = (OWN, STATES, THERE, SCALES, SIDE)
# In the order in which `model.relevance_model` puts its parts side by side.
IDS: Final = ("country", "brand", "color")
BAGS: Final = ("query_trigrams", "product_trigrams", "description_trigrams")


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
class Apart:
    """Of a model that reads query and product apart, and so has three graphs.

    Parameters
    ----------
    states
        Hash of the model whose states its graphs make, as an index knows it.
    size, hidden
        Size of a product's state for each token, and of the query's vectors.
    query_tokens
        As of `text.tokenizer.PairLayout`.
    """

    states: str
    size: int
    hidden: int
    query_tokens: int


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
    reads_lists
        Whether there is a list head, which is a graph of its own, ``lists.onnx``: the vectors of whole lists to logits.
    apart
        Of a model that reads query and product apart.
    """

    task: TaskName
    max_length: int
    fields: tuple[str, ...]
    inputs: tuple[str, ...]
    side_features: dict[str, int]
    checks: dict[str, Check]
    about: dict[str, Any]
    reads_lists: bool = False
    apart: Apart | None = None

    def __post_init__(self) -> None:
        check_fields(self.fields)

    def check_of(self, engine: str) -> Check:
        """Return an engine's own check, or that of the format that it reads."""
        return self.checks.get(engine) or self.checks[format_of(engine)]

    def graph_inputs(self, folder: Path) -> "GraphInputs":
        """Map the tables of the side features into memory.

        Raises
        ------
        UserError
            When one is missing or damaged.
        """
        tables = {}
        for part in self.side_features:
            path = folder / TABLES / f"{part}.npy"
            with readable(path, REMEDY):
                tables[part] = np.load(path, mmap_mode="r", allow_pickle=False)
        return GraphInputs(self.inputs, tables)

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
        featurizer = Featurizer.load(folder, self.fields, self.side_features)
        query_tokens = None if self.apart is None else self.apart.query_tokens
        return replace(featurizer, tokenizer=featurizer.tokenizer.apart(query_tokens))


@dataclass(frozen=True)
class GraphInputs:
    """From a batch of `Pairs.collate` to the inputs of an exported graph.

    Parameters
    ----------
    names
        The graph's inputs.
    tables
        Of the side features, by part (`IDS` and ``trigrams``); a part that the model does not have is missing.
    """

    names: tuple[str, ...]
    tables: Mapping[str, Floats]

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each part in the pair's vector, in their order."""
        ids = {part: self.tables[part].shape[1] for part in IDS if part in self.tables}
        bags = {TRIGRAMS: len(BAGS) * self.tables[TRIGRAMS].shape[1]} if TRIGRAMS in self.tables else {}
        return ids | bags

    def save(self, folder: Path) -> None:
        """Write one NumPy file for each table."""
        (folder / TABLES).mkdir()
        for part, table_VG in self.tables.items():
            np.save(folder / TABLES / f"{part}.npy", table_VG, allow_pickle=False)

    def of(self, batch: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Return the inputs of one batch, by name."""
        return {name: batch[name] if name in batch else self.vectors(batch) for name in self.names}

    def vectors(self, batch: Arrays) -> Floats:
        """Look up and pool the side features of each pair, ``[B, S]``."""
        return np.ascontiguousarray(np.concatenate([*self.parts(batch).values()], axis=1), np.float32)

    def parts(self, batch: Arrays) -> dict[str, Floats]:
        """Look up and pool those side features that a batch has something of, in their order."""
        ids = {part: self.tables[part][batch[part]] for part in IDS if part in self.tables and part in batch}
        bags = [name for name in BAGS if TRIGRAMS in self.tables and name in batch]
        return ids | {name: _mean(self.tables[TRIGRAMS], batch[name], batch[f"{name}_offsets"]) for name in bags}


def _mean(table_VG: Floats, ids_N: Int64, offsets_B1: Int64) -> Floats:
    """Average the rows of each bag, ``[B, G]``; an empty bag is zeros. Padding, id 0, is in no bag."""
    counts_B = np.diff(offsets_B1)
    mean_BG: Floats = np.zeros((len(counts_B), table_VG.shape[1]), np.float32)
    filled_B = counts_B > 0
    if filled_B.any():
        # Empty bags begin where the next one does, so between the starts of the filled ones lie whole bags.
        total = np.add.reduceat(table_VG[ids_N], offsets_B1[:-1][filled_B], axis=0)
        mean_BG[filled_B] = total / counts_B[filled_B, None]
    return mean_BG


def format_of(engine: str) -> str:
    """Name the exported format that an engine reads."""
    return engine.removesuffix("-bf16")


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """Fill in a template of this package."""
    text = files("zhichun.score.export").joinpath("templates", template).read_text("utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    return environment.from_string(text).render(**values)


def is_export(folder: Path) -> bool:
    """Tell a folder of `zhichun export` from a run and from a model folder."""
    path = folder / CONFIG
    return path.is_file() and f'"{KIND}"' in path.read_text("utf-8", "replace")  # also one that is damaged
