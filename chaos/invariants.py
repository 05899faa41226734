"""What must hold over every analysis once the dust has settled: functions that list what breaks it."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from chaos.clips import WHOLE, Clips
from chaos.database import Row
from chaos.ledger import Ledger
from chaos.plan import Job, Kind
from chaos.receiver import Receiver
from chaos.stack import WORKERS, Stack
from core.domain import BEFORE_FUSION, TERMINAL, Reason, Stage
from core.stability import LATE
from core.webhooks.domain import EventType

#: A dispatcher that is dead, or waits for the database, ends what is overdue when it is back.
DEADLINE_GRACE: Final = 60.0
#: A call that had begun when the rows went cannot be taken back; the busiest machine delivers it by then.
ON_THE_WIRE: Final = 2.0
LOG_LINE: Final = re.compile(r"^\{.*\}$", re.MULTILINE)
#: Why a good file may have failed: what the monkey did. A decoder that is killed died as for want of memory.
EXCUSES: Final = frozenset(
    {
        "worker_lost",
        "storage_unavailable",
        "database_unavailable",
        "deadline_exceeded",
        "decoder_out_of_memory",
        "source_unreachable",
        "source_timed_out",
    }
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row of the table."""

    promise: str
    looked_at: str
    broken: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing breaks it."""
        return not self.broken


class Case:
    """Everything that is known of a run."""

    def __init__(
        self,
        stack: Stack,
        ledger: Ledger,
        receiver: Receiver,
        clips: Clips,
        jobs: Sequence[Job],
        max_attempts: int,
    ) -> None:
        self.stack, self.ledger, self.receiver, self.clips = stack, ledger, receiver, clips
        self.jobs = {job.number: job for job in jobs}
        self.max_attempts = max_attempts
        self.births = stack.rows("SELECT * FROM chaos.births")
        self.ends = _by(stack.rows("SELECT * FROM chaos.ends ORDER BY at"), "id")
        self.deaths = {row["id"]: row for row in stack.rows("SELECT * FROM chaos.deaths")}
        self.steps = stack.rows("SELECT * FROM chaos.steps ORDER BY n")
        self.closings = [row for row in self.steps if row["new_status"] in {"done", "failed", "skipped"}]
        self.intervals = stack.rows("SELECT * FROM chaos.intervals")
        self.analyses = stack.rows(
            "SELECT id, status, deadline, completed_at, report, metadata FROM analyses"
        )
        self.fenced = _fenced(stack)

    def job_of(self, row: Row) -> Job | None:
        """The job that an analysis was asked for by; None for the calm ones before."""
        return self.jobs.get((row["metadata"] or {}).get("job", -1))


def _by(rows: Iterable[Row], column: str) -> dict[Any, list[Row]]:
    grouped: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row[column]].append(row)
    return grouped


def _fenced(stack: Stack) -> list[dict[str, Any]]:
    """What workers said when they found their lease lost."""
    lines = (json.loads(line) for name in WORKERS for line in LOG_LINE.findall(stack.logs(f"worker-{name}")))
    return [line for line in lines if line.get("action") == "step_fenced" and "attempt" in line]


def accepted_ends(case: Case) -> Finding:
    """Each accepted analysis ended once, within its deadline."""
    broken = [
        f"{row['id']} is still {row['status']}" for row in case.analyses if row["status"] not in TERMINAL
    ]
    born = {str(row["id"]) for row in case.births}
    broken += [
        f"{identity} was accepted, but there never was one"
        for identity in case.ledger.accepted()
        if identity not in born
    ]
    for row in case.births:
        ends = case.ends.get(row["id"], [])
        if len(ends) != 1:
            broken.append(f"{row['id']} ended {len(ends)} times: {[end['status'] for end in ends]}")
        late = [end for end in ends if (end["at"] - row["deadline"]).total_seconds() > DEADLINE_GRACE]
        broken += [f"{row['id']} ended {end['at'] - row['deadline']} after its deadline" for end in late]
    return _finding(
        "each accepted one ended once, within its deadline", f"{len(case.births)} analyses", broken
    )


def one_result_set(case: Case) -> Finding:
    """Each step closed once, and the report counts the intervals that are there."""
    closings = Counter((row["analysis"], row["stage"], row["shard"]) for row in case.closings)
    broken = [
        f"{key[0]} {key[1]} {key[2]} closed {count} times" for key, count in closings.items() if count != 1
    ]
    open_steps = case.stack.rows(
        "SELECT analysis_id, stage FROM steps JOIN analyses a ON a.id = analysis_id"
        " WHERE closed_at IS NULL AND a.completed_at IS NOT NULL"
    )
    broken += [f"{row['analysis_id']} ended with an open {row['stage']}" for row in open_steps]
    broken += _judged_too_early(case)
    for row in case.analyses:
        reported = row["status"] == "completed"
        if reported != (row["report"] is not None):
            there = "there" if row["report"] else "missing"
            broken.append(f"{row['id']} is {row['status']}, and its report is {there}")
    return _finding("one result set: each step closed once", f"{len(closings)} steps", broken)


def _judged_too_early(case: Case) -> list[str]:
    """Analyses whose last fusion closed before a branch or a variant did."""
    broken = []
    for analysis, rows in _by(case.closings, "analysis").items():
        judged = [row["n"] for row in rows if row["stage"] == Stage.FUSE and _by_its_holder(row)]
        before = [row["n"] for row in rows if row["stage"] in BEFORE_FUSION]
        if judged and before and max(before) > max(judged):
            broken.append(f"{analysis} was judged before all of it was measured")
    return broken


def interval_counts(case: Case) -> Finding:
    """As many intervals as clip and options make; none or all of them where there is no report."""
    counted = case.stack.rows(
        "SELECT a.id, a.status, a.metadata, a.report->>'total_intervals_analyzed' AS told,"
        " count(i.index) AS n, coalesce(max(i.index) + 1, 0) AS last"
        " FROM analyses a LEFT JOIN intervals i ON i.analysis_id = a.id GROUP BY a.id"
    )
    broken = []
    for row in counted:
        job = case.job_of(row)
        if job is None:
            continue
        wanted = case.clips.intervals(job)
        right = {wanted} if row["status"] == "completed" else {0, wanted}
        told = int(row["told"] or row["n"])
        if row["n"] not in right or row["last"] != row["n"] or told != row["n"]:
            broken.append(f"{row['id']} ({job.kind}, {row['status']}): {row['n']}, told {told}, not {wanted}")
    return _finding("interval count right", f"{sum(row['n'] for row in counted)} intervals", broken)


def same_answer(case: Case) -> Finding:
    """What was not cut short says the same of the same film, to the last digit, whatever was killed.

    And nothing bad is said of a good file: it fails only for what was done to the service.
    """
    rows = case.stack.rows(
        "SELECT a.id, a.metadata, a.status, a.error->>'code' AS code, bool_and(s.status = 'done') AS whole,"
        " (SELECT array_agg(ARRAY[i.video_score::text, i.video_reason, i.audio_score::text, i.audio_reason]"
        "   ORDER BY i.index)::text FROM intervals i WHERE i.analysis_id = a.id) AS answer"
        " FROM analyses a JOIN steps s ON s.analysis_id = a.id GROUP BY a.id"
    )
    answers: dict[tuple[Kind, float, int], Counter[str]] = defaultdict(Counter)
    broken = []
    for row in rows:
        job = case.job_of(row)
        if job is None:
            continue
        if row["status"] == "failed" and job.kind in WHOLE and row["code"] not in EXCUSES:
            broken.append(f"{row['id']}: a good {job.kind} failed with {row['code']}")
        if row["status"] == "completed" and row["whole"]:
            answers[job.kind, job.interval_seconds, job.frames_per_interval][row["answer"]] += 1
    for (kind, seconds, frames), found in answers.items():
        if len(found) > 1:
            broken.append(f"{kind} at {seconds} s, {frames} frames: {len(found)} answers: {dict(found)}")
    looked = f"{sum(found.total() for found in answers.values())} answers to {len(answers)} questions"
    return _finding("the same answer to the same question", looked, broken)


def no_fenced_write(case: Case) -> Finding:
    """Results were written only in the transaction in which their step's holder closed it."""
    held = [row for row in case.closings if _by_its_holder(row)]
    closed_in = defaultdict(set)
    for row in held:
        closed_in[row["tx"], row["analysis"]].add(row["stage"])
    deleted_in = {row["tx"] for row in case.deaths.values()}
    broken = []
    for write in case.intervals:
        stage = write["scored"] if write["op"] == "UPDATE" else "extract"
        stages = closed_in[write["tx"], write["analysis"]]
        if stage != "reason" and stage not in stages and write["tx"] not in deleted_in:
            broken.append(
                f"{write['analysis']} interval {write['index']}: {write['op']} {stage} without its step"
            )
    closers = {(str(r["analysis"]), r["stage"], r["shard"], r["old_attempt"], r["old_owner"]) for r in held}
    for line in case.fenced:
        key = (line["analysis_id"], line["stage"], line["shard"], line["attempt"], line["boot_id"])
        if key in closers:
            broken.append(f"{key} was fenced and closed its step all the same")
    looked = f"{len(case.intervals)} writes, {len(case.fenced)} fenced attempts"
    return _finding("no write by a fenced attempt", looked, broken)


def _by_its_holder(closing: Row) -> bool:
    """Not by who ended its analysis, nor by the dispatcher once its holder was lost or had to give way."""
    reason = closing["reason"] or ""
    taken_away = reason.startswith("analysis_") or reason in {Reason.WORKER_LOST, LATE}
    return closing["old_status"] == "running" and closing["old_owner"] is not None and not taken_away


def runs_within_attempts(case: Case) -> Finding:
    """A detector ran on a shard at most as often as it may be tried; work handed back is no attempt."""
    claims: Counter[UUID] = Counter()
    handed_back: Counter[UUID] = Counter()
    top: dict[UUID, int] = {}
    for row in case.steps:
        if row["new_status"] == "running" and row["old_status"] == "pending":
            claims[row["step"]] += 1
            top[row["step"]] = max(top.get(row["step"], 0), row["new_attempt"])
        elif row["new_attempt"] < row["old_attempt"]:
            handed_back[row["step"]] += 1
    broken = [
        f"step {step}: {count} runs, {handed_back[step]} handed back, attempt {top[step]}"
        for step, count in claims.items()
        if count - handed_back[step] > case.max_attempts or top[step] > case.max_attempts
    ]
    return _finding(
        "runs of a step at most its attempts", f"{claims.total()} runs of {len(claims)} steps", broken
    )


def one_analysis_a_key(case: Case) -> Finding:
    """A submission with an Idempotency-Key became one analysis, however often it was sent."""
    born = Counter((row["metadata"] or {}).get("job") for row in case.births)
    keyed = [record for record in case.ledger.records.values() if record.job.keyed]
    broken = []
    for record in keyed:
        count = born[record.job.number]
        if count > 1 or (record.analysis_id is not None and count != 1) or (record.refused and count):
            broken.append(f"job {record.job.number}: {count} analyses after {record.tries} tries")
    unknown = set(born) - {None, *case.ledger.records}
    broken += [f"job {n} was never sent" for n in unknown]
    again = sum(record.tries > 1 for record in keyed)
    return _finding("one analysis for each Idempotency-Key", f"{len(keyed)} keys, {again} sent again", broken)


def each_event_told(case: Case) -> Finding:
    """Each end was told at least once, under one id, to a receiver that could verify it."""
    calls = case.receiver.calls()
    broken = [f"{call.event_id} does not verify" for call in calls if not call.verified]
    ids = defaultdict(set)
    taken = set()
    for call in calls:
        if call.event_type != EventType.PROGRESS:
            ids[call.analysis_id].add((call.event_type, call.event_id))
        if call.taken:
            taken.add((call.analysis_id, call.event_type))
    broken += [f"{identity} was told as {sorted(found)}" for identity, found in ids.items() if len(found) > 1]
    for row in case.births:
        (end, *_) = case.ends.get(row["id"], [None])
        told = end is not None and (str(row["id"]), f"analysis.{end['status']}") in taken
        if not told and row["id"] not in case.deaths:
            broken.append(f"{row['id']} ended and nobody was told")
    again = sum(count > 1 for count in Counter(call.event_id for call in calls).values())
    return _finding(
        "each end told, one id on each try", f"{len(calls)} calls, {again} events told again", broken
    )


def none_after_deletion(case: Case) -> Finding:
    """Nothing was told of an analysis after the answer to its deletion, but what was on the wire then."""
    deleted = {r.analysis_id: r.deleted_at for r in case.ledger.records.values() if r.deleted_at is not None}
    late = [(call, call.at - (deleted.get(call.analysis_id) or call.at)) for call in case.receiver.calls()]
    broken = [
        f"{call.analysis_id}: {call.event_type} came {seconds:.3f} s too late"
        for call, seconds in late
        if seconds > ON_THE_WIRE
    ]
    left = case.stack.rows("SELECT id FROM analyses")
    still = {str(row["id"]) for row in left} & {identity for identity in deleted if identity}
    broken += [f"{identity} was deleted and is still there" for identity in still]
    on_the_wire = sum(0 < seconds <= ON_THE_WIRE for _, seconds in late)
    looked = f"{len(deleted)} deletions, {on_the_wire} calls on the wire"
    return _finding("nothing told after a deletion", looked, broken)


def answers_in_order(case: Case) -> Finding:
    """No caller ever got an answer that no outage excuses."""
    tries = sum(record.tries for record in case.ledger.records.values())
    broken = [f"{what} ({count} times)" for what, count in case.ledger.outrages.items()]
    return _finding("no answer of 5xx but 503", f"{tries} submissions sent", broken)


def _finding(promise: str, looked_at: str, broken: Iterable[str]) -> Finding:
    return Finding(promise=promise, looked_at=looked_at, broken=tuple(broken))


INVARIANTS: Final[tuple[Callable[[Case], Finding], ...]] = (
    accepted_ends,
    one_result_set,
    interval_counts,
    same_answer,
    no_fenced_write,
    runs_within_attempts,
    one_analysis_a_key,
    each_event_told,
    none_after_deletion,
    answers_in_order,
)
