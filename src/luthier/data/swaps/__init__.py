"""Texts with the sides of an axis exchanged: which words change, and into what."""
