"""The network of the paper (Figure 2), one file for each part."""
