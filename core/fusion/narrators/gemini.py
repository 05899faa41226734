"""Gemini as narrator: structured output through Google's own client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from core.config import NarratorSettings
from core.fusion.narrators.asking import LONGEST_PAUSE, MAX_TOKENS, SCHEMA, Said
from core.fusion.narrators.narration import NarratorFailed
from core.fusion.narrators.prompt import prompt

if TYPE_CHECKING:
    from google import genai
    from google.genai import types

_RETRIED: Final = [408, 429, 500, 502, 503, 504]
#: Its JSON Schema has no such word before API version v1.
_SCHEMA: Final = {name: value for name, value in SCHEMA.items() if name != "additionalProperties"}


def ask(given: dict[str, Any], settings: NarratorSettings, api_key: str) -> Said:
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
            return _said(_generate(client, given, settings))
    except errors.APIError as error:
        raise NarratorFailed(f"http_{error.code}: {error.status}") from error
    except httpx2.TimeoutException as error:
        raise NarratorFailed(f"timeout: {settings.timeout.total_seconds():g} s") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise NarratorFailed(f"unreachable: {type(error).__name__}") from error
    except (ValueError, RecursionError) as error:  # the SDK's, for a body that is not what the API promises
        raise NarratorFailed(f"invalid_response: {type(error).__name__}") from error


def _options(settings: NarratorSettings) -> types.HttpOptions:
    from google.genai import types  # noqa: PLC0415 - see ask

    return types.HttpOptions(
        base_url=settings.base_url,
        # Carries system instructions and JSON schemas for certain; `v1` is the SDK's default since 3.0.
        api_version="v1beta",
        timeout=round(settings.timeout.total_seconds() * 1000),  # milliseconds
        # Without this object the SDK never retries; without explicit values it waits up to 60 s.
        retry_options=types.HttpRetryOptions(
            attempts=settings.attempts,
            initial_delay=settings.retry_delay.total_seconds(),
            max_delay=LONGEST_PAUSE,
            exp_base=2.0,
            jitter=settings.retry_delay.total_seconds(),
            http_status_codes=_RETRIED,
        ),
    )


def _generate(
    client: genai.Client, given: dict[str, Any], settings: NarratorSettings
) -> types.GenerateContentResponse:
    from google.genai import types  # noqa: PLC0415 - see ask

    flash = settings.model.startswith("gemini-2.5-flash")
    return client.models.generate_content(
        model=settings.model,
        contents=json.dumps(given, ensure_ascii=True, allow_nan=False),
        config=types.GenerateContentConfig(
            system_instruction=prompt()[0],
            response_mime_type="application/json",
            response_json_schema=_SCHEMA,
            temperature=0.2,
            max_output_tokens=MAX_TOKENS,
            # Thoughts count as output and would cut the answer; only this family can switch them off.
            thinking_config=types.ThinkingConfig(thinking_budget=0) if flash else None,
        ),
    )


def _said(response: types.GenerateContentResponse) -> Said:
    usage = response.usage_metadata
    return Said(
        text=_text(response),
        input_tokens=usage.prompt_token_count if usage else None,
        output_tokens=usage.candidates_token_count if usage else None,
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
