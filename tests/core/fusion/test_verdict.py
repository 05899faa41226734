from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain import Modality, OperatingPoint, Reason, StepStatus, Verdict
from core.evidence import MediaFacts
from core.fusion.inputs import Branch, IntervalEvidence
from core.fusion.judgement import Judgement, Standing
from core.fusion.thresholds import SEED_NULL, ModalityThresholds, Thresholds
from core.fusion.verdict import decide, judge
from tests.core.fusion.samples import FACTS, VIT, WAV2VEC, Cell, fitted, row, rows

D, R, I = Verdict.DEEPFAKE, Verdict.REAL, Verdict.INCONCLUSIVE  # noqa: E741 - a table's letters
NO_FACE, BLURRED, SILENCE, LOST = Reason.NO_FACE, Reason.BLURRED, Reason.SILENCE, Reason.WORKER_LOST
#: From innocent to accused: what monotone means.
ORDER = [R, I, D]


def verdict_on(evidence: list[IntervalEvidence]) -> Judgement:
    return judge(evidence, facts=FACTS)


@pytest.mark.parametrize(
    ("video", "audio", "expected", "confidence"),
    [
        ([0.8] * 5, [0.9] * 5, D, 90.0),
        ([0.8] * 5, [0.1] * 5, D, 80.0),  # a swapped face over a real voice
        ([0.1] * 5, [0.85] * 5, D, 85.0),  # a cloned voice over a real face
        ([0.65] * 5, None, D, 65.0),
        ([0.6] * 5, None, D, 60.0),
        ([0.65] * 5, [0.55] * 5, D, 65.0),
        ([0.65] * 5, [0.62] * 5, D, 65.0),
        ([0.65] * 5, [SILENCE] * 5, D, 65.0),
        ([0.65] * 5, [0.3] * 5, I, None),  # near, and the voice is clear
        ([0.55] * 5, None, I, None),
        ([0.5] * 5, None, I, None),
        ([0.1] * 5, [0.55] * 5, I, None),
        ([0.1] * 5, [0.2] * 5, R, 80.0),
        ([0.1] * 5, None, R, 90.0),
        ([0.1] * 5, [SILENCE] * 5, R, 90.0),
        (None, [0.25] * 5, R, 75.0),
        ([0.1] * 5, [LOST] * 5, I, None),
        ([NO_FACE] * 5, [SILENCE] * 5, I, None),
        ([NO_FACE] * 5, [0.9] * 5, D, 90.0),
        ([LOST] * 5, [0.9] * 5, D, 90.0),
        ([Reason.NO_DETECTOR_WEIGHTS] * 5, [Reason.NO_DETECTOR_WEIGHTS] * 5, I, None),
    ],
)
def test_the_table(
    video: list[Cell] | None, audio: list[Cell] | None, expected: Verdict, confidence: float | None
) -> None:
    judgement = verdict_on(rows(video, audio))
    assert judgement.verdict is expected
    assert judgement.confidence == confidence


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("fake fake", D),
        ("fake near", D),
        ("fake unclear", D),
        ("fake clear", D),
        ("fake absent", D),
        ("near near", D),
        ("near unclear", D),
        ("near clear", I),
        ("near absent", D),
        ("unclear unclear", I),
        ("unclear clear", I),
        ("unclear absent", I),
        ("clear clear", R),
        ("clear absent", R),
        ("absent absent", I),
    ],
)
def test_the_table_of_standings_is_complete_and_symmetric(pair: str, expected: Verdict) -> None:
    one, other = (Standing(name) for name in pair.split())
    assert decide(one, other) is decide(other, one) is expected


def test_every_pair_of_standings_has_a_verdict() -> None:
    assert {decide(*pair) for pair in itertools.product(Standing, repeat=2)} == set(Verdict)


def test_the_overall_scores_are_those_of_the_first_report() -> None:
    judgement = verdict_on(rows([0.823], [0.756]))
    assert judgement.video.score == 0.823
    assert judgement.audio.score == 0.756
    assert judgement.combined_score == pytest.approx(0.7895)


def test_the_combined_score_is_of_the_modality_that_has_one() -> None:
    assert verdict_on(rows([0.3, 0.5], [SILENCE, SILENCE])).combined_score == pytest.approx(0.4)
    assert verdict_on(rows([NO_FACE], [SILENCE])).combined_score is None


def ten_minutes(fake: int, *, at: int = 140, score: float = 0.95) -> list[IntervalEvidence]:
    rng = random.Random(11)  # noqa: S311 - a fixed sample
    scores: list[Cell] = [rng.uniform(0.05, 0.15) for _ in range(300)]
    scores[at : at + fake] = [score] * fake
    return rows(scores)


@pytest.mark.parametrize("at", [0, 1, 140, 298])
def test_four_fake_seconds_in_ten_minutes_are_a_deepfake(at: int) -> None:
    judgement = verdict_on(ten_minutes(2, at=at))
    assert judgement.verdict is D
    assert judgement.confidence == 95.0
    assert judgement.video.score is not None
    assert judgement.video.score < 0.11
    assert judgement.video.run is not None
    assert judgement.video.run.start == 2.0 * at


def test_two_fake_seconds_in_ten_minutes_are_not() -> None:
    assert verdict_on(ten_minutes(1)).verdict is not D


def test_one_suspicious_interval_in_a_short_clip_takes_real_away() -> None:
    judgement = verdict_on(rows([0.1, 0.1, 0.97, 0.1, 0.1]))
    assert judgement.verdict is I
    assert judgement.reasons == (Reason.BETWEEN_THRESHOLDS, Reason.NO_AUDIO_STREAM)
    assert judgement.video.doubt is not None
    assert judgement.video.doubt.interval == "4.0-6.0"


def test_a_clean_modality_does_not_outvote_a_splice_in_the_other() -> None:
    judgement = judge(
        [row(interval.index, interval.video.score or 0.0, 0.05) for interval in ten_minutes(2)],
        facts=FACTS,
    )
    assert judgement.verdict is D
    assert judgement.standings == {Modality.VIDEO: Standing.FAKE, Modality.AUDIO: Standing.CLEAR}


def test_conflict_is_named() -> None:
    judgement = verdict_on(rows([0.65] * 5, [0.2] * 5))
    assert judgement.reasons == (Reason.CONFLICTING_MODALITIES,)


def test_real_needs_half_of_the_face_time() -> None:
    assert verdict_on(rows([0.1, 0.1, BLURRED, BLURRED])).verdict is R
    thin = verdict_on(rows([0.1, BLURRED, BLURRED]))
    assert thin.verdict is I
    assert thin.reasons == (Reason.LOW_COVERAGE, BLURRED, Reason.NO_AUDIO_STREAM)
    assert thin.causes[0].modality is Modality.VIDEO
    assert thin.causes[0].decisive
    assert not thin.causes[1].decisive


def test_real_needs_half_of_the_face_time_to_look_real() -> None:
    judgement = verdict_on(rows([0.01, 0.01, 0.59, 0.58, 0.57]))
    assert judgement.video.score is not None
    assert judgement.video.score < 0.5
    assert judgement.verdict is I


def test_a_high_mean_on_thin_coverage_does_not_accuse() -> None:
    judgement = verdict_on(rows([0.65, *[BLURRED] * 9]))
    assert judgement.verdict is I
    assert judgement.reasons == (Reason.LOW_COVERAGE, BLURRED, Reason.NO_AUDIO_STREAM)


def test_a_strong_run_accuses_on_thin_coverage() -> None:
    assert verdict_on(rows([0.97, 0.97, *[BLURRED] * 9])).verdict is D


def test_a_lost_modality_costs_real_and_says_so() -> None:
    judgement = verdict_on(rows([0.1] * 5, [LOST] * 5))
    assert judgement.reasons == (Reason.LOW_COVERAGE, LOST)
    assert judgement.causes[1].intervals == 5


def test_nothing_scored_says_so_and_why() -> None:
    weightless = [Reason.NO_DETECTOR_WEIGHTS] * 5
    judgement = verdict_on(rows(weightless, [SILENCE] * 5))
    assert judgement.reasons == (
        Reason.NOTHING_SCORED,
        Reason.NO_DETECTOR_WEIGHTS,
        SILENCE,
    )
    assert [cause.mend for cause in judgement.causes if cause.mend] == ["deepdefend models pull"]


def test_a_branch_that_knows_better_names_its_own_mend() -> None:
    refused = Branch(
        modality=Modality.VIDEO,
        status=StepStatus.SKIPPED,
        reason=Reason.NO_DETECTOR_WEIGHTS,
        mend="export DEEPDEFEND_MODELS__VIDEO_FAKE_LABEL=<label>",
    )
    weightless = [Reason.NO_DETECTOR_WEIGHTS] * 5
    judgement = judge(rows(weightless, weightless), facts=FACTS, branches=[refused])
    mends = {cause.modality: cause.mend for cause in judgement.causes if cause.mend}
    assert mends == {
        Modality.VIDEO: "export DEEPDEFEND_MODELS__VIDEO_FAKE_LABEL=<label>",
        Modality.AUDIO: "deepdefend models pull",
    }


def test_a_lost_branch_explains_the_intervals_nobody_looked_at() -> None:
    branch = Branch(modality=Modality.AUDIO, status=StepStatus.FAILED, reason=LOST)
    evidence = rows([0.1] * 3, [0.1, Reason.NOT_ANALYZED, Reason.NOT_ANALYZED])
    judgement = judge(evidence, facts=FACTS, branches=[branch, branch.model_copy(update={"shard": 1})])
    assert Reason.NOT_ANALYZED not in judgement.reasons
    assert [(cause.reason, cause.intervals) for cause in judgement.causes if not cause.decisive] == [
        (LOST, 2)
    ]


def test_a_branch_whose_intervals_say_it_already_is_not_told_twice() -> None:
    branch = Branch(modality=Modality.VIDEO, status=StepStatus.SKIPPED, reason=NO_FACE)
    judgement = judge(rows([NO_FACE] * 2, [0.1] * 2), facts=FACTS, branches=[branch])
    assert judgement.reasons == (NO_FACE,)


def test_damage_of_the_file_is_told() -> None:
    assert FACTS.audio is not None
    audio = FACTS.audio.model_copy(update={"decode_errors": 3})
    facts = FACTS.model_copy(update={"cut_short": True, "audio": audio})
    assert judge(rows([0.1] * 3), facts=facts).reasons == (
        Reason.NO_AUDIO_STREAM,
        Reason.CUT_SHORT,
        Reason.DECODE_ERROR,
    )


def test_no_interval_at_all_is_inconclusive() -> None:
    facts = MediaFacts(
        container="wav", duration=0.1, declared_duration=None, size_bytes=9, video=None, audio=None
    )
    judgement = judge([], facts=facts)
    assert judgement.verdict is I
    assert judgement.reasons == (Reason.NOTHING_SCORED,)


def test_two_rows_of_one_interval_are_refused() -> None:
    with pytest.raises(ValueError, match="two rows"):
        verdict_on([row(3, 0.1), row(3, 0.9)])


def test_a_detector_made_for_tests_is_said() -> None:
    evidence = rows([0.1] * 3)
    assert not judge(evidence, facts=FACTS, detectors=[VIT, WAV2VEC]).test_only
    toy = VIT.model_copy(update={"test_only": True})
    tested = judge(evidence, facts=FACTS, detectors=[toy, WAV2VEC])
    assert tested.test_only
    assert tested.verdict is R


def test_thresholds_of_one_modality_move_that_modality_alone() -> None:
    strict = Thresholds(audio=ModalityThresholds(real_below=0.2, suspicious=0.25, decisive=0.28))
    evidence = rows([0.3] * 5, [0.3] * 5)
    assert judge(evidence, facts=FACTS).verdict is R
    judgement = judge(evidence, facts=FACTS, thresholds=strict)
    assert judgement.standings == {Modality.VIDEO: Standing.CLEAR, Modality.AUDIO: Standing.FAKE}
    quiet = Thresholds(
        video=ModalityThresholds(null=SEED_NULL.model_copy(update={"mean": 0.1, "sd": 0.05})), shortest_run=1
    )
    assert judge(rows([0.1] * 20 + [0.62] + [0.1] * 20), facts=FACTS, thresholds=quiet).verdict is D


# Properties. Cells are tenths and hundredths as well as any float, so that the edges are met.
scores = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.49, 0.5, 0.59, 0.6, 0.7, 0.95, 1.0]))
gaps = st.sampled_from([NO_FACE, BLURRED, LOST, Reason.NOT_ANALYZED, Reason.NO_DETECTOR_WEIGHTS])
columns = st.integers(1, 24).flatmap(
    lambda n: st.tuples(
        st.lists(st.one_of(scores, scores, gaps), min_size=n, max_size=n),
        st.lists(st.one_of(scores, scores, gaps), min_size=n, max_size=n),
    )
)


def more_fake(cell: Cell, data: st.DataObject) -> float:
    """A higher score, or `decisive` and more where there was none."""
    lowest = 0.7 if isinstance(cell, Reason) else cell
    return data.draw(st.floats(lowest, 1))


@given(columns, st.data())
def test_more_fake_evidence_never_lowers_the_verdict(
    table: tuple[list[Cell], list[Cell]], data: st.DataObject
) -> None:
    before = verdict_on(rows(*table))
    column = data.draw(st.sampled_from([0, 1]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.sampled_from(range(len(table[0]))))
        table[column][place] = more_fake(table[column][place], data)
    after = verdict_on(rows(*table))
    assert ORDER.index(after.verdict) >= ORDER.index(before.verdict)


@given(columns, st.data())
def test_nor_does_it_with_calibrated_detectors(
    table: tuple[list[Cell], list[Cell]], data: st.DataObject
) -> None:
    def calibrated() -> Verdict:
        detectors = [fitted(VIT), fitted(WAV2VEC)]
        judgement = judge(
            rows(*table), facts=FACTS, operating_point=OperatingPoint.FPR_5, detectors=detectors
        )
        assert judgement.calibrated
        return judgement.verdict

    before = calibrated()
    column = data.draw(st.sampled_from([0, 1]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.sampled_from(range(len(table[0]))))
        cell = table[column][place]
        table[column][place] = data.draw(st.floats(0.9 if isinstance(cell, Reason) else cell, 1))
    assert ORDER.index(calibrated()) >= ORDER.index(before)


@given(columns, st.data())
def test_confidence_follows_raised_scores(table: tuple[list[Cell], list[Cell]], data: st.DataObject) -> None:
    before = verdict_on(rows(*table))
    column = data.draw(st.sampled_from([0, 1]))
    raised = [cell if isinstance(cell, Reason) else more_fake(cell, data) for cell in table[column]]
    after = verdict_on(rows(*[raised if n == column else table[n] for n in (0, 1)]))
    if before.verdict is after.verdict and before.confidence is not None and after.confidence is not None:
        grew = after.confidence - before.confidence
        assert grew >= 0 if before.verdict is D else grew <= 0


@given(columns)
def test_confidence_is_in_range_and_null_exactly_when_inconclusive(
    table: tuple[list[Cell], list[Cell]],
) -> None:
    judgement = verdict_on(rows(*table))
    assert (judgement.confidence is None) == (judgement.verdict is I)
    if judgement.confidence is not None:
        assert 50 <= judgement.confidence <= 100


@given(columns)
def test_an_abstention_always_has_a_decisive_reason(table: tuple[list[Cell], list[Cell]]) -> None:
    judgement = verdict_on(rows(*table))
    assert any(cause.decisive for cause in judgement.causes) == (judgement.verdict is I)


@given(columns, st.randoms())
def test_the_order_of_the_rows_does_not_matter(
    table: tuple[list[Cell], list[Cell]], shuffler: random.Random
) -> None:
    evidence = rows(*table)
    shuffled = list(evidence)
    shuffler.shuffle(shuffled)
    assert verdict_on(shuffled) == verdict_on(evidence)


@given(st.lists(st.floats(0, 0.3), min_size=4, max_size=60), st.randoms())
def test_the_order_of_intervals_outside_a_run_does_not_matter(
    quiet: list[float], shuffler: random.Random
) -> None:
    shuffled = list(quiet)
    shuffler.shuffle(shuffled)
    one, other = (verdict_on(rows([0.0, 0.99, 0.99, 0.99, 0.0, *rest])) for rest in (quiet, shuffled))
    assert one.verdict is other.verdict is D
    assert one.video.run == other.video.run
    assert (one.confidence, one.video.score) == (other.confidence, other.video.score)


@given(columns)
def test_swapping_picture_and_sound_changes_no_verdict(table: tuple[list[Cell], list[Cell]]) -> None:
    pictures, sounds = table
    one, other = verdict_on(rows(pictures, sounds)), verdict_on(rows(sounds, pictures))
    assert (one.verdict, one.confidence) == (other.verdict, other.confidence)
