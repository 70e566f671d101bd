"""The page of an audit: the noise matrix, and the likely label errors for review.

One HTML file with its own script, readable without a server; it loads and sends nothing.
The pairs are embedded as JSON, and the script shows them as text, never as markup.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from markupsafe import Markup

from zhichun.core import schema
from zhichun.measure.report.page import Figure, Plot, class_name, language, write_page

BINS: Final = 40


def write_audit_page(
    path: Path,
    summary: Mapping[str, Any],
    issues: pa.Table,
    quality_P: npt.NDArray[np.float64],
    decisions: Mapping[int, str],
    key: str,
) -> None:
    """Write the page."""
    write_page(
        path,
        "audit.html",
        package=__package__,
        title="Audit of the judgements",
        summary=summary,
        shown=len(issues),
        names={label: class_name(label) for label in schema.LABELS},
        quality=_quality_figure(quality_P),
        records=in_script(_records(issues, decisions, key)),
    )


def in_script(value: Any) -> Markup:
    """Write JSON that is safe in a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)


def _records(issues: pa.Table, decisions: Mapping[int, str], key: str) -> dict[str, Any]:
    """Return the script's data: one list per pair, in the order of ``columns``."""
    probabilities = [f"p_{label}" for label in schema.LABELS]
    texts = [schema.QUERY, schema.PRODUCT_ID, schema.LOCALE, *schema.TEXT_COLUMNS]
    columns = [schema.EXAMPLE_ID, *texts, schema.LABEL, "likely_label", *probabilities, "quality"]
    values = [issues.column(name).to_pylist() for name in columns]
    rounded = [
        [round(number, 3) for number in column] if name in (*probabilities, "quality") else column
        for name, column in zip(columns, values, strict=True)
    ]
    locales = sorted(set(values[columns.index(schema.LOCALE)]))
    return {
        "key": key,
        "columns": columns,
        "labels": {label: class_name(label) for label in schema.LABELS},
        "languages": {locale: language(locale) for locale in locales},
        "decided": {str(example): what for example, what in decisions.items()},
        "rows": [list(row) for row in zip(*rounded, strict=True)],
    }


def _quality_figure(quality_P: npt.NDArray[np.float64]) -> Figure:
    counts, edges = np.histogram(quality_P, BINS, (0, 1))
    share = counts / max(1, len(quality_P))
    plot = Plot((0, 1), (0, float(share.max())), "quality of the judgement", "share of the pairs", 190)
    plot.bars(edges, share, "bars")
    below = float((quality_P < 0.5).mean()) if len(quality_P) else 0.0
    return Figure(
        plot,
        "Quality of all judgements: half of one plus the probability of the given label minus that of the likeliest "
        f"other. Below 0.5 ({below:.1%} of the pairs) another label is more likely.",
    )
