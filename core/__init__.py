"""What an analysis is: its rows, its rules and its verdict. No FastAPI, no Celery, no torch."""
