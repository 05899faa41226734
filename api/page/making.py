"""What produced the report: the file, the detectors with their digests, thresholds, versions, narrator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from api.page.delivery import trace
from api.page.figures import MAX_TEXT, length, moment, plain, shown, size
from api.page.material import Material
from core.reading import at, number, objects, word

POINTS = {
    "fpr_1": "fpr_1: at most 1 of 100 unaltered files is to be accused",
    "fpr_5": "fpr_5: at most 5 of 100 unaltered files are to be accused",
    "balanced": "balanced: errors of both kinds equally likely",
    "seed": "seed: the product's first thresholds, fitted to no data",
}
NARRATORS = {
    "template": "the built-in template",
    "gemini": "Gemini",
    "openai": "an OpenAI-compatible server",
}


@dataclass(frozen=True)
class Fact:
    """A line of the list: a term and what it is."""

    term: str
    text: str
    exact: bool = False  #: digests and ids, to be compared sign by sign


@dataclass(frozen=True)
class DetectorRow:
    """A detector that spoke."""

    id: str
    modality: str
    version: str
    digest: str
    label: str
    calibrated: bool
    calibration: str  #: how it was made, in words
    test_only: bool


def the_file(material: Material) -> list[Fact]:
    """What was looked at, as measured."""
    facts = at(material.report, "provenance", "facts")
    found = [
        Fact("SHA-256", shown(at(material.report, "provenance", "input_sha256")), exact=True),
        Fact("Name as sent", shown(material.filename or "none")),
        *([Fact("Fetched from", shown(material.source))] if material.source else []),
        Fact("Size", size(material.size_bytes)),
        Fact("Length", _length(facts)),
        Fact("Container", shown(at(facts, "container") or "unknown")),
        Fact("Picture", _picture(at(facts, "video"))),
        Fact("Sound", _sound(at(facts, "audio"))),
    ]
    if material.metadata:
        words = json.dumps(material.metadata, ensure_ascii=False, indent=1, sort_keys=True, default=str)
        found.append(Fact("Sender's metadata", shown(words[:MAX_TEXT])))
    return found


def _length(facts: Any) -> str:
    measured, declared = number(at(facts, "duration")), number(at(facts, "declared_duration"))
    cut = f", but its header says {length(declared)}: it was cut short" if at(facts, "cut_short") else ""
    return length(measured) + cut


def _picture(video: Any) -> str:
    if not isinstance(video, dict):
        return "none"
    fps, errors = number(video.get("fps")), number(video.get("decode_errors"))
    parts = [
        shown(video.get("codec")),
        f"{number(video.get('width')) or 0:.0f} x {number(video.get('height')) or 0:.0f}",
        f"{fps:.2f} frames/s" if fps is not None else "one frame",
        "variable rate" if video.get("variable_frame_rate") is True else "",
        f"{errors:.0f} decoding errors" if errors else "",
    ]
    return ", ".join(part for part in parts if part)


def _sound(audio: Any) -> str:
    if not isinstance(audio, dict):
        return "none"
    rate, channels = number(audio.get("sample_rate")), number(audio.get("channels"))
    return f"{shown(audio.get('codec'))}, {rate or 0:.0f} Hz, {channels or 0:.0f} channel(s)"


def detectors(material: Material) -> list[DetectorRow]:
    """Who spoke."""
    return [
        DetectorRow(
            id=shown(found.get("id")),
            modality="picture" if found.get("modality") == "video" else "sound",
            version=shown(found.get("version")),
            digest=shown(found.get("digest")),
            label=shown(found.get("fake_label")),
            calibrated=found.get("calibrated") is True,
            calibration=_calibration(found.get("calibration")),
            test_only=found.get("test_only") is True,
        )
        for found in objects(at(material.report, "provenance", "detectors"))
    ]


def _calibration(found: Any) -> str:
    """From how many labelled files, when, and its digest."""
    if not isinstance(found, dict):
        return ""
    real, fake = (int(number(found.get(name)) or 0) for name in ("real_files", "fake_files"))
    made = f"{plain(found.get('kind'))}, {real} real and {fake} fake files, {moment(found.get('made_at'))}"
    return f"calibration: {made}, {shown(found.get('digest'))}"


def rule(material: Material) -> list[Fact]:
    """What the verdict was decided with."""
    provenance = at(material.report, "provenance")
    thresholds = at(provenance, "thresholds")
    calibrated = at(provenance, "calibrated") is True
    traced = trace(material)
    return [
        Fact("Operating point", _point(provenance)),
        Fact(
            "Calibrated",
            "yes" if calibrated else "no: read scores and confidence as scores, not as probabilities",
        ),
        *(Fact(f"Thresholds, {name}", _limits(at(thresholds, key))) for key, name in MODALITIES),
        *([Fact("Trace detector", traced)] if traced else []),
        Fact("Decoder ran in", shown(at(provenance, "sandbox") or "unknown")),
        Fact("DeepDefend", shown(at(provenance, "version") or "unknown")),
        Fact("Options", ", ".join(_options(at(provenance, "options")))),
        Fact("Text written by", _narrator(at(material.report, "narrator"))),
        Fact("Analysis", str(material.analysis_id), exact=True),
        Fact("Verdict reached", moment(at(material.report, "timestamp"))),
    ]


def _point(provenance: Any) -> str:
    """What was asked for, and whether its error rate holds."""
    used = str(at(provenance, "thresholds", "operating_point"))
    asked = str(at(provenance, "operating_point") or used)
    words = POINTS.get(used, shown(used))
    if asked == used or at(provenance, "honoured") is True:
        return words
    return f"{shown(asked)} was asked for, but no error rate holds without calibrated detectors; {words}"


MODALITIES = (("video", "picture"), ("audio", "sound"))


def _limits(found: Any) -> str:
    names = (("real_below", "real below"), ("suspicious", "suspicious from"), ("decisive", "decisive from"))
    values = ((name, number(at(found, key))) for key, name in names)
    return ", ".join(f"{name} {value:.3g}" for name, value in values if value is not None)


def _options(found: Any) -> Iterator[str]:
    for name, value in found.items() if isinstance(found, dict) else ():
        yield f"{plain(name)} {shown(str(value).lower() if isinstance(value, bool) else value)}"


def _narrator(found: Any) -> str:
    kind = NARRATORS.get(str(at(found, "narrator")), plain(at(found, "narrator")))
    model, prompt = word(at(found, "model")), word(at(found, "prompt_version"))
    parts = [kind, f"model {shown(model)}" if model else "", f"prompt {shown(prompt)}" if prompt else ""]
    why = word(at(found, "fallback_reason"))
    parts.append(f"in place of a language model ({plain(why)})" if why else "")
    return ", ".join(part for part in parts if part)
