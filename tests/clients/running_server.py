"""What a test knows of the server: its address, and what it has to answer."""

import json
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zhichun import Scorer
from zhichun.core.tasks import Prediction
from zhichun.score.given import Product

KEY = "a-key-of-tests"
MOST_DOCUMENTS, MOST_WAITING = 20, 100
QUERY = 'zapatillas «rápidas» 靴 "13" \\ a/b 👟'
# Texts that go wrong where a client or a template does not escape them.
DOCUMENTS = (
    "Trail running shoes",
    "Zapatillas de correr, niño, 42½",
    "ランニングシューズ 靴 👟 軽量",
    "Laces \"flat\" for \\shoes\\ & <b>boots</b> $5 'x' =",
    "Desk lamp\n\twith a line\r\nand a tab",
    "name: none of ours",
)


@dataclass(frozen=True)
class Running:
    """A running server and the scorer in it."""

    url: str
    scorer: Scorer

    def predict(self, query: str, products: Sequence[Product], locale: str = "us") -> Prediction:
        """Say what the scorer itself predicts."""
        return self.scorer.score(query, products, locale)

    def ranked(self, query: str, products: Sequence[Product], locale: str = "us") -> list[tuple[int, float]]:
        """Give place and score of each product, the best first; the scores differ, so that there is one order."""
        scores = self.predict(query, products, locale).score.tolist()
        assert len(set(scores)) == len(scores)
        return sorted(enumerate(scores), key=lambda item: -item[1])

    def counted(self, name: str) -> float:
        """Read a line of ``/metrics``; 0 where there is none."""
        request = urllib.request.Request(f"{self.url}/metrics", headers={"X-API-Key": KEY})
        with urllib.request.urlopen(request, timeout=10) as response:
            lines = response.read().decode("utf-8").splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> str:
        """Post a body as it is, for the text of the answer."""
        request = urllib.request.Request(self.url + path, body, dict(headers), method="POST")
        with urllib.request.urlopen(request, timeout=10) as response:
            return str(response.read().decode("utf-8"))

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """Post JSON with the key."""
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        return json.loads(self.post(path, json.dumps(body).encode(), headers))
