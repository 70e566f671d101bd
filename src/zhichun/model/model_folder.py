"""The model folder: everything that scoring needs, without executable code (safetensors and JSON only).

``config.json`` (task, settings, sizes), ``encoder/config.json``, ``model.safetensors``, ``tokenizer.json`` and
``vocabulary/``.

A pre-trained encoder has a folder in transformers' format, with its tables: ``config.json``, ``model.safetensors``,
``tokenizer.json`` and ``tokenizer_config.json`` are the files of `AutoModel` and `AutoTokenizer`;
``tables.safetensors`` and ``vocabulary/`` have the embeddings of brands and colors with their names,
``projection.safetensors`` the projection of products' states (`model.interaction`), where there is one.

Legend: ``V`` rows of a table, ``S`` size of a row.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zhichun.core import settings as codec
from zhichun.core.errors import UserError, readable
from zhichun.core.files import check_hashes, write_hashes, write_json
from zhichun.core.tasks import TASKS, Task, TaskName
from zhichun.model.encoder import Encoder, load_encoder_config, new_encoder, place_of, save_encoder
from zhichun.model.parts import IdEmbeddings
from zhichun.model.relevance_model import ModelSettings, RelevanceModel, VocabularySizes
from zhichun.text.features import Featurizer
from zhichun.text.tokenizer import PairTokenizer
from zhichun.text.vocabulary import Vocabulary

FORMAT: Final = 1
CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
REMEDY: Final = "Copy the folder again, or train the run again."


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What ``config.json`` says: the task, what the network consists of, and the rows of its tables."""

    task: TaskName
    model: ModelSettings
    sizes: VocabularySizes


@dataclass(frozen=True)
class TrainedModel:
    """A relevance model with its tokenizer and vocabularies.

    Parameters
    ----------
    model
        The network.
    featurizer
        Tokenizer, field order and vocabularies.
    settings
        The network's settings.
    task
        The meaning of its outputs.
    """

    model: RelevanceModel
    featurizer: Featurizer
    settings: ModelSettings
    task: Task

    @property
    def sizes(self) -> VocabularySizes:
        """Rows of the vocabularies' tables."""
        return vocabulary_sizes(self.featurizer)

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write the model folder.

        Parameters
        ----------
        folder
            An empty folder; the caller moves it under its final name.
        weights
            Weights to write instead of the network's own.
        """
        config = {"format": FORMAT, "task": self.task.name, "model": codec.encode(self.settings)}
        write_json(folder / CONFIG, {**config, "sizes": asdict(self.sizes)})
        self.model.encoder.model.config.save_pretrained(folder / "encoder")
        self.featurizer.save(folder)
        state = {name: tensor.contiguous() for name, tensor in (weights or self.model.state_dict()).items()}
        save_file(state, folder / WEIGHTS)
        write_hashes(folder)

    @classmethod
    def load(cls, folder: Path) -> "TrainedModel":
        """Load a model folder.

        Raises
        ------
        UserError
            When it is not one, is of another format, or something in it is missing or cut off.
        """
        path = folder / CONFIG
        for needed in (path, folder / "encoder" / CONFIG):
            if not needed.is_file():
                problem = f"not a model folder: there is no {needed.relative_to(folder)}."
                raise UserError(problem, file=folder, remedy=REMEDY)
        config = codec.read_settings(ModelConfig, path, format=FORMAT, remedy=REMEDY)
        check_hashes(folder, REMEDY)
        settings, task = config.model, TASKS[config.task].calibrated_in(folder)
        tokenizer = PairTokenizer.load(folder).apart(settings.query_tokens)
        featurizer = Featurizer.load(folder, settings.fields, settings.side_features, tokenizer)
        if config.sizes != vocabulary_sizes(featurizer):
            raise UserError("the sizes are not those of the vocabularies.", file=path, remedy=REMEDY)
        try:
            encoder = settings.encoder_of(new_encoder(load_encoder_config(folder / "encoder")))
            model = RelevanceModel(settings, encoder, config.sizes, task.outputs, featurizer.tokenizer.layout)
        except Exception as error:  # transformers raises whatever a damaged configuration leads to
            problem = f"describes no encoder ({error})."
            raise UserError(problem, file=folder / "encoder" / CONFIG, remedy=REMEDY) from error
        try:
            model.load_state_dict(read_weights(folder / WEIGHTS))
        except RuntimeError as error:
            raise UserError("the weights are of another model.", file=folder / WEIGHTS, remedy=REMEDY) from error
        return cls(model.eval(), featurizer, settings, task)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises
    ------
    UserError
        When it is missing or cut off.
    """
    with readable(path, REMEDY, SafetensorError):
        return load_file(path)


def vocabulary_sizes(featurizer: Featurizer) -> VocabularySizes:
    """Count the table rows that a featurizer's vocabularies need."""
    return VocabularySizes(
        trigrams=0 if featurizer.trigrams is None else len(featurizer.trigrams),
        brands=0 if featurizer.brands is None else len(featurizer.brands),
        colors=0 if featurizer.colors is None else len(featurizer.colors),
    )


TABLES: Final = "tables.safetensors"
FILES: Final = {"brand": "brands.parquet", "color": "colors.parquet"}


@dataclass(frozen=True)
class PretrainedTables:
    """Vectors of brands and colors.

    Parameters
    ----------
    vectors
        The table of each id embedding, ``[V, S]``; row 0 is for unknown values.
    vocabularies
        The values of the other rows.
    """

    vectors: dict[str, Tensor]
    vocabularies: dict[str, Vocabulary]

    @classmethod
    def beside(cls, encoder: str) -> "PretrainedTables | None":
        """Read the tables of an encoder, if there are any.

        Parameters
        ----------
        encoder
            Hub name or path.
        """
        folder = Path(place_of(encoder))
        if not (folder / TABLES).is_file():
            return None
        vectors = read_weights(folder / TABLES)
        return cls(vectors, {name: Vocabulary.load(folder / "vocabulary" / FILES[name]) for name in vectors})

    def save(self, folder: Path) -> None:
        """Write tables and vocabularies."""
        save_file({name: table.detach().cpu().contiguous() for name, table in self.vectors.items()}, folder / TABLES)
        for name, vocabulary in self.vocabularies.items():
            vocabulary.save(folder / "vocabulary" / FILES[name])

    def start(self, embeddings: IdEmbeddings, vocabularies: dict[str, Vocabulary | None]) -> dict[str, int]:
        """Initialise id embeddings from these tables, matching rows by name.

        Row 0 and values that are not in the pre-training catalogue keep their own initialisation.

        Parameters
        ----------
        embeddings
            Of a model with its initial weights.
        vocabularies
            The values of its tables' rows.

        Returns
        -------
        dict
            Number of copied rows by table.

        Raises
        ------
        UserError
            When vectors have another size.
        """
        taken = {}
        for name in (name for name in self.vectors if name in embeddings.tables):
            vocabulary, size = vocabularies[name], self.vectors[name].shape[1]
            assert vocabulary is not None
            if embeddings.size_of(name) != size:
                problem = f"model.{name}={embeddings.size_of(name)}, and the pre-trained vectors have {size}."
                raise UserError(problem, remedy=f"Use --set model.{name}={size}.")
            here = torch.from_numpy(self.vocabularies[name].index(vocabulary.values)).long()
            known = here > 0
            embeddings.start_from(name, 1 + known.nonzero()[:, 0], self.vectors[name][here[known]])
            taken[name] = int(known.sum())
        return taken


@dataclass(frozen=True)
class PretrainedEncoder:
    """A pre-trained encoder.

    Parameters
    ----------
    encoder
        The encoder.
    tokenizer
        Its tokenizer.
    max_length
        Maximum number of tokens in training.
    tables
        Vectors of brands and colors; none if neither was trained.
    """

    encoder: Encoder
    tokenizer: PairTokenizer
    max_length: int
    tables: PretrainedTables

    def save(self, folder: Path) -> None:
        """Write the folder.

        Parameters
        ----------
        folder
            An empty folder; the caller moves it under its final name.
        """
        save_encoder(self.encoder, folder)
        if self.tables.vectors:
            self.tables.save(folder)
        self.tokenizer.save(folder)
        config = tokenizer_config(self.tokenizer, self.encoder.room or self.max_length)
        write_json(folder / "tokenizer_config.json", config)
        write_hashes(folder)


def tokenizer_config(tokenizer: PairTokenizer, most: int) -> dict[str, object]:
    """Return the settings that `AutoTokenizer` does not find in ``tokenizer.json``; ``most`` tokens are read."""
    layout, used = tokenizer.layout, ["input_ids", "attention_mask"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": most,
        "model_input_names": used if layout.first_type == layout.second_type else [*used, "token_type_ids"],
        **tokenizer.special_names(),
    }
