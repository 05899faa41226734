from __future__ import annotations

import importlib.metadata
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import report
from core.domain import Modality, Options, Reason, Region, SoundSignal, StepStatus, Verdict
from core.evidence import Splice, Track
from core.fusion.inputs import Branch, IntervalEvidence
from core.fusion.narrators import Narration, template
from core.fusion.verdict import judge
from core.report import Report
from tests.core.fusion.samples import FACTS, VIT, WAV2VEC, Cell, row, rows
from tests.core.fusion.test_trace import marked

#: The sample of the product's first description, word for word.
SAMPLE: dict[str, Any] = json.loads("""
{
  "verdict": "DEEPFAKE",
  "confidence": 87.5,
  "overall_scores": {
    "overall_video_score": 0.823,
    "overall_audio_score": 0.756,
    "overall_combined_score": 0.789
  },
  "detailed_analysis": "This video shows strong indicators of deepfake manipulation...",
  "suspicious_intervals": [
    {
      "interval": "4.0-6.0",
      "video_score": 0.891,
      "audio_score": 0.834,
      "video_regions": ["eyes", "mouth"],
      "audio_regions": ["voice_synthesis_artifacts"]
    }
  ],
  "total_intervals_analyzed": 15,
  "video_info": {
    "duration": 12.498711111111112,
    "fps": 29.923085402583734,
    "total_frames": 374,
    "file_size_mb": 31.36
  },
  "analysis_id": "4cd98ea5-8c14-4cae-8da4-689345b0aabc",
  "timestamp": "2025-10-10T23:34:35.724916"
}
""")
ID = UUID(SAMPLE["analysis_id"])
WHEN = datetime(2025, 10, 10, 23, 34, 35, 724916, tzinfo=UTC)
SHA = "c" * 64


def built(evidence: list[IntervalEvidence], **judged: Any) -> Report:
    judgement = judge(evidence, facts=judged.pop("facts", FACTS), **judged)
    return report.build(
        judgement,
        template.write(judgement),
        analysis_id=ID,
        timestamp=WHEN,
        input_sha256=SHA,
        options=Options(),
        sandbox="bubblewrap",
    )


def as_json(made: Report) -> Any:
    return json.loads(made.model_dump_json())


def typical() -> list[IntervalEvidence]:
    evidence = rows([0.8] * 6, [0.7] * 6)
    evidence[2] = row(
        2,
        0.891,
        0.834,
        regions=[(Region.MOUTH, 0.2, 0.1), (Region.EYES, 0.3, 0.1)],
        signals=[(SoundSignal.VOICE_SYNTHESIS_ARTIFACTS, 17.0)],
    )
    return evidence


def same_shape(sample: Any, made: Any, path: str = "report") -> None:
    """Every key of the sample is there, with a value of the same JSON type."""
    assert type(made) is type(sample), path
    if isinstance(sample, dict):
        for key, value in sample.items():
            assert key in made, f"{path}.{key}"
            same_shape(value, made[key], f"{path}.{key}")
    elif isinstance(sample, list):
        assert made, path
        for n, value in enumerate(made):
            same_shape(sample[0], value, f"{path}[{n}]")


def test_every_field_of_the_first_sample_is_there_with_its_type() -> None:
    made = as_json(built(typical()))
    regions = [item["video_regions"] for item in made["suspicious_intervals"]]
    assert regions == [[], [], ["eyes", "mouth"], [], [], []]
    made["suspicious_intervals"] = [made["suspicious_intervals"][2]]
    same_shape(SAMPLE, made)


def test_objects_of_the_sample_have_no_further_fields() -> None:
    made = as_json(built(typical()))
    for key in ("overall_scores", "video_info"):
        assert set(made[key]) == set(SAMPLE[key])
    assert set(made["suspicious_intervals"][0]) == set(SAMPLE["suspicious_intervals"][0])
    assert list(made)[: len(SAMPLE)] == list(SAMPLE)


def test_the_values_of_the_sample_come_out_of_its_media_facts() -> None:
    made = as_json(built(typical()))
    assert made["video_info"] == SAMPLE["video_info"]
    assert made["analysis_id"] == SAMPLE["analysis_id"]
    assert made["timestamp"].startswith(SAMPLE["timestamp"])
    assert made["suspicious_intervals"][2] == SAMPLE["suspicious_intervals"][0]


def test_what_was_not_measured_is_null() -> None:
    weightless = [Reason.NO_DETECTOR_WEIGHTS] * 3
    made = as_json(built(rows(weightless, [Reason.SILENCE] * 3)))
    assert made["verdict"] == "INCONCLUSIVE"
    assert made["confidence"] is None
    assert set(made["overall_scores"].values()) == {None}
    assert made["suspicious_intervals"] == []
    assert made["total_intervals_analyzed"] == 3
    assert made["coverage"]["video"]["share"] == 0.0
    assert made["coverage"]["audio"]["share"] is None
    assert made["coverage"]["audio"]["standing"] == "absent"


def test_a_sound_file_has_no_frames() -> None:
    made = as_json(built(rows(None, [0.1] * 3), facts=FACTS.model_copy(update={"video": None})))
    assert made["verdict"] == "REAL"
    assert made["video_info"]["fps"] is None
    assert made["video_info"]["total_frames"] is None
    assert made["overall_scores"]["overall_video_score"] is None
    assert made["overall_scores"]["overall_combined_score"] == 0.1


def test_intervals_that_no_step_looked_at_are_not_analyzed() -> None:
    lost, looked = Reason.NOT_ANALYZED, Reason.NO_FACE
    assert built(rows([lost, lost, looked, 0.1], [lost, 0.1, lost, lost])).total_intervals_analyzed == 3


def test_reasons_carry_words_and_the_command() -> None:
    branch = Branch(modality=Modality.AUDIO, status=StepStatus.FAILED, reason=Reason.WORKER_LOST)
    made = as_json(
        built(rows([Reason.NO_DETECTOR_WEIGHTS] * 2, [Reason.NOT_ANALYZED] * 2), branches=[branch])
    )
    assert [(item["reason"], item["modality"], item["decisive"]) for item in made["reasons"]] == [
        ("nothing_scored", None, True),
        ("no_detector_weights", "video", False),
        ("worker_lost", "audio", False),
    ]
    assert made["reasons"][1] == {
        "reason": "no_detector_weights",
        "modality": "video",
        "intervals": 2,
        "decisive": False,
        "text": "Picture: this server holds no usable weights for a detector.",
        "mend": "deepdefend models pull",
    }


def test_provenance_names_everything() -> None:
    made = as_json(built(typical(), detectors=[VIT, WAV2VEC]))
    provenance = made["provenance"]
    assert provenance["input_sha256"] == SHA
    assert provenance["detectors"][0] == {
        "id": "dima806/deepfake_vs_real_image_detection",
        "modality": "video",
        "version": "0123abc",
        "digest": "sha256:" + "a" * 64,
        "fake_label": "Fake",
        "calibrated": False,
        "calibration": None,
        "test_only": False,
    }
    assert provenance["calibrated"] is False
    assert (provenance["operating_point"], provenance["honoured"]) == ("balanced", False)
    assert provenance["thresholds"]["video"]["real_below"] == 0.5
    assert provenance["thresholds"]["audio"]["suspicious"] == 0.6
    assert provenance["sandbox"] == "bubblewrap"
    assert provenance["options"] == {
        "interval_seconds": 2.0,
        "frames_per_interval": 5,
        "operating_point": "balanced",
        "stability": False,
    }
    assert provenance["version"]
    assert made["test_only"] is provenance["test_only"] is False


def test_the_trace_is_told_apart_from_the_scores_of_the_picture() -> None:
    assert as_json(built(typical()))["trace"] is None
    made = as_json(built(marked(rows([0.1] * 4), [0.9, 0.95, 0.95, Reason.OUT_OF_DOMAIN])))
    assert made["trace"] == {
        "detector": "own/trace",
        "found": True,
        "score": 0.933,
        "threshold": 0.8,
        "scored_intervals": 3,
        "unscored_intervals": {"out_of_domain": 1},
        "strongest_run": None,
    }
    assert made["verdict"] == "INCONCLUSIVE"
    assert made["reasons"][0]["reason"] == "manipulation_trace"
    assert made["overall_scores"]["overall_video_score"] == 0.1


def test_a_test_detector_marks_the_report_and_leaves_the_verdict() -> None:
    toy = VIT.model_copy(update={"test_only": True})
    made = built(typical(), detectors=[toy, WAV2VEC])
    assert made.verdict is Verdict.DEEPFAKE
    assert made.test_only
    assert made.provenance.test_only
    assert "means nothing" in made.detailed_analysis


def test_a_run_is_reported_beside_the_mean() -> None:
    made = as_json(built(rows([*[0.1] * 100, 0.95, 0.95, *[0.1] * 100])))
    run = made["coverage"]["video"]["strongest_run"]
    assert (made["verdict"], made["confidence"]) == ("DEEPFAKE", 95.0)
    assert (run["interval"], run["intervals"]) == ("200.0-204.0", 2)
    assert run["statistic"] > run["threshold"]
    assert made["overall_scores"]["overall_video_score"] == 0.108


def test_sound_signals_are_summed_up_where_they_were_strongest() -> None:
    evidence = [
        row(0, audio=Reason.NO_DETECTOR_WEIGHTS, signals=[(SoundSignal.MONOTONE_VOICE, 9.0)]),
        row(1, audio=Reason.NO_DETECTOR_WEIGHTS, signals=[(SoundSignal.MONOTONE_VOICE, 2.0)]),
        row(2, audio=Reason.NO_DETECTOR_WEIGHTS, signals=[(SoundSignal.AUDIO_SPLICING, 30.0)]),
    ]
    assert as_json(built(evidence))["signals"] == [
        {
            "signal": "monotone_voice",
            "intervals": 2,
            "interval": "2.0-4.0",
            "value": 2.0,
            "unit": "Hz",
            "threshold": 10.0,
        },
        {
            "signal": "audio_splicing",
            "intervals": 1,
            "interval": "4.0-6.0",
            "value": 30.0,
            "unit": "Hz",
            "threshold": 10.0,
        },
    ]


def test_tracks_have_the_mean_of_their_own_faces() -> None:
    cells = [row(0, 0.9, faces=[(1, 0.8), (1, 1.0), (2, 0.1)]), row(1, 0.6, faces=[(1, 0.6)]), row(2, 0.1)]
    evidence = [one.model_copy(update={"video": one.video.model_copy(update={"track": 1})}) for one in cells]
    judgement = judge(evidence, facts=FACTS)
    tracks = [Track(id=n, start=0.0, end=4.0, frames=3, thumbnail=None) for n in (1, 2, 3)]
    made = report.build(
        judgement,
        template.write(judgement),
        analysis_id=ID,
        timestamp=WHEN,
        input_sha256=SHA,
        options=Options(),
        sandbox="rlimits",
        tracks=tracks,
    )
    assert [track.score for track in made.tracks] == [0.8, 0.1, None]
    assert [track.suspicious_intervals for track in made.tracks] == [("0.0-2.0", "2.0-4.0"), (), ()]


def test_the_narrator_is_named() -> None:
    judgement = judge(typical(), facts=FACTS)
    narration = Narration(
        text="DEEPFAKE.",
        narrator="gemini",
        model="gemini-2.5-flash",
        prompt_version="explain-v2",
        prompt_sha256="d" * 64,
    )
    made = report.build(
        judgement,
        narration,
        analysis_id=ID,
        timestamp=WHEN,
        input_sha256=SHA,
        options=Options(),
        sandbox="rlimits",
    )
    assert made.detailed_analysis == "DEEPFAKE."
    assert as_json(made)["narrator"] == {
        "narrator": "gemini",
        "model": "gemini-2.5-flash",
        "prompt_version": "explain-v2",
        "prompt_sha256": "d" * 64,
        "input_tokens": None,
        "output_tokens": None,
        "fallback_reason": None,
    }


def test_a_time_without_a_zone_is_refused() -> None:
    judgement = judge(typical(), facts=FACTS)
    with pytest.raises(ValueError, match="time zone"):
        report.build(
            judgement,
            template.write(judgement),
            analysis_id=ID,
            timestamp=WHEN.replace(tzinfo=None),
            input_sha256=SHA,
            options=Options(),
            sandbox="rlimits",
        )


def test_a_checkout_that_was_never_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    report.code_version.cache_clear()
    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert report.code_version() == "uninstalled"
    report.code_version.cache_clear()


def test_every_field_is_documented_for_readers_of_the_api() -> None:
    schema = Report.model_json_schema(mode="serialization")
    assert set(schema["required"]) == set(Report.model_fields)
    assert schema["properties"]["confidence"]["description"].startswith("Of the verdict, 0 to 100")


cells = st.one_of(st.floats(0, 1), st.sampled_from(list(Reason)))
tables = st.integers(1, 20).flatmap(
    lambda n: st.tuples(*[st.lists(cells, min_size=n, max_size=n) for _ in range(2)])
)


@given(tables)
def test_any_evidence_makes_a_report_that_survives_json(table: tuple[list[Cell], list[Cell]]) -> None:
    made = built(rows(*table))
    assert Report.model_validate_json(made.model_dump_json()) == made
    assert "NaN" not in made.model_dump_json()


def test_splices_are_reported_in_order_and_notes_are_counted_beside_the_scores() -> None:
    evidence = rows([0.1] * 3, [0.1, 0.2, Reason.NARROW_BAND])
    late = Splice(time=3.5, kind="hum", strength=1.2)
    early = Splice(time=2.25, kind="background", strength=2.0)
    heard = evidence[1].audio.model_copy(
        update={"splices": (late, early), "notes": (Reason.CLIPPED, Reason.MUSIC)}
    )
    evidence[1] = evidence[1].model_copy(update={"audio": heard})
    narrow = evidence[2].audio.model_copy(update={"notes": (Reason.CLIPPED,)})
    evidence[2] = evidence[2].model_copy(update={"audio": narrow})
    made = as_json(built(evidence))
    assert made["splices"] == [
        {"time": 2.25, "kind": "background", "strength": 2.0},
        {"time": 3.5, "kind": "hum", "strength": 1.2},
    ]
    assert made["coverage"]["audio"]["noted_intervals"] == {"clipped": 2, "music": 1}
    assert made["coverage"]["video"]["noted_intervals"] == {}


def test_splices_change_nothing_but_themselves() -> None:
    """They inform: verdict, confidence and scores are the same without them."""
    plain, spliced = rows([0.1] * 6, [0.1] * 6), rows([0.1] * 6, [0.1] * 6)
    for n, found in enumerate(spliced):
        cut = Splice(time=2.0 * n, kind="background", strength=9.0)
        spliced[n] = found.model_copy(update={"audio": found.audio.model_copy(update={"splices": (cut,)})})
    before, after = as_json(built(plain)), as_json(built(spliced))
    assert len(after.pop("splices")) == 6
    assert before.pop("splices") == []
    assert after == before
