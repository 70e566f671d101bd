"""Files and folders that are whole or not there, however they end, and whoever else writes them."""

import multiprocessing
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from zhichun.core.errors import UserError
from zhichun.core.files import (
    LOCK_FILE,
    NotWritten,
    append_text,
    in_use,
    new_file,
    new_folder,
    read_json,
    write_json,
    write_text,
)


def names_in(folder):
    return sorted(each.name for each in folder.iterdir())


def is_ours(folder):
    return (folder / "export.json").is_file()


def ended_process():
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    return ended.pid


@contextmanager
def another_process(work, *arguments):
    """Run a function in another process until it says that it has begun, and again until it is to end."""
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=work, args=(there, *arguments))
    child.start()
    there.close()  # or a child that failed would be waited for
    try:
        assert here.recv() == "begun"
        yield child, here
    finally:
        if child.is_alive():
            here.send("end")
        child.join()


def has_folder(pipe, path):
    with in_use(path):
        pipe.send("begun")
        pipe.recv()


def writes_folder(pipe, path, options):
    with new_folder(path, **options) as partial:
        (partial / "a.txt").write_text("theirs")
        pipe.send("begun")
        pipe.recv()


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "above" / "figures.json"
    with new_file(path) as partial:
        partial.write_text("whole")
        assert partial.parent == path.parent  # a move within one file system is one step
        assert not partial.match("*.json")  # nobody who looks for files of a kind finds it
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), UserError("x")], ids=repr)
@pytest.mark.parametrize("make", [new_file, new_folder])
def test_what_failed_leaves_nothing(tmp_path, make, error):
    def fail():
        with make(tmp_path / "a") as partial:
            (partial / "half.txt" if partial.is_dir() else partial).write_text("half")
            raise error

    with pytest.raises(type(error)) as raised:
        fail()
    assert raised.value is error
    assert not names_in(tmp_path)


def test_what_was_there_stays_when_writing_fails(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail():
        with new_file(tmp_path / "a") as partial:
            partial.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(NotWritten, match=r"the disk is full.*; what was there before is as it was") as error:
        fail()
    assert error.value.remedy
    assert (tmp_path / "a").read_text() == "old"
    assert names_in(tmp_path) == ["a"]


def test_two_writers_at_once_end_in_one_whole_file(tmp_path):
    path = tmp_path / "same.txt"
    path.write_text("old whole")
    with new_file(path) as first, new_file(path) as second:
        first.write_text("A" * 1000)
        second.write_text("half of B")
        with second.open("a") as file:
            file.write(", and the other half")
            first_name = path.read_text()
    assert first_name == "old whole"
    assert path.read_text() == "A" * 1000  # who ended last
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "a.txt")
    (tmp_path / "folder").symlink_to(tmp_path / "real" / "made")
    write_text(tmp_path / "link.txt", "new")
    with new_folder(tmp_path / "folder") as partial:
        (partial / "b.txt").write_text("b")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real" / "a.txt").read_text() == "new"
    assert (tmp_path / "real" / "made" / "b.txt").read_text() == "b"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_cleared_and_what_a_live_one_writes_is_not(tmp_path, kind):
    names = [f"a.partial-{process}-0badcafe" for process in (ended_process(), os.getpid(), os.getppid())]
    for name in names:
        (tmp_path / name).mkdir() if kind == "folder" else (tmp_path / name).write_text("half")
    with new_file(tmp_path / "a") as live:
        with new_file(tmp_path / "a") as partial:
            partial.write_text("new")
        live.write_text("newer")
    # One of this process's own number is of an earlier one, in a container, unless it is locked.
    assert names_in(tmp_path) == ["a", names[2]]
    assert (tmp_path / "a").read_text() == "newer"


def test_names_that_only_look_like_ours_are_left_alone(tmp_path):
    for name in ("a.partial-x", "a.partial-of-mine", "a.old-photo-album", "ab.partial-1-2"):
        (tmp_path / name).write_text("mine")
    write_text(tmp_path / "a", "new")
    assert len(list(tmp_path.iterdir())) == 5


def test_a_folder_appears_when_it_is_whole(tmp_path):
    (tmp_path / "a").mkdir()  # an empty one is no obstacle
    with new_folder(tmp_path / "a") as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "b.txt").write_text("b")
        assert not list((tmp_path / "a").iterdir())
    assert (tmp_path / "a" / "inner" / "b.txt").read_text() == "b"
    assert names_in(tmp_path) == ["a"]


def test_files_and_folders_are_written_within_a_folder_that_is_being_written(tmp_path):
    with new_folder(tmp_path / "a") as partial:
        write_text(partial / "b.txt", "b")
        with new_folder(partial / "c") as inner:
            write_text(inner / "d.txt", "d")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.txt")) == ["a/b.txt", "a/c/d.txt"]


@pytest.mark.parametrize(
    ("there", "options", "message"),
    [
        ("a", {}, r"a: is a file, not a folder\.\nName a folder that does not exist yet"),
        ("a/export.json", {}, r"a: the folder exists\.\nName another, or replace it with --overwrite"),
        ("a/mine.txt", {"replaceable": is_ours}, r"a: the folder holds something else\.\nName another folder"),
        ("a/mine.txt", {"replaceable": is_ours, "overwrite": True}, r"a: the folder holds something else\."),
    ],
)
def test_a_folder_that_is_there_is_refused_before_the_work(tmp_path, there, options, message):
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("mine")
    with pytest.raises(UserError, match=message), new_folder(tmp_path / "a", **options):
        pytest.fail("the work began")
    assert (tmp_path / there).read_text() == "mine"
    assert names_in(tmp_path) == ["a"]


def test_a_folder_is_replaced_when_the_new_one_is_whole(tmp_path):
    with new_folder(tmp_path / "a") as partial:
        (partial / "export.json").write_text("old")
        (partial / "old.txt").write_text("old")
    with new_folder(tmp_path / "a", overwrite=True, replaceable=is_ours) as partial:
        (partial / "export.json").write_text("new")
        assert (tmp_path / "a" / "export.json").read_text() == "old"
    assert names_in(tmp_path / "a") == ["export.json"]
    assert names_in(tmp_path) == ["a"]


def test_a_folder_that_lost_its_name_to_a_kill_gets_it_back(tmp_path):
    old = tmp_path / f"a.old-{ended_process()}-0badcafe"  # between the two renames of a process that replaces it
    old.mkdir()
    (old / "b.txt").write_text("b")
    with pytest.raises(UserError, match="the folder exists"), new_folder(tmp_path / "a"):
        pytest.fail("the work began")
    assert (tmp_path / "a" / "b.txt").read_text() == "b"
    assert names_in(tmp_path) == ["a"]


def test_a_folder_that_another_process_is_writing_is_refused(tmp_path):
    with (
        another_process(writes_folder, tmp_path / "a", {}) as (child, _),
        pytest.raises(UserError, match=f"a: process {child.pid} is writing it\\.\nWait for it"),
        new_folder(tmp_path / "a"),
    ):
        pytest.fail("the work began")
    assert (tmp_path / "a" / "a.txt").read_text() == "theirs"
    assert names_in(tmp_path) == ["a"]


def test_a_folder_whose_name_begins_like_one_that_is_being_written_is_another(tmp_path):
    with another_process(writes_folder, tmp_path / "a.v2", {}), new_folder(tmp_path / "a") as partial:
        (partial / "a.txt").write_text("ours")
    assert names_in(tmp_path) == ["a", "a.v2"]


def test_of_folders_that_are_the_same_whoever_makes_them_the_first_stays(tmp_path):
    options = {"first_wins": True}
    with another_process(writes_folder, tmp_path / "a", options) as (child, pipe):
        with new_folder(tmp_path / "a", **options) as partial:
            (partial / "a.txt").write_text("ours")
            pipe.send("end")
            child.join()
        assert (tmp_path / "a" / "a.txt").read_text() == "theirs"
    assert names_in(tmp_path) == ["a"]


def test_a_folder_made_meanwhile_by_something_else_is_not_replaced(tmp_path):
    def write():
        with new_folder(tmp_path / "a") as partial:
            (partial / "b.txt").write_text("ours")
            (tmp_path / "a").mkdir()
            (tmp_path / "a" / "b.txt").write_text("mine")

    with pytest.raises(UserError, match="another process made the folder meanwhile"):
        write()
    assert (tmp_path / "a" / "b.txt").read_text() == "mine"
    assert names_in(tmp_path) == ["a"]


def writes_too_much(path, folder):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        with new_folder(path) if folder else new_file(path) as partial:
            try:
                (partial / "b" if folder else partial).write_bytes(b"x" * 5000)
            except OSError:
                raise UserError("this encoder cannot be exported.") from None  # what a library makes of it
    except NotWritten as error:
        os._exit(11 if "grew over its limit; nothing of it is left" in str(error) else 12)
    os._exit(13)


@pytest.mark.parametrize("folder", [False, True])
def test_a_full_disk_is_told_whatever_a_library_makes_of_it(tmp_path, folder):
    child = multiprocessing.get_context("fork").Process(target=writes_too_much, args=(tmp_path / "a", folder))
    child.start()
    child.join()
    assert child.exitcode == 11
    assert not names_in(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("make", [new_file, new_folder, in_use])
def test_a_place_that_may_not_be_written_is_named(tmp_path, make):
    tmp_path.chmod(0o500)
    with pytest.raises(NotWritten, match="a: cannot be written \\(Permission denied\\)"), make(tmp_path / "a"):
        pytest.fail("the work began")


@pytest.mark.parametrize("make", [new_file, new_folder, in_use])
@pytest.mark.parametrize("name", ["file/a", "file/deep/deeper/a", "x" * 300])
def test_a_path_that_cannot_be_is_named(tmp_path, make, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritten, match="cannot be written") as error, make(tmp_path / name):
        pytest.fail("the work began")
    assert error.value.file == (tmp_path / name)
    assert error.value.remedy


def test_a_file_that_is_a_folder_is_refused(tmp_path):
    with pytest.raises(NotWritten, match="is a folder, not a file"):
        write_text(tmp_path, "x")


def test_an_error_of_what_is_read_meanwhile_is_not_blamed_on_what_is_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"), new_file(tmp_path / "a" / "b"):
        (tmp_path / "gone").read_text()


def test_a_folder_is_in_use_by_one_process_at_a_time(tmp_path):
    with (
        another_process(has_folder, tmp_path / "run") as (child, _),
        pytest.raises(UserError, match=f"run: the folder is in use by process {child.pid} \\(.+\\)\\.\nWait"),
        in_use(tmp_path / "run"),
    ):
        pytest.fail("the work began")
    with in_use(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK_FILE).is_file()
    assert not names_in(tmp_path)  # nothing was written into it


def test_a_file_is_no_folder_to_have(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match=r"run: is a file, not a folder\.\nName a folder"), in_use(tmp_path / "run"):
        pytest.fail("the work began")


def test_a_folder_whose_process_was_killed_is_free(tmp_path):
    with another_process(has_folder, tmp_path / "run") as (child, _):
        child.kill()
        child.join()
    assert (tmp_path / "run" / LOCK_FILE).is_file()
    with in_use(tmp_path / "run"):
        (tmp_path / "run" / "a.txt").write_text("a")
    assert names_in(tmp_path / "run") == ["a.txt"]


def test_what_a_killed_process_left_in_a_folder_goes_when_another_has_it(tmp_path):
    (tmp_path / "checkpoint" / f"step-9.partial-{ended_process()}-0badcafe").mkdir(parents=True)
    (tmp_path / f"a.txt.partial-{os.getppid()}-0badcafe").write_text("of one that lives")
    with in_use(tmp_path):
        assert names_in(tmp_path / "checkpoint") == []
        assert len(names_in(tmp_path)) == 3


def test_a_line_is_appended_and_a_full_disk_is_told(tmp_path):
    append_text(tmp_path / "a.txt", "one\n")
    append_text(tmp_path / "a.txt", "two\n")
    assert (tmp_path / "a.txt").read_text() == "one\ntwo\n"
    with pytest.raises(NotWritten, match="cannot be written"):
        append_text(tmp_path, "three\n")
    if Path("/dev/full").exists():
        with pytest.raises(NotWritten, match="the disk is full"):
            append_text(Path("/dev/full"), "x")


def test_a_lock_goes_with_the_folder_that_is_removed(tmp_path):
    with in_use(tmp_path / "parts"):
        (tmp_path / "parts" / LOCK_FILE).unlink()
        (tmp_path / "parts").rmdir()
        with in_use(tmp_path / "parts"):  # another one of the same name
            pass
    assert not names_in(tmp_path)


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
