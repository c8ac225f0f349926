"""Words that stand for sides of an axis, names in pairs and known people, as YAML: facts that swaps are made by."""
