"""Character trigrams: bags, counts and vectors of the multi-granular semantic unit."""
