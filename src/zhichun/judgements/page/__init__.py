"""The audit page, on which a person accepts or rejects judgements."""
