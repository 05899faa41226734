"""One file a queue: load, guard, act."""
