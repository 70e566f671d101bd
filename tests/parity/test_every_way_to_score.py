"""The same pairs by every way to score them: a table of ways, each with how far its scores may be from padded torch."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.score.scorer import Scorer
from zhichun.text.pairs import PairTexts

FP32, BF16, INT8 = 1e-5, 2e-3, 5e-3


class Texts(NamedTuple):
    """Pairs as `Scorer.read` takes them."""

    queries: list[str]
    products: dict[str, list[str | None]]
    locales: list[str]


def by_torch(attention: str, request: pytest.FixtureRequest, texts: Texts) -> Sequence[float]:
    scorer = Scorer.load(request.getfixturevalue("tiny_run"), device="cpu")
    scorer.engine.model.encoder.use_attention(attention)
    return scorer.predict(scorer.read(PairTexts(*texts))).score


def by_export(engine: str, request: pytest.FixtureRequest, texts: Texts) -> Sequence[float]:
    scorer = Scorer.load(request.getfixturevalue("tiny_export"), engine=engine)
    return scorer.predict(scorer.read(PairTexts(*texts))).score


def by_server(request: pytest.FixtureRequest, texts: Texts) -> Sequence[float]:
    pytest.importorskip("fastapi")
    httpx2 = pytest.importorskip("httpx2")
    names = list(texts.products)
    rows = zip(*texts.products.values(), strict=True)
    documents = [
        {"locale": locale, **{name: text for name, text in zip(names, row, strict=True) if text is not None}}
        for locale, row in zip(texts.locales, rows, strict=True)
    ]
    body = {"queries": texts.queries, "documents": documents}
    answer = httpx2.post(f"{request.getfixturevalue('server')}/score", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return [each["score"] for each in answer.json()["data"]]


WAYS = {
    "packed torch": (partial(by_torch, "packed"), FP32),
    "onnx": (partial(by_export, "onnx"), FP32),
    "openvino": (partial(by_export, "openvino"), FP32),
    "openvino-bf16": (partial(by_export, "openvino-bf16"), BF16),
    "onnx-int8": (partial(by_export, "onnx-int8"), INT8),
    "openvino-int8": (partial(by_export, "openvino-int8"), INT8),
    "the server's answer": (by_server, FP32),
}


@pytest.fixture(scope="module")
def texts(tiny_dataset) -> Texts:
    """Pairs of all three locales, and some that are empty or odd."""
    examples = pq.read_table(tiny_dataset / schema.EXAMPLES_FILE).slice(0, 60)
    products = pq.read_table(tiny_dataset / schema.PRODUCTS_FILE).to_pylist()
    by_id = {(product[schema.PRODUCT_ID], product[schema.LOCALE]): product for product in products}
    locales = examples[schema.LOCALE].to_pylist()
    chosen = [by_id[key] for key in zip(examples[schema.PRODUCT_ID].to_pylist(), locales, strict=True)]
    columns = {name: [product[name] for product in chosen] for name in schema.TEXT_COLUMNS}
    odd = (("靴", "👟 <b>x</b>", "jp"), ("a", "x " * 500, "es"), ("shoes", "", "us"))
    for name, column in columns.items():
        column += [title if name == schema.TITLE else None for _, title, _ in odd]
    return Texts(
        examples[schema.QUERY].to_pylist() + [query for query, _, _ in odd],
        columns,
        locales + [locale for _, _, locale in odd],
    )


@pytest.fixture(scope="module")
def expected(request, texts) -> np.ndarray:
    return by_torch("padded", request, texts)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_scores_of_padded_torch(way, request, texts, expected):
    score, tolerance = WAYS[way]
    assert np.ptp(expected) > 0.02, "the pairs differ, or nothing would be seen"
    assert np.abs(np.asarray(score(request, texts)) - expected).max() < tolerance
