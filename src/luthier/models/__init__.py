"""Loading, heads, verbs, merging and export of models."""
