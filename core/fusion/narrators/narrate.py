"""Choose the narrator; whatever happens to a language model, an explanation comes back."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from core.config import Settings
from core.errors import Fenced
from core.fusion.judgement import Judgement
from core.fusion.narrators import gemini, template
from core.fusion.narrators.narration import Narration, NarratorFailed

_log = structlog.get_logger(__name__)


def narrate(
    judgement: Judgement, settings: Settings, *, checkpoint: Callable[[], None] = lambda: None
) -> Narration:
    """The explanation by Gemini when there is a key for it, else (and on any failure) by the template.

    `checkpoint` is called while the model thinks, and may raise Fenced to stop.
    """
    if settings.google_api_key is None or not settings.google_api_key.get_secret_value().strip():
        return template.write(judgement)
    try:
        key = settings.google_api_key.get_secret_value()
        return gemini.write(judgement, settings.narrator, key, checkpoint=checkpoint)
    except Fenced:
        raise  # nobody waits for this explanation any more
    except NarratorFailed as failure:
        reason = str(failure)
    except Exception as error:  # noqa: BLE001 - an explanation must never cost an analysis its verdict
        reason = f"unexpected: {type(error).__name__}"
    _log.warning(
        "The template explains in place of the language model.", action="narrator_fallback", reason=reason
    )
    return template.write(judgement, fallback_reason=reason)
