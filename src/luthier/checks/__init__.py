"""One file a check: what is measured on base and tuned."""
