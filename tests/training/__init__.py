"""How the bundled weights are made: its parts on a few faces."""
