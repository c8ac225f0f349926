"""Text whose names are tagged: how it is cut into words, and sentences with names in them made from rules."""
