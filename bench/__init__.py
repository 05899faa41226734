"""Benchmarks: what the product gains over a script written for the same job, measured in one run."""
