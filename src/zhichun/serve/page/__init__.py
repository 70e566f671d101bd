"""The server's page: the first stage's and the model's order of the same products, side by side."""

from zhichun.serve.page.router import page_router

__all__ = ["page_router"]
