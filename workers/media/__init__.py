"""Path in, evidence out: decodes untrusted files in a sandboxed child; no Celery, no SQLAlchemy."""
