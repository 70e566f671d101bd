"""`zhichun serve`: one rerank server with the request formats of TEI, Jina, Cohere and vLLM, and a page.

The page shows the first stage's and the model's order of the same products, side by side.
"""
