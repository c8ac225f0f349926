"""One file a step: what is cleaned, dropped or changed, each with its reason."""
