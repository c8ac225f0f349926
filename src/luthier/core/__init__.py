"""Nouns, contracts, recipe, run folder: what every room speaks of. Imports no torch."""
