"""One row and more for every table of every revision, in the words of that revision's schema."""

from __future__ import annotations

from typing import Any

A, B, C = (f"01890000-0000-7000-8000-00000000000{n}" for n in (1, 2, 3))
MEDIA, STEP, KEY, REPLAY = (f"01890000-0000-7000-8000-0000000000{n}0" for n in (1, 2, 3, 4))
UPLOAD, ENDPOINT, DELIVERY, ENTRY, ERASURE = (
    f"01890000-0000-7000-8000-0000000000{n}0" for n in (5, 6, 7, 8, 9)
)
THEN, LATER = "2026-01-02T03:04:05.678901+00:00", "2036-01-02T03:04:05+00:00"
ENVELOPE = '{"id": "x", "verdict": "INCONCLUSIVE", "nested": {"figure": 0.25, "none": null}}'

#: Revision -> what a service of that revision could have written.
SEEDS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "0001": [
        (
            "media",
            {
                "id": MEDIA,
                "owner": "newsroom",
                "sha256": "ab" * 32,
                "size_bytes": 5_000_000_000,
                "object_key": "media/one",
                "facts": '{"duration": 4.0}',
            },
        ),
        (
            "analyses",
            {
                "id": A,
                "owner": "newsroom",
                "media_id": MEDIA,
                "filename": "Ünïcödé \N{CLAPPER BOARD}.mp4",
                "options": '{"interval_seconds": 2.0}',
                "metadata": '{"case": 7}',
                "status": "completed",
                "verdict": "INCONCLUSIVE",
                "confidence": 12.5,
                "report": ENVELOPE,
                "version": 9,
                "created_at": THEN,
                "started_at": THEN,
                "completed_at": THEN,
                "deadline": LATER,
            },
        ),
        (
            "analyses",
            {
                "id": B,
                "owner": "newsroom",
                "media_id": MEDIA,
                "options": "{}",
                "status": "processing",
                "deadline": LATER,
            },
        ),
        (
            "steps",
            {
                "id": STEP,
                "analysis_id": B,
                "stage": "extract",
                "status": "running",
                "attempt": 2,
                "lease_owner": "boot",
                "lease_expires": THEN,
                "payload": '{"old": true}',
            },
        ),
        (
            "intervals",
            {
                "analysis_id": A,
                "index": 0,
                "start": 0.0,
                "end": 2.0,
                "video_reason": "no_face",
                "audio_score": 0.125,
                "audio": '{"signals": []}',
            },
        ),
        ("tracks", {"analysis_id": A, "track": 0, "start": 0.0, "end": 2.0, "frames": 5}),
        (
            "api_keys",
            {
                "id": KEY,
                "prefix": "abcdefgh",
                "digest": "00" * 32,
                "name": "first",
                "owner": "newsroom",
                "scopes": '["stats"]',
            },
        ),
        ("worker_processes", {"boot_id": "boot", "queues": '["extraction"]', "version": "0.1.0"}),
    ],
    "0002": [
        (
            "idempotency_keys",
            {
                "id": REPLAY,
                "owner": "newsroom",
                "key": "night-1",
                "state": "stored",
                "fingerprint": "cd" * 32,
                "status": 202,
                "headers": "{}",
                "body": ENVELOPE,
                "analysis_id": A,
                "expires_at": LATER,
            },
        ),
    ],
    "0003": [
        (
            "analyses",
            {
                "id": C,
                "owner": "newsroom",
                "source_url": "https://example.org/clip.mp4",
                "lane": "batch",
                "options": "{}",
                "status": "queued",
                "deadline": LATER,
                "retention_hours": 0,
            },
        ),
    ],
    "0004": [
        (
            "uploads",
            {
                "id": UPLOAD,
                "owner": "newsroom",
                "status": "open",
                "object_key": "media/two",
                "multipart_id": "parts",
                "size_bytes": 6_000_000_000,
                "part_bytes": 16_777_216,
                "expires_at": LATER,
            },
        ),
    ],
    "0005": [
        (
            "webhook_endpoints",
            {
                "id": ENDPOINT,
                "owner": "newsroom",
                "url": "https://example.org/hook",
                "events": '["analysis.completed"]',
                "secret": b"\x00\xffsealed",
            },
        ),
        (
            "webhook_deliveries",
            {
                "id": DELIVERY,
                "owner": "newsroom",
                "endpoint_id": ENDPOINT,
                "analysis_id": A,
                "event_id": "msg_1",
                "event_type": "analysis.completed",
                "url": "https://example.org/hook",
                "body": "{}",
                "status": "owed",
            },
        ),
        ("webhook_attempts", {"delivery_id": DELIVERY, "number": 1, "milliseconds": 12, "status": 500}),
    ],
    "0006": [
        ("rate_limits", {"key_prefix": "abcdefgh", "policy": "requests", "tokens": 0.5}),
        (
            "audit_entries",
            {"id": ENTRY, "actor": "abcdefgh", "owner": "newsroom", "action": "key.created", "subject": "x"},
        ),
        (
            "erasures",
            {"id": ERASURE, "analysis_id": B, "scope": "analysis", "owner": "newsroom", "actor": "abcdefgh"},
        ),
    ],
    "0007": [],
    "0008": [
        ("feedback", {"analysis_id": A, "label": "fake", "note": "its maker says so", "actor": "abcdefgh"}),
    ],
}
