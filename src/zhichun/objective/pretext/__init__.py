"""Pretext tasks: what an encoder learns from the catalogue alone; each is an example maker, a head and a loss."""

from zhichun.objective.pretext.contrastive import Contrastive
from zhichun.objective.pretext.mlm import MLM
from zhichun.objective.pretext.pair_mlm import PairMLM
from zhichun.objective.pretext.product2brand import Product2Brand
from zhichun.objective.pretext.product2color import Product2Color
from zhichun.objective.pretext.product2query import Product2Query

AnyPretext = MLM | PairMLM | Product2Query | Product2Brand | Product2Color | Contrastive

__all__ = ["MLM", "AnyPretext", "Contrastive", "PairMLM", "Product2Brand", "Product2Color", "Product2Query"]
