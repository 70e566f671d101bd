"""The network of the paper's Figure 2, one file for each part."""
