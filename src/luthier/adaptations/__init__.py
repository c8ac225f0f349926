"""One file an adaptation: which weights move."""
