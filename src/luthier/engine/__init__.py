"""One fit: the loop, the step, the optimizer, checkpoints, watching, metering."""
