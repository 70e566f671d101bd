"""A made-up shop in the official ESCI layout, in English, Spanish and Japanese.

Products have a type, a brand, a colour and up to three further attributes; queries ask for a type and some of the
others; the labels follow from that by `zhichun.data.sample_shop.judged_pairs.true_labels`. The shares of labels,
locales and empty fields are those of ESCI (Reddy et al., 2022, "Shopping Queries Dataset", arXiv:2206.06588): E 65, S
22, C 3, I 10 %. The words are our own.
"""

from zhichun.data.sample_shop.write import TRUE_LABEL, TRUE_LABELS_FILE, write_sample_shop

__all__ = ["TRUE_LABEL", "TRUE_LABELS_FILE", "write_sample_shop"]
