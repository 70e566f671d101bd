"""The pairs that a run was most sure and wrong about: where to look first, at the model and at the judgements.

Legend: ``P`` pairs, ``C`` classes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.measure.report.html import Html, table, tag
from zhichun.measure.report.names import language
from zhichun.measure.report.scored import Scored
from zhichun.measure.report.trained import open_manifest


@dataclass(frozen=True)
class Mistake:
    """A pair, what was judged, what was predicted, and how sure (a classifier) or how far off (a regressor)."""

    query: str
    product_id: str
    locale: str
    judged: str
    predicted: str
    surety: float


def mistakes(scored: Scored, most: int = 10) -> list[Mistake]:
    """Find the worst mistakes.

    For classes: the likeliest class is not the judged one, by its probability. For the regressor: by the distance
    between predicted and judged gain.
    """
    truth_P, probabilities_PC = scored.truth, scored.probabilities
    if probabilities_PC is None:
        surety_P = np.abs(scored.score - truth_P)
        predicted = [f"{gain:.3f}" for gain in scored.score]
        judged = [f"{gain:g}" for gain in truth_P]
    else:
        # A right answer sinks below all wrong ones.
        predicted_P = probabilities_PC.argmax(axis=1)
        surety_P = np.where(predicted_P == truth_P, 0.0, probabilities_PC.max(axis=1))
        predicted = [scored.task.classes[place] for place in predicted_P]
        judged = [scored.task.classes[int(place)] for place in truth_P]
    worst = [place for place in np.argsort(-surety_P, kind="stable")[:most].tolist() if surety_P[place] > 0]
    return [
        Mistake(
            pair[schema.QUERY],
            pair[schema.PRODUCT_ID],
            pair[schema.LOCALE],
            judged[place],
            predicted[place],
            float(surety_P[place]),
        )
        for place, pair in zip(worst, scored.pairs.take(pa.array(worst, pa.int64())).to_pylist(), strict=True)
    ]


def mistakes_table(scored: Scored, split: str, dataset: dict[str, str]) -> Html | None:
    """List the worst mistakes; None where there is none.

    Parameters
    ----------
    scored
        The scored pairs.
    split
        Which pairs these are.
    dataset
        The dataset of ``environment.json``, where titles are looked up.
    """
    found = mistakes(scored)
    titles = product_titles(found, dataset)
    rows = []
    for place, mistake in enumerate(found, start=1):
        lang = language(mistake.locale)
        title = titles.get((mistake.locale, mistake.product_id)) or ""
        query, product = tag("strong", mistake.query, lang=lang), tag("span", title, lang=lang)
        code = tag("small", f"{mistake.product_id} ({mistake.locale})")
        pair = tag("td", query, Html("<br>"), product, " ", code)
        rows.append([str(place), pair, mistake.judged, mistake.predicted, f"{mistake.surety:.3f}"])
    if not rows:
        return None
    how, surety = "that the model was most sure and wrong about", "probability"
    if not scored.task.classes:
        how, surety = "whose predicted gain is farthest from the judged one", "distance"
    caption = f"The {len(rows)} pairs ({split}) {how}"
    return table(caption, ["#", "query and product", "judged", "predicted", surety], rows, numbers=False)


def product_titles(pairs: list[Mistake], dataset: dict[str, str]) -> dict[tuple[str, str], str | None]:
    """Look titles up by locale and product id, where the dataset that the run was trained on is still there."""
    path = Path(dataset.get("folder", "")) / schema.PRODUCTS_FILE
    if open_manifest(dataset) is None or not path.is_file():
        return {}
    wanted = pc.field(schema.PRODUCT_ID).isin([pair.product_id for pair in pairs])
    columns = [schema.LOCALE, schema.PRODUCT_ID, schema.TITLE]
    products = pq.read_table(path, columns=columns, filters=wanted).to_pylist()
    return {(row[schema.LOCALE], row[schema.PRODUCT_ID]): row[schema.TITLE] for row in products}
