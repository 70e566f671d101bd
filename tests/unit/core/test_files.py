import pytest

from zhichun.core.errors import UserError
from zhichun.core.files import read_json, replacing, write_json, write_text


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "figures.json"
    with replacing(path) as partial:
        partial.write_text("whole")
        assert partial.parent == tmp_path  # a move within one file system is one step
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_there_stays_when_writing_fails(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("old")

    def fail():
        with replacing(path) as partial:
            partial.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_half_written_file_of_a_killed_process_is_no_obstacle(tmp_path):
    with replacing(tmp_path / "a.txt") as partial:
        left_over = partial.name
        partial.write_text("")
    (tmp_path / left_over).write_text("left over and longer than what comes")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert not (tmp_path / left_over).exists()


def test_json_goes_through_unchanged_and_is_readable(tmp_path):
    value = {"query": "赤い靴", "f1.E": 0.5, "confusion": [[1, 2], [3, 4]], "none": None}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "赤い靴" in (tmp_path / "a.json").read_text("utf-8")


@pytest.mark.parametrize("content", [None, b"", b'{"a": ', b"\xff\xfe"])
def test_a_missing_or_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.json: cannot be read") as error:
        read_json(path)
    assert error.value.remedy
