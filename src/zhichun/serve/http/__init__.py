"""The HTTP application: middleware, limits, keys, settings and the server process."""
