"""A ring of vectors of texts that were read in earlier steps (He et al., 2020, *MoCo*).

Everything is in buffers, so it is in a checkpoint and goes on after a resume; it is the same on all processes, so that
the first one's may be sent to the others at any time.

Legend: ``B`` texts, ``D`` size of a vector, ``Q`` places, ``K`` keys of a step, of all processes together.
"""

import torch
from torch import Tensor, distributed, nn

EMPTY = -1


class KeyQueue(nn.Module):
    """Keys of the latest texts and which texts they are of.

    Parameters
    ----------
    places
        Keys that are kept, ``Q``.
    size
        Size of a key, ``D``.
    """

    keys_QD: Tensor
    rows_Q: Tensor
    pointer: Tensor

    def __init__(self, places: int, size: int) -> None:
        super().__init__()
        self.register_buffer("keys_QD", torch.zeros(places, size))
        self.register_buffer("rows_Q", torch.full((places,), EMPTY))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def cosines(self, vectors_BD: Tensor, row_B: Tensor) -> Tensor:
        """Compare texts with the queue, ``[B, Q]``; minus infinity at empty places and at a text's own key.

        Parameters
        ----------
        vectors_BD
            Of length 1.
        row_B
            Which texts they are of.
        """
        hidden_BQ = (self.rows_Q == EMPTY) | (self.rows_Q == row_B[:, None])
        return (vectors_BD @ self.keys_QD.T).masked_fill(hidden_BQ, -torch.inf)

    @torch.no_grad()
    def push(self, keys_KD: Tensor, row_K: Tensor) -> None:
        """Put keys in the place of the oldest, those of all processes in the order of their ranks.

        Every process must call it at once, with as many keys as it has, or none.
        """
        keys_KD, row_K = _of_all_processes(keys_KD), _of_all_processes(row_K)
        places = len(self.rows_Q)
        index_K = (self.pointer + torch.arange(len(row_K), device=row_K.device)) % places
        self.pointer.add_(len(row_K)).remainder_(places)
        # Of more keys than there are places only the last ones stay; an index must not be written twice.
        self.keys_QD[index_K[-places:]] = keys_KD[-places:].to(self.keys_QD.dtype)
        self.rows_Q[index_K[-places:]] = row_K[-places:]


def _of_all_processes(values: Tensor) -> Tensor:
    """Join the rows of all processes, which may have different numbers of them."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    counts = [torch.zeros(1, dtype=torch.int64, device=values.device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, torch.tensor([len(values)], device=values.device))
    longest = max(int(count) for count in counts)
    filled = torch.cat([values, values.new_zeros(longest - len(values), *values.shape[1:])])
    gathered = [torch.empty_like(filled) for _ in counts]
    distributed.all_gather(gathered, filled)
    return torch.cat([part[: int(count)] for part, count in zip(gathered, counts, strict=True)])
