"""One file a reward: what an answer is worth, by rule, by a function of yours, or by a reward model."""
