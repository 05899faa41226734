"""blend-trace: blending, damage, split, tables."""
