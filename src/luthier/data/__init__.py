"""From files to encoded rows: read, split, steps, encode, stream."""
