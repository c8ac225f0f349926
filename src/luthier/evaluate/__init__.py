"""Subjects under measurement, findings with intervals, gates."""
