"""The written explanation and where it came from."""

from __future__ import annotations

from typing import Literal

from core.domain import Frozen

#: Longest explanation that is accepted, in characters: about a page.
MAX_CHARACTERS = 4000


class Narration(Frozen):
    """A text with its origin."""

    text: str
    narrator: Literal["template", "gemini", "openai"]
    model: str | None = None  #: name of the language model; null for the template
    prompt_version: str | None = None
    prompt_sha256: str | None = None  #: of the prompt file, hexadecimal
    input_tokens: int | None = None  #: as the server counts them; null: it does not say, or was not asked
    output_tokens: int | None = None
    fallback_reason: str | None = None  #: why the language model's text was not used; null: it was not asked


class NarratorFailed(Exception):
    """A language model gave no usable text; the message is a stable code, a colon and a detail."""
