"""Any server that speaks OpenAI's chat completions as narrator: vLLM, llama.cpp, Ollama, LM Studio, OpenAI.

They differ in what they let a caller ask for. A server that refuses the request for a JSON schema is asked
for any JSON object, then for plain text; the prompt says what the answer must be, and every answer is
checked alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from core.config import NarratorSettings
from core.fusion.narrators.asking import MAX_TOKENS, SCHEMA, Said
from core.fusion.narrators.narration import NarratorFailed
from core.fusion.narrators.prompt import prompt

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletion

#: What a server answers that does not know a parameter, or not this value of it.
_NOT_UNDERSTOOD: Final = frozenset({400, 404, 415, 422, 501})
_FORMATS: Final[tuple[dict[str, Any], ...]] = (
    {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "explanation", "strict": True, "schema": SCHEMA},
        },
        "temperature": 0.2,
    },
    {"response_format": {"type": "json_object"}, "temperature": 0.2},
    {},  # reasoning models take no temperature
)
#: Place in `_FORMATS` that a server was last content with, by address and model: asked first next time.
_LIKED: Final[dict[tuple[str, str], int]] = {}


def ask(given: dict[str, Any], settings: NarratorSettings) -> Said:
    """One question, one answer; every way the call can fail becomes a NarratorFailed."""
    try:
        # Imported here: the api image has no openai, and most installations never call it.
        import openai  # noqa: PLC0415
    except ImportError as error:
        raise NarratorFailed("not_installed: openai") from error
    key = settings.api_key.get_secret_value() if settings.api_key else "none"  # local servers want none
    try:
        with openai.OpenAI(
            api_key=key,
            base_url=settings.base_url,
            timeout=settings.timeout.total_seconds(),
            max_retries=settings.attempts - 1,
        ) as client:
            return _said(_complete(client, given, settings))
    except openai.APITimeoutError as error:
        raise NarratorFailed(f"timeout: {settings.timeout.total_seconds():g} s") from error
    except openai.APIConnectionError as error:
        raise NarratorFailed(f"unreachable: {type(error.__cause__ or error).__name__}") from error
    except openai.APIStatusError as error:
        raise NarratorFailed(f"http_{error.status_code}: {type(error).__name__}") from error
    except (openai.OpenAIError, ValueError, TypeError, AttributeError, RecursionError) as error:
        # The SDK builds its objects unchecked: what is not a completion breaks where it is read.
        raise NarratorFailed(f"invalid_response: {type(error).__name__}") from error


def _complete(client: OpenAI, given: dict[str, Any], settings: NarratorSettings) -> ChatCompletion:
    """The first answer to a form of the question that the server understands."""
    import openai  # noqa: PLC0415 - see ask

    place = (str(settings.base_url), settings.model)
    last: openai.APIStatusError | None = None
    for n in _order(_LIKED.get(place, 0)):
        try:
            answer: ChatCompletion = client.chat.completions.create(
                model=settings.model,
                messages=[
                    {"role": "system", "content": prompt()[0]},
                    {"role": "user", "content": json.dumps(given, ensure_ascii=True, allow_nan=False)},
                ],
                max_completion_tokens=MAX_TOKENS,
                **_FORMATS[n],
            )
        except openai.APIStatusError as error:
            if error.status_code not in _NOT_UNDERSTOOD:
                raise
            last = error
        else:
            _LIKED[place] = n
            return answer
    raise last or NarratorFailed("invalid_response: nothing was asked")


def _order(first: int) -> Iterator[int]:
    yield first
    yield from (n for n in range(len(_FORMATS)) if n != first)


def _said(answer: ChatCompletion) -> Said:
    if not answer.choices:
        raise NarratorFailed("blocked: no choices")
    choice = answer.choices[0]
    if choice.message.refusal:
        raise NarratorFailed("blocked: refusal")
    if choice.finish_reason not in {"stop", None}:  # some servers leave it out
        raise NarratorFailed(f"unfinished: {str(choice.finish_reason)[:40]}")
    usage = answer.usage
    return Said(
        text=_object_in(choice.message.content or ""),
        input_tokens=usage.prompt_tokens if usage else None,
        output_tokens=usage.completion_tokens if usage else None,
    )


def _object_in(text: str) -> str:
    """The JSON object among the thoughts and fences that unconstrained models put around it."""
    answer = text.rpartition("</think>")[2]
    begin, end = answer.find("{"), answer.rfind("}")
    return answer[begin : end + 1] if 0 <= begin < end else answer
