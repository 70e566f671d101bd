"""The report of a run: one self-contained HTML page with what was trained, how it went and how good it is.

It is made of the run folder's files alone, needs neither torch nor a plotting library, and is the same bytes for the
same files.
"""

from zhichun.measure.report.write import write_report

__all__ = ["write_report"]
