"""Tests of the benchmark: that it measures the same work on both sides, and says so when it does not."""
