"""A network that reads query and product apart, by torch.

Legend: ``N`` tokens of all segments, ``M`` tokens of a query, ``B`` products of a block, ``T`` tokens of the longest,
``D`` hidden size, ``S`` size of a state, ``C`` outputs.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from zhichun.core.arrays import Int32
from zhichun.core.errors import UserError
from zhichun.core.tasks import Floats
from zhichun.model.absorbed import Absorbed
from zhichun.model.interaction import SplitEncoder
from zhichun.model.relevance_model import RelevanceModel
from zhichun.score.engine import RUN_ENGINES
from zhichun.score.export.graph import inputs_of
from zhichun.score.index.network import Asked, SplitNetwork, reads_together
from zhichun.score.index.store import whose_states
from zhichun.score.torch_engine import TorchEngine, device_of, load_run, on_each_core, to_tensors
from zhichun.text.pairs import packed

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class TorchNetwork(SplitNetwork):
    """A run's network, on the device where it is."""

    above: TorchEngine

    @classmethod
    def load(cls, folder: Path, device: str | None) -> Self:
        """Load a model folder of a run, in fp32.

        Raises
        ------
        UserError
            For a model that does not read query and product apart.
        """
        states = whose_states(folder)
        trained, engine = load_run(folder, device, RUN_ENGINES[0])
        if whose_states(folder) != states:
            remedy = "Call it again when the training is done."
            raise UserError("the model was replaced while it was read.", file=folder, remedy=remedy)
        encoder = trained.model.encoder
        if not isinstance(encoder, SplitEncoder):
            raise reads_together(folder)
        return cls(
            above=engine,
            featurizer=trained.featurizer,
            max_length=trained.settings.max_length,
            task=trained.task,
            states=states,
            size=encoder.state,
            side=inputs_of(trained),
        )

    @property
    def model(self) -> RelevanceModel:
        """The network, in evaluation mode."""
        return self.above.model

    @property
    def encoder(self) -> SplitEncoder:
        """The encoder."""
        assert isinstance(self.model.encoder, SplitEncoder)
        return self.model.encoder

    @cached_property
    def absorbed(self) -> Absorbed | None:
        """The layers above the split for kept states; none where they update the product too."""
        return Absorbed(self.encoder).eval() if self.encoder.settings.updates == "query" else None

    @property
    def streams(self) -> int:
        """Of a CPU its cores."""
        return 1 if device_of(self.model).type == "cuda" else torch.get_num_threads()

    def _each(self, function: Callable[[A], R], given: Iterable[A]) -> Iterator[R]:
        return (map if device_of(self.model).type == "cuda" else on_each_core)(function, given)

    def lower(self, batches: Iterable[Sequence[Int32]], *, product: bool) -> Iterator[Sequence[Floats]]:
        """Send packed segments through the layers below."""
        return self._each(partial(self._apart, product=product), batches)

    @torch.inference_mode()
    def _apart(self, segments: Sequence[Int32], *, product: bool) -> Sequence[Floats]:
        device, layout = device_of(self.model), self.featurizer.tokenizer.layout
        arrays = packed([(segment, 0 if product else len(segment)) for segment in segments], layout)
        vectors_ND = self.encoder.side(to_tensors(arrays, device), product=product).float().cpu().numpy()
        return np.split(vectors_ND, arrays["bounds"][1:-1])

    def upper(self, asked: Iterable[Asked]) -> Iterator[Floats]:
        """Score blocks."""
        _ = self.absorbed  # made before several threads want it
        return self._each(self._logits, asked)

    @torch.inference_mode()
    def _logits(self, asked: Asked) -> Floats:
        """Score a block of products for one query, ``[B, C]``."""
        own_MD, block, side_BF = asked
        device = device_of(self.model)
        states_BTS = torch.from_numpy(block.states_BTS).to(device).float()
        scales_BT = None if block.scales_BT is None else torch.from_numpy(block.scales_BT).to(device)
        lengths_B = torch.from_numpy(block.lengths_B).to(device)
        own_1MD = torch.from_numpy(own_MD).to(device)[None]
        there_BT = torch.arange(states_BTS.shape[1], device=device) < lengths_B[:, None]
        if self.absorbed is not None and len(own_MD) < self.absorbed.head_size:
            first_BD = self.absorbed(own_1MD, states_BTS, there_BT, scales_BT)
        else:
            states_BTS = states_BTS if scales_BT is None else states_BTS * scales_BT[..., None]
            first_BD = self.encoder.beside(own_1MD[0], states_BTS[there_BT], lengths_B)
        vectors_BF = torch.cat([first_BD, torch.from_numpy(side_BF).to(device)], dim=1)
        logits_BC: Tensor = self.model.head(vectors_BF)
        return (torch.cat([logits_BC, vectors_BF], dim=1) if self.above.reads_lists else logits_BC).cpu().numpy()
