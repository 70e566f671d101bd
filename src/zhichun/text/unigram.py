"""A Unigram tokenizer from nothing, trained on the catalogue, in the shape of XLM-R's.

For the encoder that starts from nothing: no model needs to be fetched, and its pieces fit the shop's language.
"""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


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
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B:1 </s>:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    return tokenizer
