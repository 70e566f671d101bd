"""Pretext tasks: what an encoder learns from the catalogue alone; each is an example maker, a head and a loss."""
