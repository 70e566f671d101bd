"""Judgements: likely label errors, agreement of raters, and the review page."""
