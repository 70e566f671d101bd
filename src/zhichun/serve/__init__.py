"""`zhichun serve`: one rerank server that speaks the languages of TEI, Jina, Cohere and vLLM."""
