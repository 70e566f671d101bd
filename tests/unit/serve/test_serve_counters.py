"""What is counted, for Prometheus: of one process, and of several as their sum."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")
from prometheus_client.parser import text_string_to_metric_families

from zhichun.serve.limits import FOLDER_VARIABLE, Metrics


def values_of(text: str) -> dict[str, float]:
    return {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}


def test_each_application_counts_for_itself():
    first, second = Metrics(), Metrics()
    first.pairs.inc(3)
    second.pairs.inc(4)
    first.gauge("zhichun_queue_pairs", "Pairs that wait.", lambda: 2)
    of_first, of_second = (values_of(metrics.text().decode()) for metrics in (first, second))
    assert (of_first["zhichun_pairs_total"], of_second["zhichun_pairs_total"]) == (3, 4)
    assert of_first["zhichun_queue_pairs"] == 2
    assert "zhichun_queue_pairs" not in of_second
    assert not [name for name in of_first if name.endswith("_created")]


PROCESS = """
import sys
from zhichun.serve.limits import Metrics
metrics, pairs, waiting = Metrics(), int(sys.argv[1]), int(sys.argv[2])
metrics.requests.labels(path="/rerank", status="200").inc()
metrics.pairs.inc(pairs)
metrics.rounds.observe(pairs)
metrics.gauge("zhichun_queue_pairs", "Pairs that wait.", lambda: waiting)
print(metrics.text().decode())
"""


def test_whichever_of_several_processes_is_asked_gives_the_sum(tmp_path: Path):
    environment = {**os.environ, FOLDER_VARIABLE: str(tmp_path)}
    first, second = (
        values_of(
            subprocess.run(
                [sys.executable, "-c", PROCESS, *arguments], env=environment, check=True, capture_output=True, text=True
            ).stdout
        )
        for arguments in (("3", "2"), ("4", "5"))
    )
    assert (first["zhichun_pairs_total"], second["zhichun_pairs_total"]) == (3, 7)
    assert (first["zhichun_requests_total"], second["zhichun_requests_total"]) == (1, 2)
    assert (first["zhichun_round_pairs_sum"], second["zhichun_round_pairs_sum"]) == (3, 7)
    assert (first["zhichun_queue_pairs"], second["zhichun_queue_pairs"]) == (2, 7)
