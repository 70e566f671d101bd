"""Which of an export's engines `auto` takes, and what it asks the processor."""

from dataclasses import replace

import pytest

from zhichun.cli.tables import checks_table
from zhichun.core import device as processor
from zhichun.score.export import exported
from zhichun.score.export.export_folder import Check, ExportConfig


@pytest.fixture
def config(tiny_export):
    return ExportConfig.load(tiny_export)


def chosen(config, folder, monkeypatch, *, bf16, int8, **checks):
    monkeypatch.setattr(exported, "RANKING", tuple(
        (name, (lambda: bf16) if name.endswith("bf16") else (lambda: int8) if "int8" in name else (lambda: True))
        for name, _ in exported.RANKING
    ))  # fmt: skip
    return exported.choose(replace(config, checks={**config.checks, **checks}), folder)


SAFE = Check(pairs=100, labels=0.99, score=0.1, logits=1.0)
UNSAFE = Check(pairs=100, labels=0.98, score=0.0, logits=1.0)


@pytest.mark.parametrize(
    ("units", "int8", "expected"),
    [
        ({"bf16": True, "int8": True}, SAFE, "openvino-int8"),
        ({"bf16": True, "int8": True}, UNSAFE, "openvino-bf16"),
        ({"bf16": True, "int8": False}, SAFE, "openvino-bf16"),
        ({"bf16": False, "int8": False}, SAFE, "openvino"),
    ],
)
def test_auto_takes_the_fastest_that_is_safe_and_that_the_processor_has_units_for(
    config, tiny_export, monkeypatch, units, int8, expected
):
    checks = {"openvino-int8": int8, "openvino-bf16": SAFE}
    assert chosen(config, tiny_export, monkeypatch, **units, **checks) == expected


def test_auto_takes_what_is_there_even_where_it_is_not_safe(config, tiny_export, monkeypatch):
    only = replace(config, checks={"openvino-int8": UNSAFE})
    assert chosen(only, tiny_export, monkeypatch, bf16=True, int8=True) == "openvino-int8"


def test_a_regressor_is_safe_by_its_scores():
    near, far = (Check(pairs=9, labels=None, score=score, logits=1.0) for score in (0.01, 0.02))
    assert near.safe
    assert not far.safe
    cells = [list(column.cells) for column in checks_table({"onnx": near, "onnx-int8": far}).columns]
    assert cells == [["onnx", "onnx-int8"], ["", ""], ["±0.01000", "±0.02000"], ["±1.00000"] * 2, ["yes", "no"]]


def test_the_processor_s_units_are_read_off_the_system(monkeypatch, tmp_path):
    known = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "Path", lambda _: known)
    for text, bf16, int8 in (
        ("flags\t: fpu avx2 avx512_vnni avx512_bf16\n", True, True),
        ("Features\t: fp asimddp i8mm\n", False, True),
        ("flags\t: fpu avx2\n", False, False),
        ("flags\t: fpu sse\n", False, False),
    ):
        known.write_text(text)
        processor.known.cache_clear()
        assert (processor.has_bf16(), processor.has_int8()) == (bf16, int8)
        assert processor.multiplies_bytes() == ("sse" not in text)
    processor.known.cache_clear()
