"""A Unigram tokenizer from nothing, trained on the catalogue, in the shape of XLM-R's.

For the encoder that starts from nothing: no model needs to be fetched, and its pieces fit the shop's language.
"""

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
DIGITS = 4


def train_unigram(texts: Iterable[str], pieces: int) -> Tokenizer:
    """Train a Unigram tokenizer (Kudo, 2018) with XLM-R's special tokens and ids.

    Parameters
    ----------
    texts
        The catalogue's texts.
    pieces
        Size of the vocabulary at most, special tokens included.

    Returns
    -------
    tokenizers.Tokenizer
        Its post-processor writes ``<s> A </s></s> B </s>`` and gives the second text token type 1.
    """
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=pieces,
        special_tokens=list(SPECIALS),
        unk_token="<unk>",
        max_piece_length=12,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer = _in_fixed_order(tokenizer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B:1 </s>:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    return tokenizer


def _in_fixed_order(tokenizer: Tokenizer) -> Tokenizer:
    """Give the pieces an order and scores that are the same each time.

    The trainer walks through hash maps: pieces of one score come in any order, their scores differ in the last digits,
    and characters that it adds at the end, for texts to be covered, get the lowest score plus 0.0001 each in any order.
    """
    state = json.loads(tokenizer.to_str())
    learnt = [(piece, score) for piece, score in state["model"]["vocab"] if piece not in SPECIALS]
    lowest = min((score for _, score in learnt), default=0.0)
    added_below = lowest + 1e-4 * sum(len(piece) == 1 for piece, _ in learnt)
    scores = {
        piece: round(lowest if len(piece) == 1 and score < added_below else score, DIGITS) for piece, score in learnt
    }
    fixed = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    state["model"]["vocab"] = [[piece, 0.0] for piece in SPECIALS] + [list(item) for item in fixed]
    return Tokenizer.from_str(json.dumps(state))
