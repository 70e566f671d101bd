"""What is kept between two epochs of Word2vec, so that hours of it are not lost to a kill."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zhichun.core.files import new_file


@dataclass(frozen=True)
class EpochState:
    """All that the next epoch of a gensim model depends on: both tables and the random state.

    Parameters
    ----------
    path
        Where it is kept.
    belongs_to
        Says of which training; a state of another one is not used.
    """

    path: Path
    belongs_to: str

    def save(self, model: Any, epochs_done: int) -> None:
        """Write the state after an epoch."""
        _, key, position, _, _ = model.random.get_state()
        with new_file(self.path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                belongs_to=np.array(self.belongs_to),
                progress=np.array([epochs_done, position]),
                random=key,
                vectors=model.wv.vectors,
                contexts=model.syn1neg,
            )

    def restore(self, model: Any) -> int:
        """Bring a model to the state, if a whole one is there.

        Returns
        -------
        int
            The epochs that are done; 0 where there is no state.
        """
        try:
            with np.load(self.path, allow_pickle=False) as state:
                if str(state["belongs_to"]) != self.belongs_to:
                    return 0
                vectors, contexts, key = state["vectors"], state["contexts"], state["random"]
                epochs_done, position = state["progress"].tolist()
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return 0
        model.wv.vectors, model.syn1neg = vectors, contexts
        model.random.set_state(("MT19937", key, position, 0, 0.0))
        return int(epochs_done)

    def forget(self) -> None:
        """Remove the state; the training is done."""
        self.path.unlink(missing_ok=True)
