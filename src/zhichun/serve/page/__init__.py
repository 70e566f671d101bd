"""The server's page: the first stage's and the model's order of the same products, side by side."""
