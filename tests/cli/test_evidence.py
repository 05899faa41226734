"""What informs a verdict, on a terminal: shapes are those of the report's own models."""

from __future__ import annotations

from typing import Any

import pytest

from cli import evidence
from core.av import AudioVisual, LipVoice
from core.domain import Reason, Variant, Verdict
from core.evidence import Splice
from core.fusion.stability import Spread, Stability, VariantResult
from core.report import SplicePoint, TraceSummary

TRACE = TraceSummary(
    detector="deepdefend/blend-trace",
    found=True,
    score=0.971,
    threshold=0.965,
    scored_intervals=4,
    unscored_intervals={Reason.OUT_OF_DOMAIN: 1},
    strongest_run=None,
)
SPREAD = Spread(intervals=3, lowest=0.1, highest=0.9, mean_change=-0.1, max_change=-0.42)


def report(**parts: Any) -> dict[str, Any]:
    return {
        name: part.model_dump(mode="json") if hasattr(part, "model_dump") else part
        for name, part in parts.items()
    }


def text(lines: Any) -> str:
    return "\n".join(line.plain for line in lines)


def variant(name: Variant, verdict: Verdict | None, reason: str | None = None) -> VariantResult:
    return VariantResult(
        variant=name,
        scores=SPREAD if verdict else None,
        traces=None,
        unmeasured={},
        verdict=verdict,
        flips=verdict is Verdict.REAL,
        reason=reason,
        seconds=2.0,
    )


def stability(*variants: VariantResult) -> Stability:
    return Stability(
        verdict=Verdict.DEEPFAKE,
        flips=any(one.flips for one in variants),
        intervals=("4.0-6.0",),
        max_change=-0.42,
        seconds=12.0,
        variants=variants,
    )


def test_a_trace_is_told_with_its_bound_and_what_it_may_do() -> None:
    told = text(evidence.trace(report(trace=TRACE)))
    assert "never more" in told.splitlines()[0]
    assert "found: 0.971 on average over 4 intervals, a trace from 0.965 on" in told


def test_a_trace_that_was_not_measured_has_no_number() -> None:
    nothing = TRACE.model_copy(update={"score": None, "found": False, "scored_intervals": 0})
    told = text(evidence.trace(report(trace=nothing)))
    assert told.endswith("deepdefend/blend-trace: not measured")


def test_only_faces_that_mismatch_are_named() -> None:
    seen = {"lag_seconds": 0.0, "seconds": 4.0}
    good = LipVoice(track=0, correlation=0.8, null_share=0.6, av_mismatch=False, **seen)
    bad = LipVoice(track=1, correlation=0.07, null_share=0.0, av_mismatch=True, **seen)
    told = text(evidence.lips(report(av=AudioVisual(signals=(), tracks=(good, bad)))))
    assert "face 1: correlation 0.07; 0 % of real talkers match no better" in told
    assert "face 0" not in told
    assert text(evidence.lips(report(av=AudioVisual(signals=(), tracks=(good,))))) == ""


def test_the_strongest_joints_come_first_and_the_rest_is_counted() -> None:
    found = [
        SplicePoint(**Splice(time=n, kind="click", strength=1 + n / 10).model_dump()).model_dump(mode="json")
        for n in range(evidence.SPLICES + 3)
    ]
    told = text(evidence.splices(report(splices=found))).splitlines()
    assert told[1] == "  10.00 s: click, 2 times its bound"
    assert told[-1] == "  and 3 more"
    assert len(told) == evidence.SPLICES + 2


def test_a_copy_with_another_verdict_is_said_first() -> None:
    found = stability(variant(Variant.CRF_23, Verdict.DEEPFAKE), variant(Variant.HALF, Verdict.REAL))
    told = text(evidence.stability(report(stability=found)))
    assert "another verdict than DEEPFAKE" in told.splitlines()[1]
    assert "half: REAL, score -0.420 at most" in told


def test_an_open_answer_does_not_hide_that_a_copy_got_a_firm_one() -> None:
    copy = variant(Variant.CRF_23, Verdict.DEEPFAKE)
    found = stability(copy).model_copy(update={"verdict": Verdict.INCONCLUSIVE})
    assert not found.flips
    told = text(evidence.stability(report(stability=found))).splitlines()
    assert "another verdict than INCONCLUSIVE" in told[1]
    assert "no other" not in told[1]


@pytest.mark.parametrize("reason", [None, "decoder_crashed"])
def test_a_copy_that_was_not_measured_says_why_and_no_number(reason: str | None) -> None:
    unmeasured = variant(Variant.QUARTER, None, reason)
    told = text(evidence.stability(report(stability=stability(unmeasured)))).splitlines()
    assert "no copy could be measured" in told[1]
    assert "DEEPFAKE" not in told[1]
    found = stability(variant(Variant.HALF, Verdict.DEEPFAKE), unmeasured)
    told = text(evidence.stability(report(stability=found))).splitlines()
    assert "no other verdict than DEEPFAKE in any copy that could be measured" in told[1]
    assert told[-1] == "  quarter: not measured" + (f" [{reason}]" if reason else "")


def test_stability_that_had_nothing_to_measure_says_so() -> None:
    assert text(evidence.stability({"stability": None, "stability_reason": "no_face"})).endswith(
        "not measured [no_face]"
    )
    assert text(evidence.stability({"stability": None, "stability_reason": None})) == ""


@pytest.mark.parametrize("junk", [None, 7, "x", [], {}, [{}], {"tracks": [{}]}, {"variants": [{}]}])
def test_no_shape_breaks_it(junk: Any) -> None:
    whole = dict.fromkeys(("trace", "av", "splices", "stability", "stability_reason"), junk)
    for part in (evidence.trace, evidence.lips, evidence.splices, evidence.stability):
        assert isinstance(text(part(whole)), str)
