"""The tables. Every change of them goes through the modules of `core` that are named for it."""

from __future__ import annotations

from core.models.analyses import Analysis, Feedback, Interval, Media, Step, Track, Upload
from core.models.base import Base
from core.models.callers import ApiKey, AuditEntry, IdempotencyKey, RateLimit
from core.models.erasures import Erasure
from core.models.fleet import WorkerProcess
from core.models.webhooks import WebhookAttempt, WebhookDelivery, WebhookEndpoint

__all__ = [
    "Analysis",
    "ApiKey",
    "AuditEntry",
    "Base",
    "Erasure",
    "Feedback",
    "IdempotencyKey",
    "Interval",
    "Media",
    "RateLimit",
    "Step",
    "Track",
    "Upload",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WorkerProcess",
]
