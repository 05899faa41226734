"""Gemini as narrator: structured output, bounded time, and an answer that is checked before it is used."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, ValidationError

from core.config import NarratorSettings
from core.fusion.judgement import Judgement
from core.fusion.narrators import check
from core.fusion.narrators.figures import figures
from core.fusion.narrators.narration import MAX_CHARACTERS, Narration, NarratorFailed
from core.fusion.narrators.prompt import VERSION, prompt

if TYPE_CHECKING:
    from google import genai
    from google.genai import types

_RETRIED: Final = [408, 429, 500, 502, 503, 504]
_LONGEST_PAUSE: Final = 8.0  # seconds between two attempts; a person is waiting for the report
_LOOK: Final = 1.0  # seconds between two checkpoints while the model thinks
_SETUP: Final = 5.0  # seconds to import the SDK and to open its client on a busy machine
_VERDICTS: Final = ["DEEPFAKE", "REAL", "INCONCLUSIVE"]
#: The part of JSON Schema that Gemini keeps to; lengths are checked by us.
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "verdict": {"type": "string", "enum": _VERDICTS},
        "explanation": {"type": "string"},
    },
    "required": ["verdict", "explanation"],
}


class _Answer(BaseModel):
    verdict: Literal["DEEPFAKE", "REAL", "INCONCLUSIVE"]
    explanation: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]


def write(
    judgement: Judgement,
    settings: NarratorSettings,
    api_key: str,
    *,
    checkpoint: Callable[[], None] = lambda: None,
) -> Narration:
    """The explanation by the configured model. Raises NarratorFailed with why there is none.

    Takes at most `attempts` times `timeout`, plus the pauses between them, whatever the server does.
    `checkpoint` is called about once a second meanwhile; what it raises passes on.
    """
    given = figures(judgement)
    answer = _parse(_in_time(lambda: _ask(given, settings, api_key), _budget(settings), checkpoint))
    text = check.clean(answer.explanation)
    wrong = check.contradictions(text, given)
    if answer.verdict != given["verdict"]:
        wrong.insert(0, f"verdict: {answer.verdict}")
    if wrong:
        raise NarratorFailed(f"contradiction: {wrong[0]}")
    return Narration(
        text=text,
        narrator="gemini",
        model=settings.model,
        prompt_version=VERSION,
        prompt_sha256=prompt()[1],
    )


def _budget(settings: NarratorSettings) -> float:
    """Seconds that all attempts and the longest pauses between them may take together."""
    first = settings.retry_delay.total_seconds()
    pauses = (min(first * 2.0**n, _LONGEST_PAUSE) + first for n in range(settings.attempts - 1))
    return _SETUP + settings.attempts * settings.timeout.total_seconds() + sum(pauses)


def _in_time(ask: Callable[[], str], budget: float, checkpoint: Callable[[], None]) -> str:
    """The answer, or NarratorFailed after `budget` seconds, or what the checkpoint raises.

    The HTTP client's timeout counts from byte to byte: a server that drips would hold it for ever. The
    thread it holds then is a daemon with nothing left to do but to close its socket.
    """
    outcome: queue.Queue[str | Exception] = queue.Queue()

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


def _ask(given: dict[str, Any], settings: NarratorSettings, api_key: str) -> str:
    """One question, one answer; every way the call can fail becomes a NarratorFailed."""
    try:
        # Imported here: the api image has no google-genai, and most installations never call it.
        import httpx2  # noqa: PLC0415
        from google import genai  # noqa: PLC0415
        from google.genai import errors  # noqa: PLC0415
    except ImportError as error:
        raise NarratorFailed("not_installed: google-genai") from error
    try:
        with genai.Client(api_key=api_key, vertexai=False, http_options=_options(settings)) as client:
            return _text(_generate(client, given, settings))
    except errors.APIError as error:
        raise NarratorFailed(f"http_{error.code}: {error.status}") from error
    except httpx2.TimeoutException as error:
        raise NarratorFailed(f"timeout: {settings.timeout.total_seconds():g} s") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise NarratorFailed(f"unreachable: {type(error).__name__}") from error
    except (ValueError, RecursionError) as error:  # the SDK's, for a body that is not what the API promises
        raise NarratorFailed(f"invalid_response: {type(error).__name__}") from error


def _options(settings: NarratorSettings) -> types.HttpOptions:
    from google.genai import types  # noqa: PLC0415 - see _ask

    return types.HttpOptions(
        base_url=settings.base_url,
        # Carries system instructions and JSON schemas for certain; `v1` is the SDK's default since 3.0.
        api_version="v1beta",
        timeout=round(settings.timeout.total_seconds() * 1000),  # milliseconds
        # Without this object the SDK never retries; without explicit values it waits up to 60 s.
        retry_options=types.HttpRetryOptions(
            attempts=settings.attempts,
            initial_delay=settings.retry_delay.total_seconds(),
            max_delay=_LONGEST_PAUSE,
            exp_base=2.0,
            jitter=settings.retry_delay.total_seconds(),
            http_status_codes=_RETRIED,
        ),
    )


def _generate(
    client: genai.Client, given: dict[str, Any], settings: NarratorSettings
) -> types.GenerateContentResponse:
    from google.genai import types  # noqa: PLC0415 - see _ask

    flash = settings.model.startswith("gemini-2.5-flash")
    return client.models.generate_content(
        model=settings.model,
        contents=json.dumps(given, ensure_ascii=True, allow_nan=False),
        config=types.GenerateContentConfig(
            system_instruction=prompt()[0],
            response_mime_type="application/json",
            response_json_schema=_SCHEMA,
            temperature=0.2,
            max_output_tokens=4096,
            # Thoughts count as output and would cut the answer; only this family can switch them off.
            thinking_config=types.ThinkingConfig(thinking_budget=0) if flash else None,
        ),
    )


def _text(response: types.GenerateContentResponse) -> str:
    """The answer's own text. A blocked prompt is a 200 without candidates; a cut one is half a JSON."""
    if not response.candidates:
        feedback = response.prompt_feedback
        raise NarratorFailed(f"blocked: {_name(feedback.block_reason if feedback else None)}")
    candidate = response.candidates[0]
    if _name(candidate.finish_reason) != "STOP":
        raise NarratorFailed(f"unfinished: {_name(candidate.finish_reason)}")
    parts = (candidate.content.parts if candidate.content else None) or []
    return "".join(part.text for part in parts if part.text and not part.thought)


def _name(value: Any) -> str:
    return str(getattr(value, "value", value) or "unspecified")[:40]
