"""What stands before the endpoints, on a running server: bodies, hosts, other sites, deadlines."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi")
BODY = json.dumps({"query": "shoes", "texts": ["red", "blue"]}).encode()


@pytest.fixture
def ask(server):
    def ask(body, method="POST", path="/rerank", chunked=False, **headers):
        at = urlsplit(server)
        connection = http.client.HTTPConnection(at.hostname, at.port, timeout=30)
        content = iter([body[place : place + 65536] for place in range(0, len(body), 65536)]) if chunked else body
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, content, {"Content-Type": "application/json", **names})
        answer = connection.getresponse()
        said = answer.status, answer.headers, answer.read()
        connection.close()
        return said

    return ask


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_may_be_so_large_and_no_larger(ask, chunked):
    assert ask(BODY, chunked=chunked)[0] == 200
    status, _, said = ask(b" " * (17 << 20), chunked=chunked)
    assert status == 413
    assert set(json.loads(said)) == {"detail", "error", "error_type"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8080"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
)
def test_other_names_and_other_sites_are_refused(ask, headers):
    assert ask(BODY, **headers)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:80"])
def test_names_of_this_machine_are_not(ask, host):
    assert ask(BODY, Host=host)[0] == 200


def test_limits_of_documents_and_texts(ask):
    assert ask(json.dumps({"query": "a", "texts": ["b"] * 1001}).encode())[0] == 413
    assert ask(json.dumps({"query": "a", "texts": ["b" * 100_001]}).encode())[0] == 422
    assert ask(json.dumps({"query": "a" * 10_001, "texts": ["b"]}).encode())[0] == 422
    assert ask(json.dumps({"query": " ", "texts": ["b"]}).encode())[0] == 422


def test_no_time_gives_504_or_the_incoming_order_when_asked(ask):
    texts = [f"late {number}" for number in range(500)]
    body = json.dumps({"query": "shoes", "documents": texts}).encode()
    status, _, said = ask(body, X_Request_Timeout="0.000001")
    assert (status, list(json.loads(said))) == (504, ["detail"])
    status, headers, said = ask(body, X_Request_Timeout="0.000001", X_On_Timeout="incoming-order")
    assert (status, headers["X-Order"]) == (200, "incoming")
    said = json.loads(said)
    assert [each["index"] for each in said["results"]] == list(range(500))
    assert said["meta"]["order"] == "incoming"
    for wrong in ("0", "-1", "nan", "soon"):
        assert ask(body, X_Request_Timeout=wrong)[0] == 422


def test_each_interface_has_its_own_errors(ask):
    wrong = json.dumps({"query": 1, "documents": ["a"]}).encode()
    for path, names in (
        ("/rerank", {"detail"}),
        ("/v1/rerank", {"detail"}),
        ("/v2/rerank", {"message"}),
        ("/score", {"error"}),
        ("/predict", {"error", "error_type"}),
    ):
        status, _, said = ask(wrong, path=path)
        assert (status, set(json.loads(said))) == (422, names)
    assert ask(BODY, path="/nothing")[0] == 404
    assert ask(b"", method="GET")[0] == 405
    assert ask(BODY, Content_Type="text/plain")[0] == 415
