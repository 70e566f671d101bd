"""What every objective gives back."""

from typing import NamedTuple

from torch import Tensor


class Total(NamedTuple):
    """What an objective gives: the number to minimise, and its named parts for the log."""

    total: Tensor
    parts: dict[str, Tensor]
