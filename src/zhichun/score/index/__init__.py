"""Products' states, computed once and kept in a folder, and scoring from them."""
