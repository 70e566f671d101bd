"""How numbers are written."""

import json

import numpy as np
import pytest

pytest.importorskip("fastapi")

from zhichun.serve.api.endpoint import decimals, reply


@pytest.mark.parametrize("shape", [(1000,), (250, 4), (0,)])
def test_decimals_mean_the_same_float32_and_are_short(shape):
    values = np.random.default_rng(1).random(shape, dtype=np.float32) ** 9
    written = decimals(values)
    np.testing.assert_array_equal(np.array(written, np.float32), values, strict=True)
    assert all(len(json.dumps(number)) <= 18 for number in np.ravel(written).tolist())


def test_whole_numbers_and_extremes_are_written_as_floats():
    values = np.array([0, 1, -1, 1e-45, 5e-7, 0.2, 3.4e38], np.float32)
    assert json.dumps(decimals(values)) == "[0.0, 1.0, -1.0, 1e-45, 5e-07, 0.2, 3.4e+38]"
    assert reply([decimals(values)[:2]]).body == b"[[0.0,1.0]]"
