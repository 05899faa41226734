"""Measures the detectors and the verdict on labelled files, without a running server."""
