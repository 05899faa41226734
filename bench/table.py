"""The results as Markdown for people and JSON for the next comparison."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from bench.clip import FPS, KEYFRAME_EVERY, SECONDS
from bench.compare import MEAN_TOLERANCE, Agreement
from bench.outcome import ONCE, Outcome, without_load

GOAL = 5.0
#: Which stages of the contenders are the same work; the naive script's names are its own.
SAME_WORK = {
    "decode, faces, sound": ({"seek and decode", "faces", "sound"}, {"extract"}),
    "look (ViT-B/16)": ({"look"}, {"look"}),
    "listen (wav2vec2-base)": ({"listen"}, {"listen"}),
    "judge, explain, report": (set[str](), {"judge"}),
}

Runs = Mapping[str, Sequence[Outcome]]


def middle(values: Iterable[float]) -> float:
    """Median over repetitions."""
    return median(values)


def seconds(outcomes: Sequence[Outcome], stages: set[str]) -> float:
    """Median of the summed stages."""
    return middle(sum(one.stages.get(name, 0.0) for name in stages) for one in outcomes)


def ratio(runs: Runs, contender: str) -> float:
    """How many times faster than the naive script, end to end: median of the pairs of each repetition."""
    pairs = zip(runs["naive"], runs[contender], strict=True)
    return middle(naive.total / other.total for naive, other in pairs)


def cpu_ratio(runs: Runs, contender: str) -> float:
    """The same in CPU time, which a busy machine does not change."""
    pairs = zip(runs["naive"], runs[contender], strict=True)
    return middle(without_load(naive.cpu) / without_load(other.cpu) for naive, other in pairs)


def markdown(runs: Runs, agreed: Mapping[str, Mapping[str, Agreement]], machine: Mapping[str, str]) -> str:
    """The whole page."""
    repeats = len(runs["naive"])
    sections = [
        [
            f"# {SECONDS} s of 1080p against a naive script",
            "",
            f"One clip ({FPS} fps, H.264, a keyframe every {KEYFRAME_EVERY} frames, one face, speech),",
            "ViT-B/16 and wav2vec2-base with random test weights, the same frames and windows for everyone.",
            f"Median of {repeats} repetitions, the order turned at each; models loaded before. Seconds by",
            "the clock; CPU seconds count all cores and do not grow when something else uses the machine.",
        ],
        _totals(runs),
        _shared(runs),
        _detail(runs),
        _agreement(agreed),
        ["## Machine", "", *(f"- {name}: {value}" for name, value in machine.items())],
    ]
    return "\n".join("\n".join(section) + "\n" for section in sections)


def _totals(runs: Runs) -> list[str]:
    lines = [
        "## End to end",
        "",
        "| contender | seconds (all runs) | CPU seconds | times faster | by CPU seconds |",
        "|---|---|---|---|---|",
    ]
    for name, outcomes in runs.items():
        every = ", ".join(f"{one.total:.1f}" for one in outcomes)
        cpu = middle(without_load(one.cpu) for one in outcomes)
        total = middle(one.total for one in outcomes)
        factors = f"{ratio(runs, name):.1f} | {cpu_ratio(runs, name):.1f}"
        lines.append(f"| {name} | **{total:.1f}** ({every}) | {cpu:.1f} | {factors} |")
    slower = [name for name in runs if name != "naive" and ratio(runs, name) < GOAL]
    missed = f"missed by {', '.join(slower)}" if slower else "reached"
    return [*lines, "", f"Goal: {GOAL:.0f} times, {missed}."]


def _shared(runs: Runs) -> list[str]:
    """Stage by stage, as far as both have it."""
    others = [name for name in runs if name != "naive"]
    head = "| work | naive | " + " | ".join(f"{name} | ratio" for name in others) + " |"
    lines = ["## Where the time goes", "", head, "|---|---|" + "---|---|" * len(others)]
    for work, (theirs, ours) in SAME_WORK.items():
        naive = seconds(runs["naive"], theirs)
        cells = [_cell(naive, seconds(runs[name], ours)) for name in others]
        lines.append(f"| {work} | {naive:.1f} | " + " | ".join(cells) + " |")
    if "functions" in runs:
        lines += ["", _floor(runs)]
    if "stack" in runs:
        lines += ["", "Stages of the stack overlap and share the cores, so they do not add up to its total."]
    return lines


def _floor(runs: Runs) -> str:
    """What is left to gain outside of the models."""
    models = seconds(runs["functions"], {"look", "listen"})
    whole = middle(one.total for one in runs["functions"])
    naive = middle(one.total for one in runs["naive"])
    if not models or not whole:
        return ""
    return (
        f"The models take {models / whole:.0%} of the functions' time: were everything else free, "
        f"it would be {naive / models:.1f} times."
    )


def _cell(naive: float, ours: float) -> str:
    return f"{ours:.1f} | " + (f"{naive / ours:.1f}" if naive and ours else "")


def _detail(runs: Runs) -> list[str]:
    lines = ["## Every stage", "", "| contender | stage | seconds | CPU seconds |", "|---|---|---|---|"]
    for name, outcomes in runs.items():
        stages = dict.fromkeys(stage for one in outcomes for stage in one.stages)
        for stage in stages:
            cpu = middle(one.cpu.get(stage, 0.0) for one in outcomes)
            once = " (once a start)" if stage in ONCE else ""
            spent = f"{cpu:.1f}" if cpu else ""
            lines.append(f"| {name} | {stage}{once} | {seconds(outcomes, {stage}):.1f} | {spent} |")
    lines += ["", *_notes(runs)]
    return lines


def _notes(runs: Runs) -> Iterator[str]:
    for name, outcomes in runs.items():
        notes = ", ".join(f"{key} {value}" for key, value in outcomes[-1].notes.items())
        if notes:
            yield f"- {name}: {notes}"
        if name != "stack":  # whose work is done by other processes
            yield f"- {name}: peak memory of its process {max(one.peak_mb for one in outcomes):.0f} MB"


def _agreement(agreed: Mapping[str, Mapping[str, Agreement]]) -> list[str]:
    lines = [
        "## The same work",
        "",
        f"Scores of the same frames and windows; the mean difference may be {MEAN_TOLERANCE}.",
        "",
        "| pair | what | shared | mean difference | largest | holds |",
        "|---|---|---|---|---|---|",
    ]
    for pair, kinds in agreed.items():
        for kind, found in kinds.items():
            holds = "yes" if found.holds else "**NO**"
            share = f"{found.shared} of {found.of}"
            lines.append(f"| {pair} | {kind} | {share} | {found.mean:.4f} | {found.worst:.4f} | {holds} |")
    return lines


def write(folder: Path, page: str, runs: Runs, machine: Mapping[str, str]) -> None:
    """`latest.md` and `latest.json`; scores are left out, they are random."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest.md").write_text(page, encoding="utf-8")
    bare = {name: [_bare(one) for one in outcomes] for name, outcomes in runs.items()}
    document = {"machine": dict(machine), "runs": bare}
    (folder / "latest.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _bare(one: Outcome) -> dict[str, object]:
    kept = {key: value for key, value in asdict(one).items() if key not in {"frames", "windows"}}
    return kept | {"total": one.total, "frames": len(one.frames), "windows": len(one.windows)}
