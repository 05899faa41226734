"""The chaos run: a real stack, mixed clips, a monkey that breaks things, and what must hold at the end."""
