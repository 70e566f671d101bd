"""One value gives one result, whether it comes through a column, an option, a request or Python."""

import json
import urllib.error
import urllib.request
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zhichun.core.errors import UserError
from zhichun.data.prepare.prepare import prepare
from zhichun.score.job import ScoringJob
from zhichun.score.rank import rank
from zhichun.score.scorer import load_scorer
from zhichun.text.clean import clean_text

pytest.importorskip("fastapi")
UNSEEN = "\u00ad\u200b\u200e\u202a\u2060\u2066\ufeff\u3164\u180e\ufe0f"
QUERY, TITLE = "trail shoe", "Trail shoe, red"
WRITTEN = {"us": ["us", "en-US", "en_us", "en"], "jp": ["jp", "ja-JP", "ja"], "es": ["es", "es_ES"]}
FEW = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def decorated(draw, texts):
    """Write a text in some case, with spaces around it and unseen characters within."""
    text = draw(st.sampled_from(texts))
    if draw(st.booleans()):
        text = text.upper()
    place = draw(st.integers(0, len(text)))
    unseen = draw(st.sampled_from(["", *UNSEEN]))
    return (
        draw(st.sampled_from(["", " ", "\t"])) + text[:place] + unseen + text[place:] + draw(st.sampled_from(["", " "]))
    )


@pytest.fixture(scope="module")
def scorer(tiny_run):
    return load_scorer(tiny_run, device="cpu")


@pytest.fixture
def ways(scorer, server, tmp_path):
    """Score one product for one query in every way; gives a score, or the word `refused`, by the way."""

    def of_file(columns, **options):
        suffix = "csv" if all(isinstance(value, str) for value in columns.values()) else "parquet"
        table, path = pa.table({name: [value] for name, value in columns.items()}), tmp_path / f"pairs.{suffix}"
        pa.csv.write_csv(table, path) if suffix == "csv" else pq.write_table(table, path)
        job = ScoringJob(scorer, path, tmp_path / "out.parquet", model_fingerprint="a", **options)
        (tmp_path / "out.parquet").unlink(missing_ok=True)
        job.run()
        return pq.read_table(tmp_path / "out.parquet").column("gain")[0].as_py()

    def of_request(query, product, **more):
        body = json.dumps({"query": query, "documents": [product], **more}).encode()
        request = urllib.request.Request(f"{server}/v1/rerank", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read())["results"][0]["relevance_score"]
        except urllib.error.HTTPError as error:
            error.close()
            if error.status == 422:
                raise UserError("refused") from error
            raise

    def score(query, title, locale):
        product = {"title": title, "locale": locale}
        tried = {
            "column": lambda: of_file({"query": query, **product}),
            "option": lambda: of_file({"query": query, "title": title}, locale=locale),
            "request": lambda: of_request(query, {"title": title}, locale=locale),
            "document": lambda: of_request(query, product),
            "argument": lambda: scorer.score(query, [{"title": title}], locale).score[0],
            "mapping": lambda: scorer.score(query, product).score[0],
            "rank": lambda: rank(scorer, query, [{"id": "1", **product}], locale)[0].score,
        }
        found = {}
        for way, attempt in tried.items():
            found[way] = "refused"
            with suppress(UserError):
                found[way] = float(attempt())
        return found

    return score


def expect(found, expected):
    assert all(score != "refused" and abs(score - expected) < 1e-5 for score in found.values()), found


@FEW
@given(st.sampled_from(sorted(WRITTEN)).flatmap(lambda code: st.tuples(st.just(code), decorated(WRITTEN[code]))))
def test_a_locale_means_the_same_everywhere(ways, scorer, country):
    code, written = country
    expect(ways(QUERY, TITLE, written), scorer.score(QUERY, [TITLE], code).score[0])


def test_locales_are_told_apart_and_unknown_ones_are_one(scorer):
    scores = {
        locale: scorer.score(QUERY, [TITLE], locale).score[0] for locale in ("us", "es", "jp", "fr", "zz", "fr-CA")
    }
    assert len({scores[locale] for locale in ("us", "es", "jp", "fr")}) == 4
    assert scores["fr"] == scores["zz"] == scores["fr-CA"]


@FEW
@given(decorated([QUERY]), decorated([TITLE]))
def test_texts_mean_the_same_everywhere(ways, scorer, query, title):
    expect(ways(query, title, "us"), scorer.score(clean_text(query), [clean_text(title)]).score[0])


@FEW
@given(st.text(alphabet=UNSEEN + " \t\u2800\u3000", max_size=4))
def test_a_query_of_nothing_that_is_seen_is_refused_everywhere(ways, query):
    assert {*ways(query, TITLE, "us").values()} == {"refused"}


@pytest.mark.parametrize("title", [12345678901234567, 501, 2.5, 3.0])
def test_numbers_are_their_digits_everywhere(ways, scorer, title):
    text = str(int(title)) if title == int(title) else str(title)
    expect(ways(QUERY, title, "us"), scorer.score(QUERY, [text]).score[0])


def test_a_product_without_a_text_is_the_same_in_files_and_in_python(scorer, tmp_path):
    table = pa.table({"query": [QUERY], "title": pa.array([None], pa.string())})
    pq.write_table(table, tmp_path / "pairs.parquet")
    ScoringJob(scorer, tmp_path / "pairs.parquet", tmp_path / "out.parquet", model_fingerprint="a").run()
    of_file = pq.read_table(tmp_path / "out.parquet").column("gain")[0].as_py()
    for products in ([None], [np.nan], [""], ["\u200e"], [{"title": None}], [{}]):
        assert scorer.score(QUERY, products).score[0] == pytest.approx(of_file, abs=1e-5)


@pytest.fixture
def made(tmp_path):
    """Prepare one judged pair from a column or by an option; gives its label and locale."""

    def prepared(grade, mapped, *, column=None, option="us"):
        columns = {"query": QUERY, "product_id": "1", "rating": grade}
        table = {"product_id": "1", "title": TITLE}
        if column is not None:
            columns["locale"] = table["locale"] = column
        for name, row in (("e", columns), ("p", table)):
            (tmp_path / f"{name}.jsonl").write_text(json.dumps(row), "utf-8")
        files = {"examples": tmp_path / "e.jsonl", "products": tmp_path / "p.jsonl"}
        prepare(None, tmp_path / "out", **files, labels={mapped: "S"}, locale=option, overwrite=True)
        row = pq.read_table(tmp_path / "out" / "examples.parquet").to_pylist()[0]
        return row["esci_label"], row["product_locale"]

    return prepared


@FEW
@given(decorated(["2,5", "2.5", "2.50", "+2.5", "２.５"]), decorated(["2.5", "2,5", "2.500"]))
def test_a_grade_means_the_same_in_a_column_and_in_the_option(made, grade, mapped):
    assert made(grade, mapped) == ("S", "us")


@FEW
@given(st.sampled_from(sorted(WRITTEN)).flatmap(lambda code: st.tuples(st.just(code), decorated(WRITTEN[code]))))
def test_a_locale_means_the_same_in_a_catalogue_and_in_the_option(made, country):
    code, written = country
    assert made("2", "2", column=written) == made("2", "2", option=written) == ("S", code)
