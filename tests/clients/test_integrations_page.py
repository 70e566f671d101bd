"""The examples of `docs/integrations.md`, run as they stand there, with the address and the key of a running server."""

import json
import re
import shutil
import subprocess

import integrations_page as page
import pytest
from running_server import KEY, Running

TEXTS = ["Desk lamp", "Trail running shoes", "Laces for running shoes"]
PACKAGES = {
    "Cohere's SDK": "cohere",
    "LangChain": "langchain_cohere",
    "LlamaIndex": "llama_index.postprocessor.cohere_rerank",
    "Haystack": "haystack_integrations.components.rankers.huggingface_api",
}


def for_server(example: str, running: Running) -> str:
    assert page.ADDRESS in example or "reranker." in example or "client." in example
    return example.replace(page.ADDRESS, running.url).replace(page.KEY, KEY)


def lines(running: Running, query: str, products: list, locale: str = "us", labels: bool = False) -> list[str]:
    """Write what an example should print: the two best."""
    predicted, ranked = running.predict(query, products, locale), running.ranked(query, products, locale)[:2]
    titles = [product if isinstance(product, str) else product["title"] for product in products]
    return [f"{score:.4f} {f'{predicted.labels[place]} ' if labels else ''}{titles[place]}" for place, score in ranked]


def test_every_section_is_tested():
    assert {"curl", "Elasticsearch", "OpenSearch", *PACKAGES} == set(page.headings())


@pytest.mark.parametrize("heading", PACKAGES)
def test_python_examples_print_the_best(heading, running, capsys):
    pytest.importorskip(PACKAGES[heading])
    names: dict[str, object] = {}
    printed = []
    for example in page.blocks(heading, "python"):
        exec(for_server(example, running), names)
        printed.append(capsys.readouterr().out.splitlines())
    expected = [lines(running, "running shoes", TEXTS, labels=heading == "Cohere's SDK")]
    if heading == "Cohere's SDK":
        expected.append(lines(running, "zapatillas", ["Zapatillas"], "es", labels=True))
        products = [{"title": "Desk lamp"}, {"title": "Running shoes", "description": "Red"}]
        expected.append(lines(running, "red shoes", products))
    elif heading == "LangChain":
        products = [{"title": "Desk lamp"}, {"title": "Running shoes", "color": "Red"}]
        expected.append(lines(running, "red running shoes", products))
    else:
        expected *= 2
    assert printed == expected


def test_curl_examples(running):
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    ranked, fields, classes = [
        json.loads(subprocess.run(["bash", "-c", for_server(example, running)], capture_output=True, check=True).stdout)
        for example in page.blocks("curl", "bash")
    ]
    texts = TEXTS[:2]
    places = [place for place, _ in running.ranked("running shoes", texts)]
    assert [result["index"] for result in ranked["results"]] == places
    assert ranked["results"][0]["document"]["text"] in texts
    products = [{"title": "Shoes", "color": "Red"}, "Lamp"]
    scores = [result["relevance_score"] for result in fields["results"]]
    assert scores == pytest.approx([score for _, score in running.ranked("red shoes", products)], abs=1e-5)
    assert "document" not in fields["results"][0]
    labels = running.predict("running shoes", texts).labels
    assert [pair[0]["label"] for pair in classes] == list(labels)
    assert all(sum(item["score"] for item in pair) == pytest.approx(1, abs=1e-5) for pair in classes)


def test_the_table_has_every_section_and_its_path():
    rows = dict(re.findall(r"^\| \[(.+?)\]\(#[\w-]+\).*?\| (.*?) \|", page.PAGE.read_text("utf-8"), re.MULTILINE))
    assert set(rows) == set(page.headings())
