"""The report as people see it, made by the real fusion, on consoles of all kinds, with hostile text."""

from __future__ import annotations

import io
import json
import unicodedata
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from cli import bars, doc
from cli.bars import Cell, Marks
from cli.plain import INVISIBLE, harmless, plain
from cli.render import _print, render_report
from core import report as reports
from core.domain import Modality, Options, Reason, Region, SoundSignal, Span, timeline
from core.evidence import (
    AudioFacts,
    AudioFinding,
    DetectorIdentity,
    MediaFacts,
    RegionEffect,
    Signal,
    VideoFacts,
    VideoFinding,
)
from core.fusion.inputs import IntervalEvidence
from core.fusion.narrators.narration import Narration
from core.fusion.verdict import judge
from tests.cli.conftest import envelope
from workers.detectors.signals.bounds import BOUNDS

MARKS = Marks(0.5, 0.6)
FACTS = MediaFacts(
    container="mov,mp4",
    duration=20.0,
    declared_duration=20.0,
    size_bytes=2_400_000,
    video=VideoFacts(
        codec="h264",
        width=640,
        height=360,
        rotation=0,
        pixel_format="yuv420p",
        fps=25.0,
        frames=500,
        variable_frame_rate=False,
    ),
    audio=AudioFacts(codec="aac", sample_rate=44100, channels=2),
)
EYES = RegionEffect(region=Region.EYES, drop=0.3, spread=0.01)
FLAT = Signal(signal=SoundSignal.MONOTONE_VOICE, value=0.6123, unit="st", threshold=1.0)


def detector(modality: Modality, *, test_only: bool = False) -> DetectorIdentity:
    return DetectorIdentity(
        id=f"org/{modality.value}-model",
        modality=modality,
        version="0123456789abcdef",
        digest="sha256:" + "ab" * 32,
        fake_label="Fake",
        test_only=test_only,
    )


def row(
    span: Span, video: float | None, audio: float | None, why: Reason = Reason.NO_FACE
) -> IntervalEvidence:
    suspicious = video is not None and video > 0.6
    return IntervalEvidence(
        index=span.index,
        start=span.start,
        end=span.end,
        video=VideoFinding(
            index=span.index,
            score=video,
            reason=None if video is not None else why,
            regions=(EYES,) if suspicious else (),
        ),
        audio=AudioFinding(
            index=span.index,
            score=audio,
            reason=None if audio is not None else Reason.NO_DETECTOR_WEIGHTS,
            speech_seconds=1.5,
            signals=(FLAT,) if suspicious else (),
        ),
    )


def analysis(
    video: list[float | None],
    audio: list[float | None],
    detectors: tuple[DetectorIdentity, ...] = (),
    **more: Any,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An envelope whose report the real fusion made, and its interval rows as the API pages them."""
    spans = timeline(2.0 * len(video), 2.0)
    rows = [row(*each) for each in zip(spans, video, audio, strict=True)]
    judgement = judge(rows, detectors=detectors, facts=FACTS)
    found = reports.build(
        judgement,
        Narration(text="First paragraph, about [0.0-2.0].\n\nSecond paragraph.", narrator="template"),
        analysis_id=UUID(int=1),
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        input_sha256="cd" * 32,
        options=Options(),
        sandbox="bubblewrap",
    ).model_dump(mode="json")
    whole = envelope(
        verdict=found["verdict"], confidence=found["confidence"], report=found, media=MEDIA, **more
    )
    return whole, [interval(one) for one in rows]


MEDIA = {"sha256": "cd" * 32, "size_bytes": 2_400_000, "filename": "clip.mp4", "facts": None}


def interval(one: IntervalEvidence) -> dict[str, Any]:
    return {
        "index": one.index,
        "start": one.start,
        "end": one.end,
        "video_score": one.video.score,
        "video_reason": one.video.reason and one.video.reason.value,
        "audio_score": one.audio.score,
        "audio_reason": one.audio.reason and one.audio.reason.value,
    }


def shown(
    found: dict[str, Any],
    rows: list[dict[str, Any]],
    *,
    width: int = 80,
    encoding: str = "utf-8",
    colour: bool = False,
) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    console = Console(
        file=stream, width=width, force_terminal=colour, color_system="standard" if colour else None
    )
    render_report(found, console, rows)
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


FAKE = analysis(
    [0.2, 0.3, 0.95, 0.96, 0.97, 0.95, None, 0.55, 0.2, 0.1],
    [None] * 10,
    (detector(Modality.VIDEO),),
)
CLEAN = analysis([0.1] * 10, [0.2] * 10, (detector(Modality.VIDEO), detector(Modality.AUDIO)))
NOTHING = analysis([None] * 10, [None] * 10)


class TestContent:
    def test_a_fake_is_called_so_with_its_confidence(self) -> None:
        text = shown(*FAKE)
        assert text.startswith("DEEPFAKE  this looks manipulated, with ")
        assert f"{FAKE[0]['confidence']:.1f} % confidence" in text
        assert "clip.mp4, 20.0 s, 2.4 MB, sha256 cdcdcdcdcdcd" in text

    def test_no_confidence_is_not_shown_as_one(self) -> None:
        text = shown(*NOTHING)
        assert text.startswith("INCONCLUSIVE  the evidence does not allow a verdict\n")
        assert "% confidence" not in text

    def test_scores_and_what_they_stand_on(self) -> None:
        text = shown(*CLEAN)
        assert "picture  0.100   20.0 of 20.0 s scored" in text
        assert "sound    0.200   15.0 of 15.0 s scored" in text
        assert "combined 0.150" in text
        assert text.count("real below 0.50, suspicious from 0.60") == 1

    def test_null_is_never_a_number(self) -> None:
        text = shown(*NOTHING)
        assert "picture  not measured" in text
        assert "combined not measured" in text
        assert "0.00" not in text

    def test_suspicious_intervals_name_regions_and_signals(self) -> None:
        text = shown(*FAKE)
        assert "4.0-6.0 s  picture 0.950 (eyes)  sound not measured (monotone_voice)" in text
        assert "monotone_voice: 0.6123 st, bound 1, at 4.0-6.0 s, 4 intervals" in text
        assert "no face is visible. (1 interval) [no_face]" in text

    @pytest.mark.parametrize("unit", sorted({bound.unit for bound in BOUNDS}))
    def test_every_unit_that_we_measure_in_is_shown_whole(self, unit: str) -> None:
        whole, rows = analysis([0.1] * 4, [0.1] * 4)
        whole["report"]["signals"] = [FLAT.model_dump(mode="json") | {"unit": unit}]
        assert f"0.6123 {unit}, bound 1" in shown(whole, rows, width=200)

    def test_no_line_ends_in_blanks(self) -> None:
        for width in (40, 80):
            assert [line for line in shown(*FAKE, width=width).splitlines() if line != line.rstrip()] == []

    def test_faces_are_shown_scored_or_not_the_longest_seen_first(self) -> None:
        whole, rows = analysis([0.1] * 4, [0.1] * 4)
        seen = [{"id": n, "start": 0.0, "end": 2.0 * n, "frames": n, "score": None} for n in range(1, 8)]
        seen[2]["score"] = 0.25
        whole["report"]["tracks"] = seen
        text = shown(whole, rows)
        assert "7: 0.0-14.0 s, seen in 7 sampled frames, score not measured" in text
        assert "3: 0.0-6.0 s, seen in 3 sampled frames, score 0.250" in text
        assert text.index("7: 0.0") < text.index("3: 0.0")
        assert "and 2 more" in text
        assert "Faces" not in shown(*CLEAN)

    def test_a_reason_comes_with_the_command_that_mends_it(self) -> None:
        text = shown(*NOTHING)
        assert "No part of the file could be scored." in text
        assert "[no_detector_weights]" in text
        assert "    mend it with: deepdefend models pull" in text

    def test_provenance(self) -> None:
        text = shown(*CLEAN, width=120)
        assert "video: org/video-model 0123456789a… sha256:abababababab, not calibrated" in text
        assert "thresholds: seed, not calibrated" in text
        assert "decoder in bubblewrap, text by template" in text
        assert "no detector" in shown(*NOTHING)

    def test_a_test_detector_is_shouted_in_red(self) -> None:
        found = analysis([0.1] * 4, [0.1] * 4, (detector(Modality.VIDEO, test_only=True),))
        text = shown(*found, colour=True, width=120)
        assert "\x1b[1;31mMade with a TEST-ONLY detector: the scores mean nothing." in text
        assert "TEST ONLY" in text
        assert "TEST" not in shown(*CLEAN)

    def test_paragraphs_are_kept_and_wrapped(self) -> None:
        text = shown(*CLEAN)
        assert "First paragraph, about [0.0-2.0].\nSecond paragraph.\n" in text


class TestChart:
    def test_each_interval_has_a_row_with_both_modalities(self) -> None:
        lines = shown(*FAKE).splitlines()
        chart = [line for line in lines if "----" in line]
        assert len(chart) == 10
        assert all("no_detector_weights" in line for line in chart)
        assert sum("no_face" in line for line in chart) == 1
        assert any(line.startswith("  4.0-6.0 █") and "0.95" in line for line in chart)

    @pytest.mark.parametrize(
        ("score", "drawn"),
        [
            (0.0, "     ||   "),
            (0.3, "###  ||   "),
            (0.55, "#####||   "),
            (1.0, "#####||###"),
        ],
    )
    def test_a_bar_is_as_long_as_its_score_and_marks_the_thresholds(self, score: float, drawn: str) -> None:
        assert bars.bar(Cell(score, None), 10, MARKS, bars.ASCII).plain == drawn

    def test_null_is_hatched_and_says_why(self) -> None:
        assert bars.bar(Cell(None, "silence"), 15, MARKS, bars.UNICODE).plain == "··· silence ···"
        assert bars.bar(Cell(None, "no_detector_weights"), 8, MARKS, bars.ASCII).plain == "no_detec"

    def test_colours_follow_the_thresholds(self) -> None:
        assert [MARKS.style(score) for score in (0.49, 0.5, 0.6)] == ["green", "yellow", "red"]
        assert Marks(None, None).style(0.99) == ""

    @given(st.lists(st.none() | st.floats(0, 1), min_size=41, max_size=130))
    @settings(max_examples=40, deadline=None)
    def test_merging_never_hides_a_suspicion_nor_loses_time(self, scores: list[float | None]) -> None:
        given_rows = [
            {"start": 2.0 * n, "end": 2.0 * n + 2, "video_score": score, "video_reason": "no_face"}
            for n, score in enumerate(scores)
        ]
        merged, size = bars.rows(given_rows)
        assert len(merged) <= bars.MAX_ROWS
        assert (merged[0].start, merged[-1].end) == (0.0, 2.0 * len(scores))
        assert all(one.end == other.start for one, other in pairwise(merged))
        for place, one in enumerate(merged):
            group = [score for score in scores[place * size : (place + 1) * size] if score is not None]
            assert one.cells[0].score == max(group, default=None)
        assert size == -(-len(scores) // bars.MAX_ROWS)

    def test_merging_says_so(self) -> None:
        found, _ = analysis([0.1] * 100, [0.1] * 100)
        rows = [interval(row(span, 0.1, 0.1)) for span in timeline(200, 2)]
        assert "the highest of 3 intervals" in shown(found, rows)

    def test_rows_out_of_order_are_put_in_order(self) -> None:
        found, rows = CLEAN
        assert shown(found, rows[::-1]) == shown(found, rows)


class TestConsoles:
    @pytest.mark.parametrize("which", [FAKE, CLEAN, NOTHING])
    @pytest.mark.parametrize("width", [40, 80, 200])
    def test_nothing_is_wider_than_the_console(
        self, which: tuple[dict[str, Any], list[dict[str, Any]]], width: int
    ) -> None:
        assert max(map(len, shown(*which, width=width).splitlines())) <= width

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
    def test_an_encoding_without_blocks_gets_ascii_bars(self, encoding: str) -> None:
        found, rows = FAKE
        found = found | {"media": MEDIA | {"filename": "Größe 日本.mp4"}}
        text = shown(found, rows, encoding=encoding)
        assert "####" in text
        assert "|" in text
        assert "█" not in text
        assert ".mp4, 20.0 s" in text

    def test_no_colour_where_there_is_none(self) -> None:
        assert "\x1b" not in shown(*FAKE)


KEYS: list[str] = [
    "overall_scores",
    "suspicious_intervals",
    "reasons",
    "coverage",
    "video",
    "provenance",
    "detectors",
    "signals",
]
EVIL = "\x1b[2J\x1b]0;owned\x07\r\n\x9b31m\u202egnp.exe\u200b[bold]x[/bold][link=http://x]:skull:\x00"


class TestHostileText:
    def test_every_text_of_the_server_may_be_hostile(self) -> None:
        found = poisoned(json.loads(json.dumps(FAKE[0])))
        rows = [poisoned(one) for one in FAKE[1]]
        text = shown(found, rows, colour=True)
        for command in ("\x1b[2J", "\x1b]", "\x07", "\x9b", "\u202e", "\u200b", "\x00", "\r"):
            assert command not in text
        assert "[bold]x[/bold]" in text.replace("\n", "")
        assert "\N{SKULL}" not in text

    def test_no_line_gets_past_the_last_door(self) -> None:
        written = io.StringIO()
        _print(Console(file=written, width=80), Text(f"  {EVIL}"))
        assert not any(sign in written.getvalue() for sign in "\x1b\x07\x9b\r\x00\u202e\u200b")

    @given(st.text())
    def test_plain_is_one_line_of_visible_characters(self, text: str) -> None:
        assert not any(unicodedata.category(c) in INVISIBLE for c in plain(text))
        assert len(harmless(text)) == len(text)

    def test_plain_is_bounded(self) -> None:
        assert plain("x" * 10_000_000, 100) == "x" * 99 + "…"
        assert plain("  a\tb\n\nc ") == "a b c"
        assert plain(None) == "None"

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
            ),
            max_leaves=30,
        )
    )
    @settings(max_examples=150, deadline=None)
    def test_no_shape_of_a_report_breaks_it(self, junk: Any) -> None:
        assert shown(envelope(verdict=junk, confidence=junk, report=junk, media=junk), [{"start": junk}])
        merged = json.loads(json.dumps(FAKE[0]["report"]))
        for key in merged:
            assert shown(FAKE[0] | {"report": merged | {key: junk}}, [{"start": 0, "video_score": junk}])

    def test_doc_reads_only_what_is_what_it_says(self) -> None:
        assert doc.number(True) is None  # noqa: FBT003 - a boolean is the case
        assert doc.number(float("nan")) is None
        assert doc.number("1") is None
        assert doc.at({"a": [1]}, "a", "b") is None
        assert doc.code("a b\x1b") == "a?b?"
        assert doc.objects([1, {"a": 1}, None]) == [{"a": 1}]
        assert doc.words(["a", 1]) == ["a"]
        assert doc.word("") is None


def poisoned(value: Any) -> Any:
    """The same shape with every text made hostile; the verdict stays, to get as far as possible."""
    if isinstance(value, str):
        return value + EVIL
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    if isinstance(value, dict):
        return {key: item if key in {"verdict", "status"} else poisoned(item) for key, item in value.items()}
    return value
