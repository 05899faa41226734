"""Celery's side of the house: thin tasks over media and detectors."""
