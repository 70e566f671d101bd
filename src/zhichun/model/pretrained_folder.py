"""The folder of a pre-trained encoder: an encoder in transformers' format, and its tables.

``config.json``, ``model.safetensors``, ``tokenizer.json`` and ``tokenizer_config.json`` are the files of `AutoModel`
and `AutoTokenizer`; ``tables.safetensors`` and ``vocabulary/`` have the embeddings of brands and colors with their
names, ``projection.safetensors`` the projection of products' states (`model.interaction`), where there is one.

Legend: ``V`` rows of a table, ``S`` size of a row.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from zhichun.core.errors import UserError
from zhichun.core.files import write_hashes, write_json
from zhichun.model.encoder import Encoder, place_of, save_encoder
from zhichun.model.model_folder import read_weights
from zhichun.model.parts import IdEmbeddings
from zhichun.text.tokenizer import PairTokenizer
from zhichun.text.vocabulary import Vocabulary

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
                raise UserError(
                    f"model.{name}={embeddings.size_of(name)}, and the pre-trained vectors of {name}s have {size}.",
                    remedy=f"Use --set model.{name}={size}.",
                )
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
