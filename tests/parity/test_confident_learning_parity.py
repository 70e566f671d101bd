"""Our label issues are cleanlab's, and both are those that can be worked out by hand."""

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint
from cleanlab.filter import find_label_issues as cleanlab_issues

from zhichun.core.errors import UserError
from zhichun.judgements.findings import find_label_issues

# Probabilities of classes 0, 1, 2. Thresholds, the mean p of a class over the pairs labelled so: 0.425, 0.517, 0.7.
LABELLED_0 = [
    (0.80, 0.10, 0.10),  # a: confidently 0
    (0.70, 0.20, 0.10),  # b: confidently 0
    (0.40, 0.30, 0.30),  # c: below all thresholds
    (0.10, 0.80, 0.10),  # d: confidently 1
    (0.30, 0.40, 0.30),  # e: 1 is likelier, but below its threshold
    (0.25, 0.15, 0.60),  # f: 2 is likelier, but below its threshold
]
LABELLED_1 = [(0.1, 0.8, 0.1), (0.1, 0.7, 0.2), (0.5, 0.05, 0.45)]  # g, h: confidently 1; i: confidently 0
LABELLED_2 = [(0.1, 0.1, 0.8), (0.15, 0.15, 0.7), (0.2, 0.2, 0.6)]  # j, k: confidently 2; l: below the threshold
LABELS = np.repeat([0, 1, 2], [6, 3, 3])
PROBABILITIES = np.array([*LABELLED_0, *LABELLED_1, *LABELLED_2])
PAIR_D, PAIR_E, PAIR_I = 3, 4, 8


def test_an_example_worked_out_by_hand():
    found = find_label_issues(LABELS, PROBABILITIES)
    # Confident counts are (2, 1, 0), (1, 2, 0), (0, 0, 2); rows scaled to 6, 3 and 3 pairs:
    assert found.joint_CC.tolist() == [[4, 2, 0], [1, 2, 0], [0, 0, 3]]
    # Two of those labelled 0 go to 1: d and e have the largest p1 - p0 (pruning by class would take f before e, and
    # only confident ones would leave e out). One labelled 1 goes to 0: i. By margin, d comes before i; p_i is lower.
    assert found.places_I.tolist() == [PAIR_D, PAIR_I, PAIR_E]
    assert found.quality_P[[PAIR_D, PAIR_I, PAIR_E]] == pytest.approx([(1 - 0.7) / 2, (1 - 0.45) / 2, (1 - 0.1) / 2])


@pytest.mark.parametrize("seed", range(5))
def test_issues_their_order_and_the_joint_are_cleanlabs(seed):
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, 3000, p=[0.65, 0.22, 0.03, 0.10])
    labels = np.where(rng.random(3000) < 0.1, rng.choice(4, 3000), truth)
    logits = rng.normal(size=(3000, 4)) + 2.5 * np.eye(4)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    theirs = cleanlab_issues(
        labels, probabilities, filter_by="prune_by_noise_rate", return_indices_ranked_by="normalized_margin", n_jobs=1
    )
    ours = find_label_issues(labels, probabilities)
    assert len(theirs) > 200
    assert ours.places_I.tolist() == theirs.tolist()
    assert ours.joint_CC.tolist() == compute_confident_joint(labels, probabilities).tolist()
    assert ours.joint_CC.sum(axis=1).tolist() == np.bincount(labels, minlength=4).tolist()


def test_a_label_that_nobody_gave_or_one_pair_has_is_no_trouble():
    labels, probabilities = np.array([0, 0, 0, 1, 1, 3]), np.full((6, 4), 0.1) + 0.6 * np.eye(4)[[0, 0, 1, 1, 1, 3]]
    found = find_label_issues(labels, probabilities)
    assert found.places_I.tolist() == [2]
    assert found.joint_CC[2].tolist() == [0, 0, 0, 0]


def test_one_label_for_all_cannot_be_doubted():
    with pytest.raises(UserError, match="same label"):
        find_label_issues(np.zeros(5, np.int64), np.full((5, 4), 0.25))
