"""Judgements: which are probably wrong, how well raters agree, and the page on which a person decides."""
