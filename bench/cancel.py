"""How long until a process is free again after a cancellation, wherever the work was.

`python -m bench.cancel [--repeat N] [--folder F]`: the real servers, dispatcher and workers, the true shapes
of both models (random weights), S3 behind a wire that can be slow, a language model that never answers.
Each time is from the commit of the cancellation to the worker's word that the task is done; the moment
of the cancellation is drawn at random over the 2 s between two looks of a worker.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psutil

from bench import machine
from bench.material import ROOT, SAMPLE, Material, prepare
from bench.throttle import Wire
from cli.stack import commands
from cli.stack.environment import of_servers
from cli.stack.servers import PostgresServer, S3Server, ValkeyServer
from core.domain import Options, Stage
from core.queue import QUEUE_OF_TASK, TASK_OF_STAGE, names_of

PATIENCE = 300.0  # seconds for anything to happen on a busy machine
THIN = 300_000.0  # bytes a second: 50 MB of crops take minutes


@dataclass(frozen=True)
class Place:
    """Somewhere work can be when it is canceled."""

    name: str
    stage: str
    clip: Path
    #: Called again and again while the step runs, until it says that the work is there.
    reached: Callable[[Bench], bool]
    thin: bool = False  #: whether the wire to S3 is slow from the claim on


class Bench:
    """The running product."""

    def __init__(self, folder: Path, wire: Wire) -> None:
        self.folder, self.wire = folder, wire
        self.mark = 0  #: bytes on the wire when the step was claimed
        self.caller: Any = None

    def log(self, stage: str) -> Path:
        """The log of the worker of a stage."""
        queue = QUEUE_OF_TASK[TASK_OF_STAGE[Stage(stage)]]
        (served,) = [queues for queues in commands.WORKERS if queue in queues]
        return self.folder / f"{'-'.join(served)}.log"

    def carried(self, least: int) -> bool:
        """Whether so many bytes went over the wire since the claim."""
        return self.wire.carried - self.mark >= least


def main() -> int:
    """Measure and print the table; 1 when anything took longer than the promised 5 s."""
    wanted = _arguments()
    material = prepare(wanted.folder)
    with running(wanted.folder, material) as bench:
        found = {
            place.name: _measure(bench, place, wanted.repeat)
            for place in places(material)
            if wanted.only in place.name
        }
    print(table(found))
    print("\n".join(f"{name}: {value}" for name, value in machine.facts().items()))
    return int(any(max(times) > 5 for times in found.values()))


def places(material: Material) -> list[Place]:
    """Every kind of work, and the long waits inside it."""
    return [
        Place("media on its way from S3", "extract", material.clip, lambda b: b.carried(200_000), thin=True),
        Place("decoder at work", "extract", material.clip, _decoding),
        Place("crops on their way to S3", "extract", material.clip, _storing, thin=False),
        Place("crops on their way from S3", "video", material.clip, lambda b: b.carried(200_000), thin=True),
        Place("picture model in a batch", "video", material.clip, _looking),
        Place("voice model in a batch", "audio", material.clip, _looking),
        Place("variant being encoded", "stability", SAMPLE, _encoding),
        Place("language model silent", "fuse", SAMPLE, lambda _: True),
    ]


def _decoding(_: Bench) -> bool:
    return bool(_decoders())


def _encoding(_: Bench) -> bool:
    return bool(_decoders("workers.media.variant_child"))


def _decoders(program: str = "workers.media.child") -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if _runs(child, program)]


def _runs(process: psutil.Process, program: str) -> bool:
    try:
        return program in process.cmdline()
    except psutil.Error:
        return False


def _storing(bench: Bench) -> bool:
    """The decoder has ended: from now on the wire is thin, and what it found is on its way."""
    if bench.wire.rate is None:
        if bench.carried(1_000_000) and not _decoders():
            bench.wire.rate = THIN
            bench.mark = bench.wire.carried
        return False
    return bench.carried(100_000)


def _looking(bench: Bench) -> bool:
    """Its input is there; the first batch begins."""
    return bench.carried(300_000)


def _measure(bench: Bench, place: Place, repeat: int) -> list[float]:
    times = []
    for turn in range(repeat):
        times.append(_once(bench, place))
        print(f"{place.name} {turn + 1}/{repeat}: {times[-1]:.2f} s", file=sys.stderr, flush=True)
    return times


def _once(bench: Bench, place: Place) -> float:
    from core import analyses, db  # noqa: PLC0415 - settings are in the environment only now

    bench.wire.rate = None
    identity = _submit(bench, place.clip, Options(stability=place.stage == Stage.STABILITY))
    _until(lambda: _status(identity, place.stage) == "running")
    bench.mark = bench.wire.carried
    bench.wire.rate = THIN if place.thin else None
    _until(lambda: place.reached(bench))
    time.sleep(random.uniform(0.0, 2.0))  # noqa: S311 - no secret
    running_still = _status(identity, place.stage)
    if running_still != "running":
        raise SystemExit(f"{place.name}: it was over before it could be canceled ({running_still})")
    log = bench.log(place.stage)
    seen = log.stat().st_size
    with db.transaction() as session:
        analyses.cancel(session, bench.caller.owner, identity)
    began = time.perf_counter()
    _until(lambda: "] succeeded in" in log.read_bytes()[seen:].decode(errors="replace"))
    took = time.perf_counter() - began
    bench.wire.rate = None
    return took


def _submit(bench: Bench, clip: Path, options: Options) -> UUID:
    from core import analyses, db, keys  # noqa: PLC0415 - as above
    from core.storage import storage  # noqa: PLC0415

    key = f"media/{secrets.token_hex(8)}"
    storage().upload_file(clip, key)
    upload = analyses.StoredUpload(
        sha256=secrets.token_hex(32), size_bytes=clip.stat().st_size, object_key=key
    )
    with db.transaction() as session:
        if bench.caller is None:
            bench.caller = keys.authenticate(session, keys.create(session, name="bench")[1])
        return analyses.submit(session, caller=bench.caller, source=upload, options=options).analysis.id


def _status(identity: UUID, stage: str) -> str | None:
    from core import db, steps  # noqa: PLC0415 - as above

    with db.read() as session:
        found = [step.status for step in steps.of_analysis(session, identity) if step.stage == stage]
    return "running" if "running" in found else next(iter(found), None)


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("it never came true")
        time.sleep(0.01)


def table(found: dict[str, list[float]]) -> str:
    """Markdown: where the work was, and how long its process was still busy."""
    rows = [
        f"| {name} | {len(times)} | {min(times):.1f} | {median(times):.1f} | {max(times):.1f} |"
        for name, times in found.items()
    ]
    head = "| canceled while | times | least s | median s | most s |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])


@contextmanager
def running(folder: Path, material: Material) -> Iterator[Bench]:
    """Servers, dispatcher and one worker of each kind, gone after the block."""
    with ExitStack() as ends:
        folder = Path(ends.enter_context(TemporaryDirectory(dir=folder)))
        servers = PostgresServer(folder), ValkeyServer(folder), S3Server(folder)
        for server in servers:
            server.start()
            ends.callback(server.stop)
        os.environ.update(of_servers(*servers))
        where = urlsplit(servers[2].url)
        wire = ends.enter_context(Wire(str(where.hostname), int(where.port or 80)).open())
        os.environ.update(_settings(material, wire, _deaf(ends)))
        from core import db, fleet  # noqa: PLC0415 - reads settings
        from core.storage import storage  # noqa: PLC0415

        db.migrate()
        storage().ensure_bucket()
        bench = Bench(folder, wire)
        for name, command in _programs().items():
            log = ends.enter_context((folder / f"{name}.log").open("wb"))
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            ends.callback(_end, process)

        def served() -> bool:
            with db.read() as session:
                return set(names_of()) <= {queue for one in fleet.live(session) for queue in one.queues}

        _until(served)
        yield bench


def _programs() -> dict[str, tuple[str, ...]]:
    workers = {"-".join(queues): commands.worker(queues) for queues in commands.WORKERS}
    return workers | {"dispatcher": commands.dispatcher()}


def _settings(material: Material, wire: Wire, deaf: int) -> dict[str, str]:
    return {
        "DEEPDEFEND_SECRET_KEY": secrets.token_hex(32),
        "DEEPDEFEND_S3__ENDPOINT_URL": f"http://127.0.0.1:{wire.port}",
        "DEEPDEFEND_ALLOW_TEST_DETECTORS": "1",
        "DEEPDEFEND_MODELS__VIDEO": str(material.video),
        "DEEPDEFEND_MODELS__AUDIO": str(material.audio),
        "DEEPDEFEND_NARRATOR__BASE_URL": f"http://127.0.0.1:{deaf}",
        "GOOGLE_API_KEY": "none",
    }


def _deaf(ends: ExitStack) -> int:
    """A port that takes calls and never answers."""
    server = ends.enter_context(socket.create_server(("127.0.0.1", 0)))
    return int(server.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.cancel", description=__doc__)
    parser.add_argument("--only", default="", help="the places whose names hold this")
    parser.add_argument("--repeat", type=int, default=5, help="cancellations of each kind [5]")
    parser.add_argument("--folder", type=Path, default=ROOT / ".deepdefend" / "bench")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
