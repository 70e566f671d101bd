"""A model against what is in production: is it better, for whom, and is the difference more than noise.

Run ``python examples/compare_with_production.py RUN production.csv DATA``: the CSV has the columns query, product_id
and rank, as production returned them. The same as ``zhichun compare``, for those who go on in Python.
"""

import sys
from pathlib import Path

from zhichun.measure.compare import compare


def verdict(run: Path, production: Path, data: Path) -> str:
    """Compare on the test queries that production answered; gives what a person decides by."""
    found = compare(run, production, data, gates=["ndcg@10>=-0.01"], out=run / "against-production", overwrite=True)
    unjudged = found["left_out"][1]["unjudged"]
    lines = [f"{found['pairs']:,} judged pairs of {found['queries']:,} queries; {unjudged:,} never judged"]
    for segment, part in found["parts"].items():
        figure = part["figures"]["ndcg@10"]
        interval = f"95 % from {figure['low']:+.3f} to {figure['high']:+.3f}"
        lines.append(f"{segment}: nDCG@10 {figure['difference']:+.3f}, {interval}")
    lines += [f"{gate['gate']} in {gate['part']}: {gate['verdict']}" for gate in found["gates"]]
    return "\n".join(lines)


if __name__ == "__main__":
    print(verdict(*map(Path, sys.argv[1:4])))
