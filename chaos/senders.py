"""Threads that submit the plan through all doors, and cancel or delete some of it again."""

from __future__ import annotations

import hashlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import httpx2

from chaos.clips import Clips
from chaos.http import Caller, Unanswered, code_of
from chaos.ledger import Ledger, Record, now
from chaos.plan import Door, Fate, Job
from core.domain import TERMINAL

ANALYSES: Final = "/v1/analyses"
BOUNDARY: Final = "boundary-of-the-chaos"
SLOW_PIECES, SLOW_PAUSE = 12, 0.25  # a slow upload takes three seconds
OK, ACCEPTED, GONE = 200, 202, 404
UNDERTAKERS: Final = 4
END_SECONDS, END_LOOK = 60.0, 0.1  # how long, and how often, an end is waited for before a deletion


class Site:
    """An HTTP server of numbered clips, for `source_url`; `content` says what is in one."""

    def __init__(self, content: Callable[[int], bytes]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = content(int(self.path.rpartition("/")[2].removesuffix(".mp4")))
                self.send_response(OK)
                self.send_header("Content-Type", "video/mp4")
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="site", daemon=True).start()

    def url(self, number: int) -> str:
        """Where a clip is."""
        return f"http://127.0.0.1:{self.port}/{number}.mp4"

    def close(self) -> None:
        """Serve nothing more."""
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Senders:
    """A pool of threads that works through the plan at its own pace."""

    url: str
    key: str
    jobs: list[Job]
    clips: Clips
    site: Site
    ledger: Ledger
    pace: float  #: seconds between the beginnings of two jobs
    threads: int = 6
    in_flight: int = 0  #: slow uploads under way: when the monkey shoots at the API
    given_up: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._todo: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._fates: queue.PriorityQueue[tuple[float, int, Record | None]] = queue.PriorityQueue()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Return when every job has had its answer and its fate."""
        feeders = [threading.Thread(target=self._send_all, name=f"sender-{n}") for n in range(self.threads)]
        undertakers = [
            threading.Thread(target=self._fulfil_all, name=f"fate-{n}") for n in range(UNDERTAKERS)
        ]
        for thread in (*feeders, *undertakers):
            thread.start()
        began = time.monotonic()
        for n, job in enumerate(self.jobs):
            self.given_up.wait(max(0.0, began + n * self.pace - time.monotonic()))
            self._todo.put(job)
        for _ in feeders:
            self._todo.put(None)
        for thread in feeders:
            thread.join()
        for n in range(UNDERTAKERS):
            self._fates.put((float("inf"), -n, None))
        for thread in undertakers:
            thread.join()

    def _caller(self) -> Caller:
        return Caller(self.url, self.key, self.ledger, self.given_up.is_set)

    def _send_all(self) -> None:
        caller = self._caller()
        while (job := self._todo.get()) is not None:
            record = self.ledger.open(job)
            try:
                answer = self._submit(caller, job, record)
            except Unanswered:
                record.lost = True
                continue
            if answer.status_code == ACCEPTED:
                record.analysis_id = answer.json()["id"]
                if job.fate is not Fate.KEEP:
                    self._fates.put((time.monotonic() + (job.fate_after or 0.0), job.number, record))
            else:
                record.refused = code_of(answer)
        caller.close()

    def _submit(self, caller: Caller, job: Job, record: Record) -> httpx2.Response:
        headers = {"Idempotency-Key": f'"chaos-{job.number}"'} if job.keyed else {}
        send = self._by_door(caller, job)

        def attempt(http: httpx2.Client) -> httpx2.Response:
            record.tries += 1
            return send(http, headers)

        return caller.ask(f"POST {ANALYSES} ({job.door})", attempt, again=job.keyed)

    def _by_door(
        self, caller: Caller, job: Job
    ) -> Callable[[httpx2.Client, dict[str, str]], httpx2.Response]:
        match job.door:
            case Door.URL:
                named = {"source_url": self.site.url(job.number)}
            case Door.PARTS:
                named = {"upload_id": self._upload(caller, job)}
            case _:
                return lambda http, headers: self._send_form(http, headers, job)
        asked = terms(job) | named
        return lambda http, headers: http.post(ANALYSES, json=asked, headers=headers)

    def _send_form(self, http: httpx2.Client, headers: dict[str, str], job: Job) -> httpx2.Response:
        body = form(job, self.clips.content(job))
        headers = headers | {
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            "Content-Length": str(len(body)),
        }
        if job.door is Door.FORM:
            return http.post(ANALYSES, content=body, headers=headers)
        with self._lock:
            self.in_flight += 1
        try:
            return http.post(ANALYSES, content=_slowly(body), headers=headers)
        finally:
            with self._lock:
                self.in_flight -= 1

    def _upload(self, caller: Caller, job: Job) -> str:
        """Plan, send and complete an upload in parts; gives its id."""
        content = self.clips.content(job)
        digest = hashlib.sha256(content).hexdigest()
        asked = {"size_bytes": len(content), "filename": f"{job.kind}.mp4", "sha256": digest}
        headers = {"Idempotency-Key": f'"chaos-upload-{job.number}"'}
        begun = caller.ask(
            "POST /v1/uploads", lambda http: http.post("/v1/uploads", json=asked, headers=headers)
        ).json()
        here = begun["links"]["self"]
        while missing := [part for part in begun["parts"] if not part["received"]]:
            for part in missing:
                _put(part, content, begun["part_bytes"])
            begun = caller.ask(f"GET {ANALYSES}", lambda http: http.get(here)).json()
        caller.ask("POST /v1/uploads/{}/complete", lambda http: http.post(begun["links"]["complete"]))
        return str(begun["id"])

    def _fulfil_all(self) -> None:
        caller = self._caller()
        while (due := self._fates.get())[2] is not None:
            self.given_up.wait(max(0.0, due[0] - time.monotonic()))
            try:
                _fulfil(caller, due[2])
            except Unanswered:
                continue
        caller.close()


def _fulfil(caller: Caller, record: Record) -> None:
    path = f"{ANALYSES}/{record.analysis_id}"
    if record.job.fate_after is None:
        _await_end(caller, path)
    if record.job.fate is Fate.CANCEL:
        answer = caller.ask("POST cancel", lambda http: http.post(f"{path}/cancel"))
        record.canceled = answer.status_code == OK
    else:
        answer = caller.ask("DELETE", lambda http: http.delete(path))
        if answer.is_success or answer.status_code == GONE:  # 404: the lost first try was heard
            record.deleted_at = now()


def _await_end(caller: Caller, path: str) -> None:
    """So that the deletion meets the telling of the end."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        if caller.ask("GET", lambda http: http.get(path)).json().get("status") in TERMINAL:
            return
        time.sleep(END_LOOK)


def _put(part: dict[str, Any], content: bytes, part_bytes: int) -> None:
    """Send a part to the storage; what goes wrong shows when the upload is looked at again."""
    start = (part["number"] - 1) * part_bytes
    try:
        httpx2.put(
            part["url"], content=content[start : start + part["size_bytes"]], timeout=10, trust_env=False
        )
    except httpx2.TransportError:
        time.sleep(1)


def terms(job: Job) -> dict[str, Any]:
    """The members of a submission beside its file."""
    more = {
        "deadline_seconds": job.deadline_seconds,
        "retention_hours": job.retention_hours,
        "stability": job.stability or None,
    }
    return {
        "lane": job.lane.value,
        "interval_seconds": job.interval_seconds,
        "frames_per_interval": job.frames_per_interval,
        "metadata": {"job": job.number},
        **{name: value for name, value in more.items() if value is not None},
    }


def form(job: Job, content: bytes) -> bytes:
    """The body of a form with the file at its end."""
    fields = [
        (name, json.dumps(value) if isinstance(value, dict) else str(value))
        for name, value in terms(job).items()
    ]
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields
    ]
    file = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{job.kind}.mp4"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join([*parts, file]).encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def _slowly(body: bytes) -> Iterator[bytes]:
    size = -(-len(body) // SLOW_PIECES)
    for start in range(0, len(body), size):
        time.sleep(SLOW_PAUSE)
        yield body[start : start + size]
