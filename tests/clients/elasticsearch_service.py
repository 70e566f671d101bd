"""What Elasticsearch's `custom` inference service makes of its settings: the request it sends, what it reads back.

Placeholders are filled with JSON in the body and with plain text elsewhere; one that is left over is an error. Paths
are ``$`` followed by ``.name`` and ``[*]``; a name that is not there is an error.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

PLACEHOLDER = re.compile(r"\$\{(.*?)\}")


def filled(template: str, values: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda found: values[found[1]], template)


def request(settings: Mapping[str, Any], query: str, texts: Sequence[str]) -> tuple[dict[str, str], bytes]:
    """Give headers and body of a rerank request."""
    secrets = settings["secret_parameters"]
    as_json = {name: json.dumps(value) for name, value in secrets.items()}
    as_json |= {"query": json.dumps(query, ensure_ascii=False), "input": json.dumps(list(texts), ensure_ascii=False)}
    headers = {name: filled(value, secrets) for name, value in settings["headers"].items()}
    return headers, filled(settings["request"], as_json).encode("utf-8")


def extract(value: Any, path: str) -> Any:
    if not path:
        return value
    if path.startswith("[*]"):
        assert isinstance(value, list)
        return [extract(item, path[3:]) for item in value]
    found = re.match(r"\.([^.\[]+)(.*)", path)
    assert found
    return extract(value[found[1]], found[2])


def ranked(settings: Mapping[str, Any], answer: str) -> list[tuple[int, float]]:
    """Read places and scores off an answer; an empty list is refused."""
    paths, content = settings["response"]["json_parser"], json.loads(answer)
    places = extract(content, paths["reranked_index"].removeprefix("$"))
    scores = extract(content, paths["relevance_score"].removeprefix("$"))
    assert places
    assert len(places) == len(scores)
    assert {type(place) for place in places} == {int}
    return list(zip(places, scores, strict=True))
