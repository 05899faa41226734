"""What a run must not leave: objects, processes, folders, connections."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psutil

from chaos.invariants import Finding
from chaos.stack import WORDS, Stack
from cli.stack.s3 import BUCKET
from core.retention.bucket import MARKER
from workers.workspace import PREFIX

#: The sweep comes round as often as the grace time is long, and may have to wait for the storage.
ROUNDS: Final = 2
SWEEP_GRACE: Final = timedelta(seconds=30)


def orphans(stack: Stack, grace: timedelta) -> Finding:
    """No object that no row names is older than the grace time and a round of the sweep; no parts either."""
    return unnamed(stack, datetime.now(UTC) - ROUNDS * grace - SWEEP_GRACE)


def unnamed(stack: Stack, before: datetime) -> Finding:
    """Objects and parts from before a moment that no row names."""
    client = stack.storage().client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    objects = [item for page in pages for item in page.get("Contents", ()) if item["Key"] != MARKER]
    named = _named(stack)
    broken = [
        f"{item['Key']} of {item['LastModified']:%H:%M:%S}"
        for item in objects
        if item["LastModified"] < before and not any(item["Key"].startswith(name) for name in named)
    ]
    parts = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
    known = {
        row["multipart_id"] for row in stack.rows("SELECT multipart_id FROM uploads WHERE status = 'open'")
    }
    broken += [
        f"parts of {item['Key']}"
        for item in parts
        if item["Initiated"] < before and item["UploadId"] not in known
    ]
    return Finding(
        promise="no orphan objects older than the grace time",
        looked_at=f"{len(objects)} objects",
        broken=tuple(broken),
    )


def _named(stack: Stack) -> set[str]:
    """Keys, and prefixes of folders, that rows still name."""
    files = stack.rows("SELECT object_key FROM media WHERE erased_at IS NULL")
    arriving = stack.rows("SELECT object_key FROM uploads WHERE status IN ('open', 'completed')")
    pictures = stack.rows(
        "SELECT s.payload->>'scratch' AS scratch FROM steps s JOIN analyses a ON a.id = s.analysis_id"
        " WHERE s.stage = 'fuse' AND a.media_erased_at IS NULL AND a.status = 'completed'"
    )
    suspicious = stack.rows(
        "SELECT p.picture->>'crop' AS crop, p.picture->>'heatmap' AS heatmap"
        " FROM intervals i JOIN analyses a ON a.id = i.analysis_id,"
        " jsonb_array_elements(COALESCE(i.video->'pictures', '[]')) AS p(picture)"
        " WHERE a.media_erased_at IS NULL AND a.status = 'completed'"
    )
    return (
        {row["object_key"] for row in files + arriving}
        | {row["scratch"].replace("/work-", "/pictures-") for row in pictures}
        | {row[kind] for row in suspicious for kind in ("crop", "heatmap") if row[kind]}
    )


def folders(stack: Stack) -> Finding:
    """No private folder of a step is left."""
    left = [path.name for path in stack.folder.temp.glob(f"{PREFIX}*")]
    return Finding(
        promise="no leaked temp folder",
        looked_at=str(len(list(stack.folder.temp.iterdir()))) + " entries",
        broken=tuple(left),
    )


def connections(stack: Stack) -> Finding:
    """Each connection to the database has a living process of the stack, and none sits in a transaction."""
    rows = stack.rows(
        "SELECT pid, client_port, state, application_name, now() - xact_start AS since FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND application_name <> 'chaos'"
    )
    ours = {port for pid in [*stack.tagged(), stack.pid] for port in _ports(pid)}
    broken = [f"backend {row['pid']} has no peer" for row in rows if row["client_port"] not in ours]
    broken += [
        f"backend {row['pid']} is idle in a transaction"
        for row in rows
        if "in transaction" in (row["state"] or "")
    ]
    return Finding(promise="no leaked connection", looked_at=f"{len(rows)} connections", broken=tuple(broken))


def _ports(pid: int) -> set[int]:
    try:
        return {c.laddr.port for c in psutil.Process(pid).net_connections("tcp") if c.laddr}
    except psutil.Error:
        return set()


def strays(stack: Stack) -> Finding:
    """While it runs idle, every process of it hangs below one of its services, and nothing decodes."""
    services = [process for name in WORDS if (process := stack.process(name)) is not None]
    family = {process.pid for process in services}
    family |= {child.pid for process in services for child in process.children(recursive=True)}
    broken = [_describe(pid) for pid in stack.tagged() if pid not in family and not _is_sentinel(pid)]
    broken += [f"still decoding: {child.pid}" for child in stack.decoders()]
    missing = [name for name in WORDS if stack.process(name) is None]
    broken += [f"{name} does not run" for name in missing]
    return Finding(
        promise="no leaked process while it runs", looked_at=f"{len(family)} processes", broken=tuple(broken)
    )


def survivors(stack: Stack) -> Finding:
    """After an orderly stop nothing of the stack is alive."""
    status = stack.stop()
    broken = [_describe(pid) for pid in stack.tagged()]
    if status != 0:
        broken.append(f"the supervisor ended with status {status}")
    return Finding(promise="no process after the stop", looked_at="the process table", broken=tuple(broken))


def _is_sentinel(pid: int) -> bool:
    return "sentinel" in _describe(pid)


def _describe(pid: int) -> str:
    try:
        words: list[Any] = psutil.Process(pid).cmdline()
    except psutil.Error:
        return f"{pid} (gone)"
    return f"{pid} {' '.join(map(str, words))[:120]}"
