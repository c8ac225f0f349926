"""One file a format: how a record becomes an Example."""
