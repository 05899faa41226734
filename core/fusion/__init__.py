"""From findings to a verdict and its explanation: pure code, no database, no queue, no models."""
