"""The `deepdefend` command: may import anything, but only when a command needs it."""
