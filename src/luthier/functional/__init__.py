"""Mathematics as pure functions of tensors and numbers, each citing its source."""
