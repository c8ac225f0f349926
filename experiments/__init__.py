"""Does a method do what it is for? Base, tuned and control: `python -m experiments.NAME [--quick] [--json FILE]`."""
