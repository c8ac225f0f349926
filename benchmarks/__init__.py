"""Speed, memory and robustness, ours beside a peer or a limit: `python -m benchmarks.NAME [--quick] [--json FILE]`."""
