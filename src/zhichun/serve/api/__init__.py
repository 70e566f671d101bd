"""One file per dialect: requests, responses and errors."""
