"""Models: weights, building and attaching, adapter files, heads."""
