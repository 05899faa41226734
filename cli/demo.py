"""`deepdefend demo`: the whole product once, on a clip that ships with it, and nothing left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.stack import StackError, launch, ports

SAMPLE = "pkg_face_photo_real_speech.mp4"
STOP_SECONDS = 20  # `up` itself needs 15 at most


def demo(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Your own clips instead of the sample.", metavar="[FILE]...")
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="Where the demo keeps its data.")] = Path(".deepdefend/demo"),
) -> None:
    """Run everything, analyse a sample clip, show its report, end."""
    from rich.console import Console  # noqa: PLC0415 - `--help` needs none of it

    from cli.analyze import Outcome, Run, analyze_files  # noqa: PLC0415
    from cli.client import Client, ClientError  # noqa: PLC0415
    from cli.progress import display  # noqa: PLC0415

    show = display(Console(stderr=True))
    try:
        with running_stack(data_dir) as addresses:
            with Client(addresses["api_url"], addresses["api_key"], on_trouble=show.say) as client:
                outcome = analyze_files(files or [sample()], Run(client, show, Console(file=sys.stdout)))
            _say("demo: stopping everything")
    except (StackError, ClientError) as error:
        _say(f"deepdefend: {error}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    _say(f"demo: done, nothing is left running; its data is in {data_dir}")
    failed = outcome in {Outcome.ERROR, Outcome.INTERRUPTED}  # a verdict, whatever it is, is a success
    raise typer.Exit(outcome if failed else 0)


def sample() -> Path:
    """The clip that ships with the project. Raises StackError outside of a checkout."""
    path = Path(__file__).parents[1] / "samples" / SAMPLE
    if not path.is_file():
        raise StackError(f"{path} is missing: run the demo from a checkout, or name a file of your own")
    return path


@contextmanager
def running_stack(data_dir: Path) -> Iterator[dict[str, Any]]:
    """`deepdefend up --json` on free ports as a child, stopped at the end; yields what it prints."""
    port, flower = ports.settle({}, ("api", "flower")).values()
    up = [sys.executable, "-m", "cli.main", "up", "--json", "--data-dir", str(data_dir)]
    up += ["--port", str(port), "--flower-port", str(flower)]
    tie = [str(os.getpid()), str(int(signal.SIGTERM)), "-", "--"]  # it ends in order when we are killed
    with ports.hold(port), ports.hold(flower):
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-I", "-S", launch.__file__, *tie, *up],
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # Ctrl-C comes to us, and we stop it
        )
        try:
            yield _addresses(process)
        finally:
            stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    """TERM, and a second one that means at once when the first did not do."""
    for _ in range(2):
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        break
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _addresses(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise StackError("the stack did not start; see above")
    return dict(json.loads(line))


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
