"""The report as text for people: verdict, scores, timeline, reasons, provenance. Trusts no field of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from cli import evidence
from cli.bars import MODALITIES, NAMES, Marks, chart
from cli.client import Envelope
from cli.doc import at, code, number, objects, word, words
from cli.plain import fitting, harmless, plain

VERDICTS: Final = {
    "DEEPFAKE": ("bold red", "this looks manipulated"),
    "REAL": ("bold green", "nothing suspicious was found"),
    "INCONCLUSIVE": ("bold yellow", "the evidence does not allow a verdict"),
}
DIGEST_LENGTH = 19  # `sha256:` and 12 digits tell checkpoints apart
FACES = 5  # more do not help a reader; the JSON has all
MB = 1_000_000
Lines = Iterator[Text]


def render_report(envelope: Envelope, console: Console, intervals: Sequence[dict[str, Any]] = ()) -> None:
    """Print a completed analysis; `intervals` are the rows of `/intervals`, for the chart."""
    report = at(envelope, "report")
    marks = _marks(report)
    sections: tuple[Iterable[Text], ...] = (
        _heading(envelope),
        _scores(report, marks),
        chart(console, intervals, marks),
        _suspicious(report),
        _reasons(report),
        evidence.trace(report),
        _faces(report),
        evidence.lips(report),
        _signals(report),
        evidence.splices(report),
        evidence.stability(report),
        _provenance(report),
        _analysis(report),
    )
    for section in sections:
        lines = list(section)
        for line in lines:
            _print(console, line)
        if lines:
            console.print()


def _print(console: Console, line: Text) -> None:
    """The only way out: whatever the line was made of, it cannot command the terminal.

    Leading blanks indent what has to be wrapped, too.
    """
    line.plain = fitting(console, harmless(line.plain))
    indent = len(line.plain) - len(line.plain.lstrip(" "))
    for row in line[indent:].wrap(console, max(console.width - indent, 1), overflow="fold"):
        row.rstrip()  # rich fills wrapped lines with blanks, which are in the way of copy and diff
        console.print(Text(" " * indent).append_text(row), highlight=False, soft_wrap=True)


def _marks(report: Any) -> dict[str, Marks]:
    thresholds = at(report, "provenance", "thresholds")
    return {
        modality: Marks(
            number(at(thresholds, modality, "real_below")), number(at(thresholds, modality, "suspicious"))
        )
        for modality in MODALITIES
    }


def _heading(envelope: Envelope) -> Lines:
    verdict = str(envelope.get("verdict"))
    style, meaning = VERDICTS.get(verdict, ("bold", "this verdict is unknown here"))
    confidence = number(envelope.get("confidence"))
    line = Text(plain(verdict, 40), style=style)
    line.append(f"  {meaning}", style="not bold")
    yield line.append("" if confidence is None else f", with {confidence:.1f} % confidence", style="not bold")
    yield Text(_file(envelope))
    if at(envelope, "report", "test_only") is True:
        yield Text("Made with a TEST-ONLY detector: the scores mean nothing.", style="bold red")


def _file(envelope: Envelope) -> str:
    media, info = at(envelope, "media"), at(envelope, "report", "video_info")
    size, duration = number(at(media, "size_bytes")), number(at(info, "duration"))
    parts = [
        plain(at(media, "filename") or "unnamed", 200),
        "" if duration is None else f"{duration:.1f} s",
        "" if size is None else f"{size / MB:.1f} MB",
        f"sha256 {plain(at(media, 'sha256'), 100)[:12]}" if word(at(media, "sha256")) else "",
    ]
    return ", ".join(part for part in parts if part)


def _scores(report: Any, marks: dict[str, Marks]) -> Lines:
    """Each overall score with its coverage; a null one says so instead of showing a number."""
    yield Text("Fake probability, mean over what could be scored", style="bold")
    for modality in MODALITIES:
        score = number(at(report, "overall_scores", f"overall_{modality}_score"))
        style = "dim" if score is None else marks[modality].style(score)
        line = Text(f"  {NAMES[modality]:<9}").append(f"{_figure(score)}", style=style)
        yield line.append(_coverage(at(report, "coverage", modality)), style="dim")
    combined = number(at(report, "overall_scores", "overall_combined_score"))
    yield Text(f"  {'combined':<9}{_figure(combined)}")
    limits = {_limits(marks[modality]): NAMES[modality] for modality in reversed(MODALITIES)}
    limits.pop("", None)
    for text, name in limits.items():
        yield Text(f"  {text}" + (f" ({name})" if len(limits) > 1 else ""), style="dim")


def _figure(score: float | None) -> str:
    return "not measured" if score is None else f"{score:.3f}"


def _limits(marks: Marks) -> str:
    if marks.real_below is None or marks.suspicious is None:
        return ""
    return f"real below {marks.real_below:.2f}, suspicious from {marks.suspicious:.2f}"


def _coverage(coverage: Any) -> str:
    """How much of what could be scored was scored."""
    scored, scorable = number(at(coverage, "scored_seconds")), number(at(coverage, "scorable_seconds"))
    if scored is None or scorable is None:
        return ""
    return f"   {scored:.1f} of {scorable:.1f} s scored"


def _suspicious(report: Any) -> Lines:
    found = objects(at(report, "suspicious_intervals"))
    if found:
        yield Text("Suspicious intervals", style="bold")
    for row in found:
        line = Text(f"  {plain(row.get('interval'), 24)} s")
        for modality in MODALITIES:
            score = number(row.get(f"{modality}_score"))
            causes = ", ".join(words(row.get(f"{modality}_regions")))
            if score is not None or causes:
                line.append(
                    f"  {NAMES[modality]} {_figure(score)}" + (f" ({plain(causes)})" if causes else "")
                )
        yield line


def _reasons(report: Any) -> Lines:
    found = at(report, "reasons")
    reasons = objects(found) or [{"reason": text} for text in words(found)]
    if reasons:
        yield Text("Reasons and gaps", style="bold")
    for reason in reasons:
        count = number(reason.get("intervals"))
        where = "" if count is None else f" ({_intervals(count)})"
        text = word(reason.get("text")) or code(reason.get("reason")) or "unknown"
        style = "bold" if reason.get("decisive") is True else ""
        yield Text(f"  {plain(text)}{where} [{code(reason.get('reason'))}]", style=style)
        if word(reason.get("mend")):
            yield Text(f"    mend it with: {plain(reason.get('mend'))}", style="bold")


def _faces(report: Any) -> Lines:
    """Every face that was followed, scored or not; the longest seen first, at most FACES of them."""
    tracks = sorted(
        objects(at(report, "tracks")), key=lambda track: number(track.get("frames")) or 0, reverse=True
    )
    if tracks:
        yield Text("Faces", style="bold")
    for track in tracks[:FACES]:
        start, end = number(track.get("start")) or 0, number(track.get("end")) or 0
        seen = f"seen in {number(track.get('frames')) or 0:.0f} sampled frames"
        score = _figure(number(track.get("score")))
        yield Text(f"  {number(track.get('id')) or 0:.0f}: {start:.1f}-{end:.1f} s, {seen}, score {score}")
    if len(tracks) > FACES:
        yield Text(f"  and {len(tracks) - FACES} more")


def _signals(report: Any) -> Lines:
    """Measured oddities of the voice, each with its bound."""
    found = objects(at(report, "signals"))
    if found:
        yield Text("Sound signals (they inform; the verdict does not rest on them)", style="bold")
    for signal in found:
        value, threshold = number(signal.get("value")), number(signal.get("threshold"))
        measured = "" if value is None else f" {value:.4g} {plain(signal.get('unit') or '', 40)}"
        bound = "" if threshold is None else f", bound {threshold:.4g}"
        count = number(signal.get("intervals")) or 0
        place = plain(signal.get("interval"), 24)
        yield Text(f"  {code(signal.get('signal'))}:{measured}{bound}, at {place} s, {_intervals(count)}")


def _intervals(count: float) -> str:
    return f"{count:.0f} interval" + ("" if count == 1 else "s")


def _provenance(report: Any) -> Lines:
    provenance = at(report, "provenance")
    yield Text("Made with", style="bold")
    detectors = objects(at(provenance, "detectors"))
    for detector in detectors:
        yield _detector(detector)
    if not detectors:
        yield Text("  no detector: no score of a model is in this report")
    state = "calibrated" if at(provenance, "calibrated") is True else "not calibrated"
    point = plain(at(provenance, "thresholds", "operating_point") or "unknown", 40)
    yield Text(f"  thresholds: {point}, {state}")
    if (asked := word(at(provenance, "operating_point"))) and at(provenance, "honoured") is not True:
        yield Text(f"  {plain(asked, 40)} was asked for; without calibrations its error rate does not hold")
    version, sandbox = (plain(at(provenance, name) or "unknown", 40) for name in ("version", "sandbox"))
    narrator = plain(at(report, "narrator", "model") or at(report, "narrator", "narrator") or "unknown", 60)
    yield Text(f"  DeepDefend {version}, decoder in {sandbox}, text by {narrator}")


def _detector(detector: dict[str, Any]) -> Text:
    name = plain(detector.get("id"), 120)
    version, digest = plain(detector.get("version"), 12), plain(detector.get("digest"), 100)
    line = Text(f"  {plain(detector.get('modality'), 20)}: {name} {version} {digest[:DIGEST_LENGTH]}")
    line.append("" if detector.get("calibrated") is True else ", not calibrated")
    return line.append(", TEST ONLY", style="bold red") if detector.get("test_only") is True else line


def _analysis(report: Any) -> Lines:
    """The narrator's text, its paragraphs kept."""
    text = word(at(report, "detailed_analysis"))
    for paragraph in (text or "").splitlines():
        if paragraph.strip():
            yield Text(plain(paragraph))
