"""Choose the narrator; whatever happens to a language model, an explanation comes back."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import structlog
from circuitbreaker import CircuitBreaker

from core.config import NarratorSettings, Settings
from core.errors import Fenced
from core.fusion.judgement import Judgement
from core.fusion.narrators import gemini, openai_compatible, template
from core.fusion.narrators.asking import Said, explain
from core.fusion.narrators.narration import Narration, NarratorFailed

_log = structlog.get_logger(__name__)


def narrate(
    judgement: Judgement,
    settings: Settings,
    *,
    checkpoint: Callable[[], None] = lambda: None,
    allowed: Callable[[], bool] = lambda: True,
) -> Narration:
    """The explanation by the language model that the settings name, else, and on any failure, the template's.

    `checkpoint` is called while the model thinks, and may raise Fenced to stop. `allowed` is asked once,
    right before a call that may cost money: False, and the template writes. A model that failed
    `breaker_failures` times in a row is left alone for `breaker_pause`.
    """
    said = _model(settings)
    if said is None:
        return template.write(judgement)
    try:
        return _carefully(lambda: said(judgement, checkpoint), settings.narrator, allowed)
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


def _carefully(
    said: Callable[[], Narration], settings: NarratorSettings, allowed: Callable[[], bool]
) -> Narration:
    """Ask, unless the model fails all the time or today's calls are spent."""
    breaker = _circuit(
        settings.model,
        str(settings.base_url),
        settings.breaker_failures,
        settings.breaker_pause.total_seconds(),
    )
    if breaker.opened:
        raise NarratorFailed("circuit_open: it failed too often")
    if not allowed():
        raise NarratorFailed("budget: spent")
    with breaker:
        return said()


def _model(settings: Settings) -> Callable[[Judgement, Callable[[], None]], Narration] | None:
    """How the chosen language model is asked; None: nobody is."""
    narrator = settings.narrator
    key = settings.google_api_key.get_secret_value().strip() if settings.google_api_key else ""

    def ask_gemini(given: dict[str, object]) -> Said:
        return gemini.ask(given, narrator, key)

    def ask_openai(given: dict[str, object]) -> Said:
        return openai_compatible.ask(given, narrator)

    match narrator.provider:
        case "openai":
            return lambda judgement, checkpoint: explain(
                judgement, ask_openai, narrator="openai", settings=narrator, checkpoint=checkpoint
            )
        case "gemini" if key:
            return lambda judgement, checkpoint: explain(
                judgement, ask_gemini, narrator="gemini", settings=narrator, checkpoint=checkpoint
            )
        case _:
            return None


@lru_cache(maxsize=8)
def _circuit(_model: str, _address: str, failures: int, pause: float) -> CircuitBreaker:
    """One of this process for each model, since what fails is its server or its way with words."""
    return CircuitBreaker(
        failure_threshold=failures,
        recovery_timeout=pause,
        expected_exception=lambda kind, _: not issubclass(kind, Fenced),
    )
