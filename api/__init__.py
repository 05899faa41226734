"""HTTP: doors, words and problem documents. Knows `core`; never imports workers, torch or celery."""
