"""The built-in narrator: plain English from the figures, without a model or a network."""

from __future__ import annotations

from collections.abc import Iterable

from core.domain import Modality, Reason, Verdict
from core.fusion.aggregate import ModalityEvidence
from core.fusion.causes import NAMES, Cause
from core.fusion.inputs import IntervalEvidence
from core.fusion.judgement import Judgement, Standing
from core.fusion.narrators.figures import MAX_SIGNAL_PLACES, cited
from core.fusion.narrators.narration import Narration

#: Intervals named in the text; the report lists all of them.
_NAMED = 5


def write(judgement: Judgement, *, fallback_reason: str | None = None) -> Narration:
    """The explanation as a few paragraphs of one to four sentences each."""
    paragraphs = (
        _opening(judgement),
        *(_side(judgement, judgement.of(modality)) for modality in Modality),
        _trace(judgement),
        _intervals(judgement),
        _signals(judgement),
        _gaps(judgement),
        _caveats(judgement),
    )
    text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    return Narration(text=text, narrator="template", fallback_reason=fallback_reason)


def _opening(judgement: Judgement) -> str:
    match judgement.verdict:
        case Verdict.DEEPFAKE:
            return (
                f"Verdict: DEEPFAKE, with a confidence of {judgement.confidence:.1f}%. {_accused(judgement)}"
            )
        case Verdict.REAL:
            return (
                f"Verdict: REAL, with a confidence of {judgement.confidence:.1f}%. "
                "Everything that could be scored stays below the point where doubt begins."
            )
        case Verdict.INCONCLUSIVE:
            return f"Verdict: INCONCLUSIVE. {_undecided(judgement)}"


def _accused(judgement: Judgement) -> str:
    accused = [m for m, s in judgement.standings.items() if s in {Standing.NEAR, Standing.FAKE}]
    names = _listed(f"the {NAMES[modality]}" for modality in accused)
    verb = "is" if len(accused) == 1 else "are"
    return f"{names[0].upper()}{names[1:]} {verb} what gives it away."


def _undecided(judgement: Judgement) -> str:
    decisive = [cause for cause in judgement.causes if cause.decisive]
    said = _listed(f"in the {NAMES[c.modality]}, {c.words}" if c.modality else c.words for c in decisive)
    return f"The evidence supports neither answer: {said}."


def _side(judgement: Judgement, side: ModalityEvidence) -> str:
    """Mean, coverage and run of one modality; nothing at all where nothing was scored."""
    if side.score is None or side.coverage is None:
        return ""
    limits = judgement.thresholds.of(side.modality)
    subject, material = ("face", "face time") if side.modality is Modality.VIDEO else ("voice", "speech")
    words = (
        f"The {NAMES[side.modality]} scores {side.score:.3f} on average over "
        f"{_count(side.scored_intervals, 'interval')} with a {subject}, where below "
        f"{limits.real_below:g} looks real and {limits.suspicious:g} or more is suspicious; "
        f"{100 * side.coverage:.1f}% of the {material} was scored."
    )
    if side.run:
        words += (
            f" A run of {_count(side.run.intervals, 'neighbouring interval')}, [{side.run.interval}], "
            f"averages {side.run.mean:.3f}, more than chance explains in a file of this length."
        )
    elif side.doubt:
        words += f" The part [{side.doubt.interval}] stands out, but not enough to accuse."
    return words


def _trace(judgement: Judgement) -> str:
    """What the detector of blending says: a trace, and never more than that."""
    trace = judgement.trace
    if trace is None or trace.score is None:
        return ""
    words = (
        f"The detector of manipulation traces scores {trace.score:.3f} on average over "
        f"{_count(trace.scored_intervals, 'interval')}; from {trace.threshold:.3f} on it is a trace."
    )
    if not trace.found:
        return f"{words} It found none that counts, which proves nothing."
    where = f" Traces of manipulation stand together in [{trace.run.interval}]." if trace.run else ""
    return f"{words}{where} It decides nothing alone: it can cast doubt, or support another suspicion."


def _intervals(judgement: Judgement) -> str:
    rows = cited(judgement)[:_NAMED]
    if not rows:
        return ""
    total = len(judgement.suspicious)
    head = (
        f"{_count(total, 'interval')} of {len(judgement.intervals)} reached a suspicious score"
        if total <= len(rows)
        else f"{total} of {len(judgement.intervals)} intervals reached a suspicious score, among them"
    )
    return f"{head[0].upper()}{head[1:]}: {'; '.join(_interval(row) for row in rows)}."


def _interval(row: IntervalEvidence) -> str:
    scores = [f"{NAMES[m]} {score:.3f}" for m in Modality if (score := row.score(m)) is not None]
    details = ", ".join(scores)
    if row.video_regions:
        details += f", hiding the {_plain(row.video_regions)} lowers the picture's score"
    if row.audio_regions:
        details += f", {_plain(row.audio_regions)} measured in the sound"
    return f"[{row.label}] ({details})"


def _signals(judgement: Judgement) -> str:
    """Measured signals without a score beside them: they inform and decide nothing."""
    if judgement.audio.score is not None:
        return ""
    told = [f"{name} in {_places(rows)}" for name, rows in _by_signal(judgement).items()]
    if not told:
        return ""
    return f"Measured in the sound: {'; '.join(told)}. The verdict does not rest on these measurements."


def _by_signal(judgement: Judgement) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for row in judgement.intervals:
        for signal in row.audio_regions:
            places.setdefault(_plain([signal]), []).append(row.label)
    return places


def _places(labels: list[str]) -> str:
    first = ", ".join(f"[{place}]" for place in labels[:MAX_SIGNAL_PLACES])
    return first if len(labels) <= MAX_SIGNAL_PLACES else f"{first} and elsewhere"


def _gaps(judgement: Judgement) -> str:
    """What was not measured, each with its reason, and the commands that would change it."""
    told = [cause for cause in judgement.causes if not cause.decisive]
    if not told:
        return ""
    mends = dict.fromkeys(cause.mend for cause in told if cause.mend)
    words = f"Not measured: {'; '.join(_gap(cause) for cause in told)}."
    if mends:
        commands = _listed(f"`{mend}`" for mend in mends)
        words += f" To mend it, run {commands} on the server and submit the file again."
    return words


def _gap(cause: Cause) -> str:
    where = f"the {NAMES[cause.modality]}" if cause.modality else "part of the file"
    if cause.intervals and cause.reason not in {Reason.NO_VIDEO_STREAM, Reason.NO_AUDIO_STREAM}:
        where += f" in {_count(cause.intervals, 'interval')}"
    return f"{where}, because {cause.words}"


def _caveats(judgement: Judgement) -> str:
    spoke = any(side.score is not None for side in (judgement.video, judgement.audio))
    words = []
    if judgement.test_only:
        words.append("A detector made for tests took part: this verdict means nothing.")
    if spoke and not judgement.calibrated:
        words.append(
            "The detectors are not calibrated: read the confidence as a score, not as a probability."
        )
    return " ".join(words)


def _plain(names: Iterable[str]) -> str:
    return _listed(str(name).replace("_", " ") for name in names)


def _listed(parts: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *head, last = parts
    return f"{', '.join(head)} and {last}" if head else last


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
