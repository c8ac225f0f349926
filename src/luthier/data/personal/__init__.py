"""Personal data in text: where it stands, and what takes its place."""
