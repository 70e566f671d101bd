"""Feeds the queue of the contrastive task from as many processes as started it: `queue_worker.py OUT`.

Step s reads ``texts_of(s, rank)`` on each process in two micro-batches; `OUT` gets what every process holds then.
"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from zhichun.objective.pretext.contrastive import Contrastive, ContrastiveHead

STEPS = 5
PLACES = 7


class OneToken(nn.Module):
    """An encoder of texts of one token, which has dropout and weights that move."""

    hidden = 4

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 4)
        self.dropout = nn.Dropout(0.1)

    def read(self, batch: dict[str, Tensor]) -> Tensor:
        return self.dropout(self.table(batch["input_ids"]))


class Objective(nn.Module):
    """Encoder and head together, as the objective of pre-training has them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = OneToken()
        self.head = ContrastiveHead(self.encoder, Contrastive(queue=PLACES, momentum=0.9))

    def forward(self, rows: Tensor) -> Tensor:
        ids = torch.cat([rows, rows])[:, None]
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "row": rows}
        return self.head(self.encoder, batch).loss_N.sum()


def texts_of(step: int, rank: int) -> list[int]:
    """Rows that a process reads in a step: not as many on each."""
    return [10 * step + 5 * rank + number for number in range(2 + (step + rank) % 3)]


def main() -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    rank, objective = accelerator.process_index, Objective()
    optimizer = torch.optim.SGD(objective.encoder.parameters(), lr=0.1)
    wrapped, optimizer = accelerator.prepare(objective, optimizer)
    wrapped.train()
    for step in range(STEPS):
        rows = texts_of(step, rank)
        with accelerator.no_sync(wrapped):
            accelerator.backward(wrapped(torch.tensor(rows[:1])))
        accelerator.backward(wrapped(torch.tensor(rows[1:])))
        optimizer.step()
        optimizer.zero_grad()
        objective.head.after_step(objective.encoder)
    save_file(objective.state_dict(), Path(sys.argv[1]) / f"process-{rank}.safetensors")


if __name__ == "__main__":
    main()
