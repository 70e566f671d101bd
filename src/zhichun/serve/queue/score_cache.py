"""Scores of pairs by a hash of all that decides them; the least recently asked for go first.

Legend: ``F`` figures of a pair.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from zhichun.core.tasks import Floats


class ScoreCache:
    """Figures of pairs by content, in bounded number; belongs to one event loop.

    Parameters
    ----------
    most
        Pairs that it holds; 0 holds none.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.hits = self.misses = 0
        self._known: OrderedDict[bytes, Floats] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Floats]:
        """Give the figures, ``[F]``, of those that are known."""
        found = {}
        for key in keys:
            if (figures_F := self._known.get(key)) is not None:
                self._known.move_to_end(key)
                found[key] = figures_F
        self.hits += len(found)
        self.misses += len(keys) - len(found)
        return found

    def put(self, figures: Mapping[bytes, Floats]) -> None:
        """Keep figures, and drop the least recently asked for until the number is right."""
        if not self.most:
            return
        for key, figures_F in figures.items():
            self._known[key] = figures_F.copy()  # a row of a batch would keep the whole batch
        while len(self._known) > self.most:
            self._known.popitem(last=False)
