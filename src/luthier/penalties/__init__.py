"""One file a penalty: terms beside any objective."""
