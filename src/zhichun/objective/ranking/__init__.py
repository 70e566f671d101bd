"""Ranking losses: scores and gains of whole lists in, one loss of each list out; only the objective reduces.

A line here registers a loss.
"""

from zhichun.objective.ranking.lambda_loss import LambdaLoss as LambdaLoss
from zhichun.objective.ranking.list_net import ListNet as ListNet
from zhichun.objective.ranking.margin_mse import MarginMSE as MarginMSE
from zhichun.objective.ranking.of_lists import RankingLoss as RankingLoss
from zhichun.objective.ranking.pairwise_log_sum_exp import PairwiseLogSumExp as PairwiseLogSumExp
from zhichun.objective.ranking.rank_net import RankNet as RankNet
