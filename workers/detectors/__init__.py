"""Detectors: arrays in, probabilities out. Knows neither Celery nor the database."""
