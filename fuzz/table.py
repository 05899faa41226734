"""What came of all the files, for people."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable, Sequence

from fuzz.trial import MANIFEST, Result
from workers.media.sandbox import Probe


def summary(results: Sequence[Result], probes: Iterable[Probe], *, seed: int, seconds: float) -> str:
    """The table: outcomes by code and level, signals, the slowest, faults."""
    levels = sorted({result.level for result in results})
    speed = len(results) / max(seconds, 1e-9)
    lines = [f"{len(results)} files, seed {seed}, {seconds:.0f} s, {speed:.1f} a second"]
    lines += [f"sandbox {one.level}: {_kept_out(one)}" for one in probes]
    lines += ["", f"{'outcome':26}" + "".join(f"{level:>12}" for level in levels) + f"{'all':>8}"]
    outcomes = Counter(result.outcome for result in results)
    for outcome, count in sorted(outcomes.items(), key=lambda item: (item[0] != MANIFEST, -item[1])):
        by_level = Counter(result.level for result in results if result.outcome == outcome)
        lines.append(f"{outcome:26}" + "".join(f"{by_level[level]:12}" for level in levels) + f"{count:8}")
    lines += ["", "decoder ended by a signal: " + (_signals(results) or "none")]
    lines.append("mutations: " + ", ".join(f"{n} {c}" for n, c in sorted(_mutations(results).items())))
    lines.append("slowest:")
    for result in sorted(results, key=lambda result: -result.seconds)[:5]:
        lines.append(f"  {result.seconds:5.1f} s  {result.outcome:22} {name(result)}")
    return "\n".join([*lines, *_faults(results)])


def _kept_out(probe: Probe) -> str:
    """What the trial at the start could not do."""
    words = {"other files hidden": probe.files, "no socket, no process, no signal to others": probe.calls}
    return "; ".join(f"{what}: {'yes' if holds else 'NO'}" for what, holds in words.items())


def _signals(results: Sequence[Result]) -> str:
    found = Counter(result.signal for result in results if result.signal)
    return ", ".join(f"{signal.Signals(number).name} {count}" for number, count in found.most_common())


def _mutations(results: Sequence[Result]) -> Counter[str]:
    return Counter(name for result in results for name in result.done)


def _faults(results: Sequence[Result]) -> list[str]:
    broken = [result for result in results if result.faults]
    lines = ["", f"faults: {len(broken)}"]
    for result in broken[:40]:
        lines += [f"  {name(result)}: {fault}" for fault in result.faults]
    return lines


def name(result: Result) -> str:
    """Which file that was."""
    return f"#{result.number} {result.origin} ({' + '.join(result.done) or 'whole'})"
