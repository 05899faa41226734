"""Writes an evaluation: `evaluation.json`, `evaluation.md` and the plots, each whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import ValidationError

from evaluation import markdown, plots
from evaluation.cache import write_whole
from evaluation.document import Evaluation

JSON: Final = "evaluation.json"
MARKDOWN: Final = "evaluation.md"


class NoEvaluation(Exception):
    """There is no evaluation in that folder that can be read."""


def write(evaluation: Evaluation, out: Path) -> list[Path]:
    """Write it into the folder `out`; what was written, the Markdown first."""
    drawn = plots.draw(evaluation, out)
    write_whole(out / JSON, evaluation.model_dump_json(indent=1))
    write_whole(out / MARKDOWN, markdown.render(evaluation, drawn))
    return [out / MARKDOWN, out / JSON, *(out / name for name, _ in drawn)]


def load(folder: Path) -> Evaluation:
    """What an earlier run wrote. Raises NoEvaluation."""
    try:
        return Evaluation.model_validate_json((folder / JSON).read_bytes())
    except OSError as error:
        raise NoEvaluation(f"{folder / JSON} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise NoEvaluation(f"{folder / JSON} is no evaluation of this version") from error
