"""What is known before a run: estimate, probe, doctor."""
