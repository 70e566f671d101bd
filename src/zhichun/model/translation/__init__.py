"""Machine translation behind one protocol: MarianMT by transformers or by CTranslate2, with a cache on disk."""
