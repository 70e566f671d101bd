"""The reports: self-contained HTML pages of a run, and of a dataset.

Made of the folder's files alone; they need neither torch nor a plotting library, and are the same bytes for the same
files.
"""

from zhichun.measure.report.run_page import write_report

__all__ = ["write_report"]
