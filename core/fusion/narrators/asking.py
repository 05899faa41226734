"""What every language model is asked, in bounded time, and what is made of its answer."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, ValidationError

from core.config import NarratorSettings
from core.domain import Frozen
from core.fusion.judgement import Judgement
from core.fusion.narrators import check
from core.fusion.narrators.figures import figures
from core.fusion.narrators.narration import MAX_CHARACTERS, Narration, NarratorFailed
from core.fusion.narrators.prompt import VERSION, prompt

LONGEST_PAUSE: Final = 8.0  # seconds between two attempts; a person is waiting for the report
_LOOK: Final = 1.0  # seconds between two checkpoints while the model thinks
_SETUP: Final = 5.0  # seconds to import an SDK and to open its client on a busy machine
#: The part of JSON Schema that every server keeps to; lengths are checked by us.
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "verdict": {"type": "string", "enum": ["DEEPFAKE", "REAL", "INCONCLUSIVE"]},
        "explanation": {"type": "string"},
    },
    "required": ["verdict", "explanation"],
    "additionalProperties": False,
}
#: Of the answer: three times what `MAX_CHARACTERS` of English need.
MAX_TOKENS: Final = 4096


class Said(Frozen):
    """A model's raw answer and what it cost; null: the server does not say."""

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None


#: Puts the figures to a model. Raises NarratorFailed.
Ask = Callable[[dict[str, Any]], Said]


class _Answer(BaseModel):
    verdict: Literal["DEEPFAKE", "REAL", "INCONCLUSIVE"]
    explanation: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]


def explain(
    judgement: Judgement,
    ask: Ask,
    *,
    narrator: Literal["gemini", "openai"],
    settings: NarratorSettings,
    checkpoint: Callable[[], None],
) -> Narration:
    """The explanation by a language model. Raises NarratorFailed with why there is none.

    Takes at most `attempts` times `timeout`, plus the pauses between them, whatever the server does.
    `checkpoint` is called about once a second meanwhile; what it raises passes on.
    """
    given = figures(judgement)
    said = _in_time(lambda: ask(given), _budget(settings), checkpoint)
    answer = _parse(said.text)
    text = check.clean(answer.explanation)
    wrong = check.contradictions(text, given)
    if answer.verdict != given["verdict"]:
        wrong.insert(0, f"verdict: {answer.verdict}")
    if wrong:
        raise NarratorFailed(f"contradiction: {wrong[0]}")
    return Narration(
        text=text,
        narrator=narrator,
        model=settings.model,
        prompt_version=VERSION,
        prompt_sha256=prompt()[1],
        input_tokens=said.input_tokens,
        output_tokens=said.output_tokens,
    )


def _budget(settings: NarratorSettings) -> float:
    """Seconds that all attempts and the longest pauses between them may take together."""
    first = settings.retry_delay.total_seconds()
    pauses = (min(first * 2.0**n, LONGEST_PAUSE) + first for n in range(settings.attempts - 1))
    return _SETUP + settings.attempts * settings.timeout.total_seconds() + sum(pauses)


def _in_time(ask: Callable[[], Said], budget: float, checkpoint: Callable[[], None]) -> Said:
    """The answer, or NarratorFailed after `budget` seconds, or what the checkpoint raises.

    The HTTP client's timeout counts from byte to byte: a server that drips would hold it for ever. The
    thread it holds then is a daemon with nothing left to do but to close its socket.
    """
    outcome: queue.Queue[Said | Exception] = queue.Queue()

    def run() -> None:
        try:
            outcome.put(ask())
        except Exception as error:  # noqa: BLE001 - carried to the caller's thread and raised there
            outcome.put(error)

    threading.Thread(target=run, name="narrator", daemon=True).start()
    until = time.monotonic() + budget
    while True:
        checkpoint()
        left = until - time.monotonic()
        with contextlib.suppress(queue.Empty):
            result = outcome.get(timeout=max(0.0, min(left, _LOOK)))
            break
        if left <= 0:
            raise NarratorFailed(f"timeout: {budget:g} s in all")
    if isinstance(result, Exception):
        raise result
    return result


def _parse(raw: str) -> _Answer:
    try:
        return _Answer.model_validate_json(raw)
    except ValidationError as error:
        raise NarratorFailed(f"invalid_answer: {error.errors()[0]['type']}") from error
