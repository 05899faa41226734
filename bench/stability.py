"""`python -m bench.stability FILE...`: what other deliveries do to the scores of a file, and what they cost.

Every scored interval of each file (at most as many as the product measures) is delivered in every variant and
scored again by the manipulation-trace detector, and by the video detector where this machine has its weights.
Seconds are processor time of this process and the sandbox's child, without loading a model. Decoding runs
under rlimits here: nobody can ask a namespace what it has used.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.config import Limits, ModelSettings
from core.domain import Modality, Options, Span, Variant
from core.errors import DetectorUnavailable
from core.evidence import Manifest, VideoFinding
from core.fusion.stability import MAX_INTERVALS, MAX_SECONDS
from workers.detectors import registry
from workers.detectors.blend_trace import open_trace
from workers.detectors.remeasure import remeasure, unseen
from workers.media import sandbox
from workers.media.extract import extract
from workers.media.variants import extract_variant

OPTIONS, LIMITS = Options(), Limits()


@dataclass(frozen=True)
class Look:
    """One delivery: what each interval scored, and the seconds it took."""

    findings: dict[int, VideoFinding]
    seconds: float

    def scores(self, of: Callable[[VideoFinding], float | None]) -> dict[int, float]:
        """The scores that there are, by interval."""
        told = {index: of(finding) for index, finding in self.findings.items()}
        return {index: score for index, score in told.items() if score is not None}


def trace_of(finding: VideoFinding) -> float | None:
    """The trace detector's score."""
    return finding.trace.score if finding.trace else None


def score_of(finding: VideoFinding) -> float | None:
    """The score that decides."""
    return finding.score


def processor_seconds() -> float:
    """Of this process and of the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def deliveries(source: Path, folder: Path, eyes: tuple[Any, Any]) -> tuple[Look, dict[Variant, Look], float]:
    """The original, its variants, and seconds of the file."""
    began = processor_seconds()
    (folder / "original").mkdir()
    manifest = extract(source, folder / "original", options=OPTIONS, limits=LIMITS, require_sandbox=False)
    findings = look(manifest, folder / "original", eyes)
    original = Look(findings, processor_seconds() - began)
    spans = measured(manifest.spans, original)
    found = {variant: deliver(source, folder / variant, spans, variant, eyes) for variant in Variant if spans}
    return original, found, manifest.facts.duration


def measured(spans: Sequence[Span], original: Look) -> list[Span]:
    """The scored intervals from the beginning on, as many as the product takes."""
    scored = original.scores(score_of).keys() | original.scores(trace_of).keys()
    taken: list[Span] = []
    for span in spans:
        room = MAX_SECONDS - sum(one.end - one.start for one in taken)
        if span.index in scored and len(taken) < MAX_INTERVALS and span.end - span.start <= room:
            taken.append(span)
    return taken


def deliver(source: Path, work: Path, spans: Sequence[Span], variant: Variant, eyes: tuple[Any, Any]) -> Look:
    """One variant, made, extracted and scored."""
    began = processor_seconds()
    work.mkdir()
    manifest, where = extract_variant(
        source, work, spans, variant, options=OPTIONS, limits=LIMITS, require_sandbox=False
    )
    findings = {where[index]: finding for index, finding in look(manifest, work, eyes).items()}
    return Look(findings, processor_seconds() - began)


def look(manifest: Manifest, work: Path, eyes: tuple[Any, Any]) -> dict[int, VideoFinding]:
    """The findings of every interval."""
    found = list(unseen(manifest))
    for shard in manifest.crop_shards:
        found += remeasure(manifest, shard, np.load(work / shard.file), *eyes)
    return {finding.index: finding for finding in found}


def cell(before: dict[int, float], after: dict[int, float]) -> str:
    """Lowest and highest score of a variant, and the mean change from the original."""
    both = before.keys() & after.keys()
    if not both:
        return "-"
    change = np.mean([after[index] - before[index] for index in both])
    lowest, highest = (pick(after[index] for index in both) for pick in (min, max))
    lost = len(before) - len(both)
    return f"{lowest:.2f}-{highest:.2f} ({change:+.2f})" + (f" -{lost}" if lost else "")


def rows(name: str, original: Look, found: dict[Variant, Look], duration: float) -> list[str]:
    """Of the table: a row for each detector that spoke, and one for the seconds."""
    told = []
    for label, of in (("trace", trace_of), ("score", score_of)):
        again = {index for look in found.values() for index in look.findings}
        before = {index: score for index, score in original.scores(of).items() if index in again}
        if before:
            cells = [cell(before, look.scores(of)) for look in found.values()]
            span = f"{min(before.values()):.2f}-{max(before.values()):.2f}"
            told.append(" | ".join([name, label, str(len(before)), span, *cells]))
    total = sum(one.seconds for one in found.values())
    costs = [f"{one.seconds:.1f} s" for one in found.values()]
    share = f"{duration:.0f} s of film: all six {total:.1f} s, {total / original.seconds:.1f} x"
    told.append(" | ".join([name, share, "", f"{original.seconds:.1f} s", *costs]))
    return [f"| {row} |" for row in told]


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    files = parser.parse_args().files
    sandbox.level = lambda: sandbox.RLIMITS  # type: ignore[assignment]
    settings = ModelSettings(blend_trace="on")
    try:
        detector: Any = registry.load(Modality.VIDEO, settings)
    except DetectorUnavailable:
        detector = None
    eyes = (detector, open_trace(settings))
    print("| file | | intervals | original |", " | ".join(Variant), "|")
    print("|---|---|---|---|" + "---|" * len(Variant))
    for file in files:
        with tempfile.TemporaryDirectory() as folder:
            told = rows(file.name, *deliveries(file, Path(folder), eyes))
        sys.stdout.write("\n".join(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
