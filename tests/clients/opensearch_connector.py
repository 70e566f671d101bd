"""What OpenSearch's connector makes of its blueprint: the request it sends, what it reads back.

The functions are ``connector.pre_process.cohere.rerank`` and ``connector.post_process.cohere.rerank``: the query comes
as text and is escaped, unless it is JSON; the documents come as JSON, written by Gson, which escapes what HTML would
read; ``top_n`` is their number. Of the answer, each score is cast to a double and put at the place of its index. A
number of more than 18 characters is read as a decimal, on which the cast fails.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST_DOUBLE = 18


def escaped(text: str) -> str:
    """Escape a text as Apache's `StringEscapeUtils.escapeJson`: slashes too, and all that is not ASCII."""
    return json.dumps(text)[1:-1].replace("/", "\\/")


def by_gson(texts: Sequence[str]) -> str:
    escapes = {character: f"\\u{ord(character):04x}" for character in "<>&='\u2028\u2029"}
    return json.dumps(list(texts), ensure_ascii=False, separators=(",", ":")).translate(str.maketrans(escapes))


def request(connector: Mapping[str, Any], query: str, texts: Sequence[str]) -> tuple[str, dict[str, str], bytes]:
    """Give address, headers and body of a request."""
    (action,) = connector["actions"]
    assert action["pre_process_function"] == "connector.pre_process.cohere.rerank"
    values = {f"credential.{name}": value for name, value in connector["credential"].items()}
    values |= {f"parameters.{name}": value for name, value in connector["parameters"].items()}
    values |= {"parameters.query": escaped(query), "parameters.documents": by_gson(texts)}
    values["parameters.top_n"] = str(len(texts))

    def filled(template: str) -> str:
        return re.sub(r"\$\{(.+?)\}", lambda found: values[found[1]], template)

    headers = {name: filled(value) for name, value in action["headers"].items()}
    body = filled(action["request_body"])
    json.loads(body)  # what is not JSON is not sent
    return filled(action["url"]), headers, body.encode("utf-8")


def double(literal: str) -> float:
    assert len(literal) <= LONGEST_DOUBLE, f"{literal} is read as a decimal, which is no double"
    return float(literal)


def scores(connector: Mapping[str, Any], answer: str) -> list[float]:
    """Read the scores off an answer, in the order of the documents."""
    (action,) = connector["actions"]
    assert action["post_process_function"] == "connector.post_process.cohere.rerank"
    results = json.loads(answer, parse_float=double)["results"]
    found: list[float | None] = [None] * len(results)
    for result in results:
        assert type(result["index"]) is int
        assert type(result["relevance_score"]) is float
        found[result["index"]] = result["relevance_score"]
    assert None not in found
    return [score for score in found if score is not None]
