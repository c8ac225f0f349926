"""One file an objective: what is minimized."""
