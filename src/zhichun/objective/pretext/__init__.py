"""Pretext tasks: learning from the catalogue without labels; each has examples, a head and a loss.

A line here registers a task: `PretrainingSettings` then has a field of its name.
"""

from zhichun.objective.pretext.contrastive import Contrastive as Contrastive
from zhichun.objective.pretext.mlm import MLM as MLM
from zhichun.objective.pretext.pair_mlm import PairMLM as PairMLM
from zhichun.objective.pretext.product2facet import Product2Brand as Product2Brand
from zhichun.objective.pretext.product2facet import Product2Color as Product2Color
from zhichun.objective.pretext.product2query import Product2Query as Product2Query
from zhichun.objective.pretext.task import Pretext as Pretext
