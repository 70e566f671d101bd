"""Keys: where they are read, how a client sends them, and what lets nobody in."""

import base64

import pytest

from zhichun.core.errors import UserError
from zhichun.serve.guard import OPEN, Keys


def basic(text):
    return "Basic " + base64.b64encode(text).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer right"},
        {"authorization": "bearer  right "},
        {"authorization": basic(b"anyone:right")},
        {"x-api-key": "right"},
        {"x-api-key": "wrong", "authorization": "Bearer right"},
    ],
)
def test_a_key_opens(headers):
    assert Keys.of(["other", "right"]).admit(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "right"},
        {"authorization": "Bearer"},
        {"authorization": "Basic %%%"},
        {"authorization": basic(b"right")},
        {"x-api-key": ""},
        {"x-api-key": "\xff"},
    ],
)
def test_anything_else_does_not(headers):
    assert not Keys.of(["right"]).admit(headers)
    assert OPEN.admit(headers)


def test_keys_come_from_file_and_environment(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# ours\none\n\n two \n")
    keys = Keys.load(file, {"ZHICHUN_API_KEYS": "three, four,"})
    assert len(keys.hashes) == 4
    assert all(keys.admit({"x-api-key": key}) for key in ("one", "two", "three", "four"))
    assert not Keys.load(None, {})
    assert "one" not in repr(keys)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_of_keys_may_begin_with_a_mark(tmp_path, encoding):
    (tmp_path / "keys").write_bytes("one\r\ntwo\r\n".encode(encoding))
    assert Keys.load(tmp_path / "keys", {}) == Keys.of(["one", "two"])


def test_a_file_without_a_key_is_refused(tmp_path):
    (tmp_path / "keys").write_text("# none\n")
    for name in ("keys", "no such file"):
        with pytest.raises(UserError, match="key"):
            Keys.load(tmp_path / name, {})
