"""Each pretext task alone: it learns in each language, its examples are a pure function, its queue is one queue."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import queue_worker
import torch
from queue_worker import PLACES, STEPS, texts_of
from safetensors.torch import load_file
from scipy import stats

from zhichun.core import schema
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import CatalogueTexts
from zhichun.data.prepare.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop
from zhichun.model.encoder import Encoder, new_encoder
from zhichun.model.encoder_settings import TinyEncoder, start_matching, tiny_config
from zhichun.objective.pretext import MLM, Contrastive, PairMLM, Pretext, Product2Brand, Product2Color, Product2Query
from zhichun.objective.pretext.task import Draw, Outcome, PretextHead, Sizes
from zhichun.text.pairs import TextReader
from zhichun.text.vocabulary import Vocabulary

TASKS = {
    "MLM": MLM(),
    "MLM of whole words": MLM(unit="word"),
    "PairMLM": PairMLM(),
    "Product2Query": Product2Query(draws=2),
    "Product2Query as released": Product2Query(draws=2, mean=8.0, delete=None),
    "Product2Brand": Product2Brand(size=32),
    "Product2Color": Product2Color(size=32),
    "Contrastive": Contrastive(repetition=0.32, queue=80),
    "Contrastive without a queue": Contrastive(repetition=0.32, queue=None),
}
# Steps until each says more of held-out products than chance does, in every language, and their learning rate.
LEARNING = {
    "MLM": (MLM(), 120, 8e-3),
    "PairMLM": (PairMLM(), 250, 8e-3),
    "Product2Query": (Product2Query(draws=1), 180, 4e-3),
    "Product2Brand": (Product2Brand(size=32), 100, 4e-3),
    "Product2Color": (Product2Color(size=32), 800, 4e-3),
    "Contrastive": (Contrastive(repetition=0.32, queue=120), 25, 4e-3),
}
OF_A_LOCALE = 16


@dataclass(frozen=True)
class Shop:
    """A sample shop of 3,000 products, a fifth of them held out."""

    catalogue: CatalogueTexts
    reader: TextReader
    sizes: Sizes

    def rows(self, locale: str, *, held_out: bool) -> np.ndarray:
        return np.intersect1d(self.catalogue.split(0.2)[held_out], self.catalogue.of_locale(locale))

    def batch(self, task: Pretext, rows: np.ndarray, draw: Draw) -> dict[str, torch.Tensor]:
        arrays = task.examples(self.catalogue.take(rows), self.catalogue, self.reader, draw)
        return {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def shop(tmp_path_factory, reader):
    folder = tmp_path_factory.mktemp("shop")
    write_sample_shop(folder / "shop", products=3000, queries=300)
    prepare(folder / "shop", folder / "data")
    dataset = Dataset.open(folder / "data")
    vocabularies = [
        Vocabulary.load(folder / "data" / "vocabulary" / f"{name}.parquet") for name in ("brands", "colors")
    ]
    catalogue = CatalogueTexts.open(
        dataset, *vocabularies, np.flatnonzero(dataset.column(schema.SPLIT) == schema.TRAIN)
    )
    reader = replace(reader, max_length=64)
    return Shop(catalogue, reader, Sizes(len(vocabularies[0]), len(vocabularies[1])))


def start(task: Pretext, shop: Shop) -> tuple[Encoder, PretextHead, torch.optim.Optimizer]:
    torch.manual_seed(0)
    shape = TinyEncoder(layers=2, hidden=32, heads=2)
    encoder = new_encoder(tiny_config(shape, shop.reader.tokenizer, shop.reader.max_length))
    start_matching(encoder, 1)
    head = task.head(encoder, shop.sizes)
    trained = [weight for module in (encoder, head) for weight in module.parameters() if weight.requires_grad]
    return encoder.train(), head.train(), torch.optim.AdamW(trained)


def judge(task: Pretext, shop: Shop, encoder: Encoder, head: PretextHead) -> dict[str, tuple[Outcome, torch.Tensor]]:
    """Score the held-out products of each locale; gives what is right beside it, where it is a class."""
    encoder.eval()
    head.eval()
    found = {}
    for locale in schema.LOCALES:
        batch = shop.batch(task, shop.rows(locale, held_out=True), Draw(seed=1, epoch=0))
        with torch.inference_mode():
            found[locale] = head(encoder, batch), batch.get("target", batch.get("label", batch.get("row")))
    encoder.train()
    head.train()
    return found


@pytest.mark.parametrize("name", LEARNING)
def test_it_learns_alone_what_holds_for_held_out_products_of_each_language(name, shop):
    task, steps, rate = LEARNING[name]
    trained_on = [shop.rows(locale, held_out=False) for locale in schema.LOCALES]
    encoder, head, optimizer = start(task, shop)
    before = judge(task, shop, encoder, head)
    random = np.random.default_rng(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 20) * (1 - step / steps)
        rows = [random.choice(of_locale, OF_A_LOCALE) for of_locale in trained_on]
        outcome = head(encoder, shop.batch(task, np.concatenate(rows), Draw(seed=0, epoch=step)))
        optimizer.zero_grad()
        outcome.loss_N.mean().backward()
        optimizer.step()
        head.after_step(encoder)
    for locale, (outcome, answers) in judge(task, shop, encoder, head).items():
        chance = float(torch.bincount(answers).max() / len(answers))  # to say what is most frequent
        right = int(outcome.right_N.sum())
        better = stats.binomtest(right, len(answers), chance, alternative="greater").pvalue
        assert better < 0.01, f"{locale}: {right} of {len(answers)} are right, beside a chance of {chance:.3f}"
        assert float(outcome.loss_N.mean()) < 0.9 * float(before[locale][0].loss_N.mean())


@pytest.mark.parametrize("name", TASKS)
def test_there_is_a_loss_for_each_item(name, shop):
    task = TASKS[name]
    encoder, head, _ = start(task, shop)
    batch = shop.batch(task, shop.catalogue.rows[:12], Draw(seed=0, epoch=0))
    outcome = head(encoder, batch)
    assert outcome.loss_N.shape == outcome.right_N.shape == (int(batch["items"]),)
    assert outcome.loss_N.dtype == torch.float32
    assert int(batch["items"]) >= 6


@pytest.mark.parametrize("name", TASKS)
def test_examples_are_the_same_for_the_same_seed_and_others_for_another_epoch(name, shop):
    task, rows = TASKS[name], shop.catalogue.rows[:12]
    one, same, other = (shop.batch(task, rows, Draw(seed=3, epoch=epoch)) for epoch in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one | same)
    changes = not isinstance(task, Product2Brand | Product2Color)
    assert changes != all(key in other and torch.equal(one[key], other[key]) for key in one)


def test_the_queue_is_the_same_on_two_processes_and_holds_the_keys_of_both(forks, tmp_path):
    assert forks.in_two(queue_worker.__file__, tmp_path) == [0, 0]
    first, second = (load_file(tmp_path / f"process-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())
    rows = [row for step in range(STEPS) for rank in (0, 1) for row in texts_of(step, rank)]
    place = len(rows) % PLACES
    assert int(first["head.queue.pointer"]) == place
    assert first["head.queue.rows_Q"].roll(-place).tolist() == rows[-PLACES:]
    assert len({tuple(key) for key in first["head.queue.keys_QD"].tolist()}) == PLACES
