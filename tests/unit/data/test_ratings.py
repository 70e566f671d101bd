"""Tables of ratings: who judged what, what is passed over, and what is refused with its row."""

import numpy as np
import pytest

from zhichun.core.errors import UserError
from zhichun.data.readers.ratings import read_ratings

LABELS = {"3": "E", "2": "S", "1": "C", "0": "I", "-1": "skip"}
HEADER = "search_term,sku,annotator,grade,locale\n"
ROWS = """\
Red Shoe,1,b,3,us
red shoe ,1,a,2,US
red shoe,2,a,0,us
red shoe,2,b,-1,us
red shoe,1,c,,us
zapato,1,a,1,es
zapato,1,b,1,es
"""


def read(tmp_path, rows, header=HEADER, **more):
    (tmp_path / "ratings.csv").write_text(header + rows)
    return read_ratings(tmp_path / "ratings.csv", labels=LABELS, **more)


def test_one_pair_is_one_row_whatever_its_spelling(tmp_path):
    rated = read(tmp_path, ROWS)
    assert rated.raters == ("a", "b")
    assert rated.pairs == (("red shoe", "us", "1"), ("red shoe", "us", "2"), ("zapato", "es", "1"))
    assert rated.ratings.codes_PJ.tolist() == [[1, 0], [3, -1], [2, 2]]
    assert rated.ratings.query_P[0] == rated.ratings.query_P[1] != rated.ratings.query_P[2]
    assert rated.passed_over == 2


def test_pairs_are_found_among_others_in_their_order_and_those_of_one_rater_are_left_out(tmp_path):
    rated = read(tmp_path, ROWS).shared()
    assert [product for _, _, product in rated.pairs] == ["1", "1"]
    places, found = rated.among([("other", "us", "1"), ("zapato", "es", "1"), ("red shoe", "us", "1")])
    assert places.tolist() == [1, 2]
    assert found.ratings.codes_PJ.tolist() == [[2, 2], [1, 0]]
    assert rated.among([])[1].ratings.counts_PK.shape == (0, 4)


def test_a_judge_who_repeats_himself_counts_once(tmp_path):
    for judge in ("a", "A", " a "):
        assert read(tmp_path, ROWS + f"zapato,1,{judge},1,es\n").ratings.counts_PK.sum() == 5


@pytest.mark.parametrize(
    ("rows", "header", "message", "row"),
    [
        (ROWS + "red shoe,1,a,3,us\n", HEADER, "'a' judged this pair twice", 8),
        ("red shoe,1,a,7,us\n", HEADER, "unknown label '7'.*--labels", 1),
        ("red shoe,1,,3,us\n", HEADER, "the judge is missing", 1),
        ("red shoe,1,a,3,us\nred shoe,1, A ,3,us\n", HEADER, "rated by two", None),
        ("red shoe,1,\u3000,3,us\n", HEADER, "the judge is missing", 1),
        (" ,1,a,3,us\n", HEADER, "the query, the product", 1),
        ("red shoe,1,a,3,us\nred shoe,2,b,3,us\n", HEADER, "rated by two", None),
        ("", HEADER, "rated by two", None),
        ("red shoe,1,3\n", "query,sku,grade\n", "who judged.*--columns judge=NAME", None),
    ],
)
def test_what_is_no_rating_is_refused_with_its_row(tmp_path, rows, header, message, row):
    with pytest.raises(UserError, match=f"(?s){message}") as caught:
        read(tmp_path, rows, header)
    assert "ratings.csv" in str(caught.value)
    assert row is None or f"row {row}" in str(caught.value)


def test_a_column_of_another_name_is_named(tmp_path):
    rated = read(tmp_path, "shoe,1,a,3\nshoe,1,b,3\n", "query,sku,who,grade\n", columns={"judge": "who"}, locale="es")
    assert np.all(rated.ratings.codes_PJ == 0)
    assert rated.pairs[0][1] == "es"


def test_a_column_that_no_table_has_is_refused_however_many_there_are(tmp_path):
    (tmp_path / "llm.csv").write_text("query,sku,by,label\nshoe,1,c,E\n")
    rows, header = "shoe,1,a,E\nshoe,1,b,E\n", "query,sku,who,grade\n"
    (tmp_path / "ratings.csv").write_text(header + rows)
    files = tmp_path / "ratings.csv", tmp_path / "llm.csv"
    assert read_ratings(*files, columns={"judge": "who"}).raters == ("a", "b", "llm.csv")
    with pytest.raises(UserError, match=r"no table has a column 'wo'.*\n.*'who'"):
        read_ratings(*files, columns={"judge": "wo"})


def test_a_scored_file_without_labels_has_those_that_are_likeliest(tmp_path):
    people, scored = tmp_path / "people.csv", tmp_path / "scored.csv"
    rows = "".join(f"q,{product},{judge},E\n" for product in "abc" for judge in "xy")
    people.write_text(f"query,product_id,judge,label\n{rows}")
    rows = "query,product_id,label,p_E,p_S,p_C,p_I\nq,a,,0.4,0.4,0.1,0.1\nq,b,,nan,0.5,0.3,0.2\nq,c,,{},0.5,0.3,0.2\n"
    scored.write_text(rows.format(0.0))
    rated = read_ratings(people, scored)
    assert rated.ratings.codes_PJ[:, rated.raters.index("scored.csv")].tolist() == [0, -1, 1]
    assert rated.passed_over == 1, "no number is no judgement"
    scored.write_text(rows.format("much"))
    with pytest.raises(UserError, match=r"row 3: a probability is no number \(.*'much'"):
        read_ratings(people, scored)
