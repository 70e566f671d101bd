"""MarianMT by transformers (Junczys-Dowmunt et al., 2018, "Marian: Fast Neural Machine Translation in C++").

Legend: ``B`` texts, ``T`` pieces.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import GenerationConfig, MarianMTModel

from zhichun.core.errors import UserError
from zhichun.model.translation.checkpoint import Checkpoint
from zhichun.model.translation.pieces import END, MOST_PIECES, Pieces, PieceTranslator


def open_marian(model: str, beams: int) -> PieceTranslator:
    """Open a MarianMT checkpoint by name or path, on a GPU where there is one.

    Raises
    ------
    UserError
        When there is none, or it is damaged or converted.
    """
    checkpoint = Checkpoint.find(model)
    if checkpoint.is_converted:
        raise UserError(
            "the model is in CTranslate2's format.", file=checkpoint.folder, remedy="Use the engine ctranslate2."
        )
    return PieceTranslator(checkpoint, f"marian beams={beams}", MarianGenerator(checkpoint.folder, beams))


class MarianGenerator:
    """Runs a MarianMT checkpoint.

    Parameters
    ----------
    folder
        The checkpoint.
    beams
        Width of the beam search; 1 is greedy.
    """

    def __init__(self, folder: Path, beams: int) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._id_of: dict[str, int] = json.loads((folder / "vocab.json").read_text("utf-8"))
            target = folder / "target_vocab.json"
            target_ids = json.loads(target.read_text("utf-8")) if target.is_file() else self._id_of
            self._model = MarianMTModel.from_pretrained(folder, dtype=torch.float32).to(self._device).eval()
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise UserError(
                f"the MarianMT model cannot be read ({error}).", file=folder, remedy="Get it again."
            ) from error
        self._piece_of = {index: piece for piece, index in target_ids.items()}
        config = self._model.config
        # The model's own generation settings are replaced as a whole: generate() would mix them in.
        self._model.generation_config = GenerationConfig(
            num_beams=beams,
            do_sample=False,
            max_new_tokens=MOST_PIECES,
            decoder_start_token_id=config.decoder_start_token_id,
            eos_token_id=self._id_of[END],
            pad_token_id=config.pad_token_id,
            bad_words_ids=[[config.pad_token_id]],
        )

    def __call__(self, pieces_B: Pieces) -> Pieces:
        """Translate one batch; pieces of the translations may hold special ones."""
        unknown, pad = self._id_of["<unk>"], self._model.config.pad_token_id
        ids_B = [torch.tensor([self._id_of.get(piece, unknown) for piece in pieces]) for pieces in pieces_B]
        ids_BT = torch.nn.utils.rnn.pad_sequence(ids_B, batch_first=True, padding_value=pad).to(self._device)
        with torch.inference_mode():
            made_BT = self._model.generate(input_ids=ids_BT, attention_mask=(ids_BT != pad).long())
        return [[self._piece_of.get(index, "<unk>") for index in row] for row in made_BT.tolist()]
