"""`zhichun serve`: one rerank server with the request formats of TEI, Jina, Cohere and vLLM, and a page."""
