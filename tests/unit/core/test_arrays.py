import numpy as np
import pyarrow as pa
import pytest

from zhichun.core.arrays import Ragged

ROWS = [[1, 2, 3], [], [4], [], [5, 6]]


def rows_of(ragged):
    return [ragged[row].tolist() for row in range(len(ragged))]


def test_rows_come_back_as_they_were_put_in():
    ragged = Ragged.from_rows(ROWS)
    assert rows_of(ragged) == ROWS
    assert ragged.lengths.tolist() == [3, 0, 1, 0, 2]
    assert (ragged[0].dtype, ragged.lengths.dtype) == (np.int32, np.int64)


@pytest.mark.parametrize("rows", [[], [[]], [[], []]])
def test_no_values_at_all(rows):
    ragged = Ragged.from_rows(rows)
    assert rows_of(ragged) == rows
    assert ragged.lengths.tolist() == [0] * len(rows)
    assert ragged.without([1]).to_arrow().to_pylist() == rows


def test_arrow_chunks_are_one_sequence_of_rows_and_are_not_copied():
    chunks = [pa.array(rows, pa.list_(pa.int32())) for rows in (ROWS[:2], [], ROWS[2:])]
    ragged = Ragged.from_arrow(chunks)
    assert rows_of(ragged) == ROWS
    assert ragged.to_arrow().to_pylist() == ROWS
    assert ragged.lengths.tolist() == [3, 0, 1, 0, 2]
    assert np.shares_memory(ragged[0], chunks[0].values.to_numpy())


def test_a_slice_of_an_arrow_column_keeps_its_own_rows():
    column = pa.array(ROWS, pa.list_(pa.int32())).slice(2, 3)
    assert rows_of(Ragged.from_arrow([column])) == ROWS[2:]


def test_values_can_be_left_out_of_every_row():
    ragged = Ragged.from_arrow([pa.array(rows, pa.list_(pa.int32())) for rows in (ROWS[:3], ROWS[3:])])
    assert rows_of(ragged.without([2, 4, 6])) == [[1, 3], [], [], [], [5]]
    assert rows_of(ragged.without([])) == ROWS
    assert rows_of(ragged) == ROWS
