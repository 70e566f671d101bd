"""The network in the parts that an index needs: products' states, and scores from them; by torch.

Legend: ``R`` products, ``N`` their tokens, ``M`` tokens of a query, ``B`` products of a block, ``T`` tokens of the
longest, ``D`` hidden size, ``S`` size of a state, ``F`` size of side features, ``C`` outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zhichun.core.arrays import Int32, Int64
from zhichun.core.tasks import Floats
from zhichun.model.absorbed import Absorbed
from zhichun.model.interaction import SplitEncoder
from zhichun.model.model_folder import TrainedModel
from zhichun.model.relevance_model import RelevanceModel
from zhichun.score.engines.engine import length_sorted
from zhichun.score.engines.torch_engine import device_of, to_tensors, tokens_at_once
from zhichun.score.export.export_folder import GraphInputs
from zhichun.score.export.graph import inputs_of
from zhichun.score.index.store import Block, Encoded, Precision, Shard
from zhichun.text.features import ProductFeatures, QueryFeatures
from zhichun.text.pairs import packed
from zhichun.text.tokenizer import PairLayout

# Tokens of the products that are scored at once: so many that a core's cache holds their states.
BLOCK_TOKENS: Final = 4096
_NOTHING: Final = np.zeros(0, np.int32)


@dataclass(frozen=True)
class SplitNetwork:
    """A network that reads query and product apart.

    Parameters
    ----------
    trained
        With its tokenizer; in evaluation mode.
    """

    trained: TrainedModel

    @property
    def model(self) -> RelevanceModel:
        """The network itself."""
        return self.trained.model

    @property
    def layout(self) -> PairLayout:
        """How segments look."""
        return self.trained.featurizer.tokenizer.layout

    @property
    def max_length(self) -> int:
        """Tokens of query and product together at most."""
        return self.trained.settings.max_length

    @property
    def encoder(self) -> SplitEncoder:
        """The encoder."""
        assert isinstance(self.model.encoder, SplitEncoder)
        return self.model.encoder

    @property
    def size(self) -> int:
        """Size of a state, ``S``."""
        return self.encoder.settings.state or self.encoder.hidden

    @cached_property
    def side(self) -> GraphInputs:
        """The tables of the side features."""
        return inputs_of(self.trained)

    @cached_property
    def absorbed(self) -> Absorbed | None:
        """The layers above the split for kept states; none where they update the product too."""
        return Absorbed(self.encoder).eval() if self.encoder.settings.updates == "query" else None

    def shard(
        self,
        products: ProductFeatures,
        hashes_R2: npt.NDArray[np.uint64],
        precision: Precision,
        progress: Callable[[int], None] | None = None,
    ) -> Shard:
        """Compute states and side features of some products."""
        tokens = products.tokens
        segments = [self.layout.segments(_NOTHING, tokens[row], self.max_length)[1] for row in range(len(tokens))]
        states = self._apart(segments, product=True, progress=progress)
        joined_NS = np.concatenate([np.zeros((0, self.size), np.float32), *states])
        lengths_R = np.asarray([len(segment) for segment in segments], np.int64)
        return Shard(Encoded.of(joined_NS, precision), self._side_of(products), hashes_R2, lengths_R)

    def queries(self, queries: QueryFeatures, rows: Int64) -> list[Floats]:
        """Compute the vectors of queries' tokens after the layers below the split, ``[M, D]`` each."""
        tokens = queries.tokens
        return self._apart(
            [self.layout.segments(tokens[row], _NOTHING, self.max_length)[0] for row in rows], product=False
        )

    @torch.inference_mode()
    def _apart(
        self, segments: Sequence[Int32], *, product: bool, progress: Callable[[int], None] | None = None
    ) -> list[Floats]:
        device, made = device_of(self.model), [np.zeros((0, 0), np.float32)] * len(segments)
        lengths = np.asarray([len(segment) for segment in segments], np.int64)
        for rows in length_sorted(np.arange(len(segments)), lengths, tokens_at_once(device, self.encoder.hidden)):
            arrays = packed([(segments[row], 0 if product else len(segments[row])) for row in rows], self.layout)
            vectors_ND = self.encoder.side(to_tensors(arrays, device), product=product).float().cpu().numpy()
            for row, part in zip(rows, np.split(vectors_ND, np.cumsum(lengths[rows])[:-1]), strict=True):
                made[row] = part
            if progress:
                progress(len(rows))
        return made

    @torch.inference_mode()
    def logits(self, own_MD: Floats, block: Block, side_BF: Floats) -> Floats:
        """Score a block of products for one query, ``[B, C]``."""
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
        features_BF = torch.cat([first_BD, torch.from_numpy(side_BF).to(device)], dim=1)
        logits_BC: Tensor = self.model.head(features_BF)
        return logits_BC.cpu().numpy()

    def _side_of(self, products: ProductFeatures) -> Floats:
        """Look up and pool what the side features hold of products, ``[R, F]``."""
        rows = np.arange(len(products.tokens))
        return np.concatenate(
            [np.zeros((len(rows), 0), np.float32), *self.side.parts(products.side(rows)).values()], axis=1
        )
