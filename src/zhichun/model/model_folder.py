"""The model folder: everything that scoring needs, without executable code (safetensors and JSON only).

``config.json`` (task, settings, sizes), ``encoder/config.json``, ``model.safetensors``, ``tokenizer.json`` and
``vocabulary/``.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zhichun.core import settings as codec
from zhichun.core.errors import UserError, readable
from zhichun.core.files import check_hashes, write_hashes, write_json
from zhichun.core.tasks import TASKS, Task, TaskName
from zhichun.model.encoder import load_encoder_config, new_encoder
from zhichun.model.relevance_model import ModelSettings, RelevanceModel, VocabularySizes
from zhichun.text.features import Featurizer
from zhichun.text.tokenizer import PairTokenizer

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
                raise UserError(
                    f"not a model folder: there is no {needed.relative_to(folder)}.", file=folder, remedy=REMEDY
                )
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
            raise UserError(
                f"describes no encoder ({error}).", file=folder / "encoder" / CONFIG, remedy=REMEDY
            ) from error
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
