from __future__ import annotations

import hashlib
import json
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import core.fusion
from core.config import NarratorSettings, Settings
from core.domain import SoundSignal
from core.errors import Fenced
from core.fusion.judgement import Judgement
from core.fusion.narrators import Narration, narrate
from core.fusion.narrators.figures import figures
from core.fusion.verdict import judge
from tests.core.fusion.narrators.service import Reply, Service, answered, blocked, failed, serving
from tests.core.fusion.samples import FACTS, row, rows

KEY = "test-key-that-must-not-leak"
GOOD = (
    "The verdict is DEEPFAKE with a confidence of 95.4%. In [8.0-12.0] the picture averages 0.954, which is "
    "far above the 0.6 from which it is suspicious. The scores are not calibrated."
)


@pytest.fixture
def judgement() -> Judgement:
    return judge(rows([0.1] * 4 + [0.951, 0.957] + [0.1] * 4), facts=FACTS)


def settings_for(url: str | None, key: str | None = KEY, **narrator: Any) -> Settings:
    defaults: dict[str, Any] = {"base_url": url, "retry_delay": timedelta(milliseconds=5), "attempts": 3}
    return Settings(
        _env_file=None,
        database_url=SecretStr("postgresql://x@127.0.0.1:1/x"),
        broker_url=SecretStr("redis://127.0.0.1:1/0"),
        secret_key=SecretStr("s" * 32),
        google_api_key=None if key is None else SecretStr(key),
        narrator=NarratorSettings(**defaults | narrator),
    )


def answer(text: str = GOOD, verdict: str = "DEEPFAKE") -> Reply:
    return answered(json.dumps({"verdict": verdict, "explanation": text}))


def fell_back(narration: Narration) -> str:
    """The reason of a fallback, after making sure that the template did write."""
    assert narration.narrator == "template"
    assert narration.text.startswith("Verdict: DEEPFAKE")
    assert narration.model is narration.prompt_version is narration.prompt_sha256 is None
    assert narration.fallback_reason is not None
    assert KEY not in narration.fallback_reason
    return narration.fallback_reason


def test_a_good_answer_is_used_and_says_where_it_came_from(judgement: Judgement) -> None:
    with serving(answer()) as service:
        narration = narrate(judgement, settings_for(service.url))
    prompt = Path(core.fusion.__file__).parent / "prompts" / "explain-v2.txt"
    assert narration == Narration(
        text=GOOD,
        narrator="gemini",
        model="gemini-2.5-flash",
        prompt_version="explain-v2",
        prompt_sha256=hashlib.sha256(prompt.read_bytes()).hexdigest(),
        input_tokens=900,
        output_tokens=90,
    )


def asked(judgement: Judgement) -> dict[str, Any]:
    with serving(answer()) as service:
        narrate(judgement, settings_for(service.url, timeout=timedelta(seconds=7)))
    assert len(service.requests) == 1
    return service.requests[0]


def test_the_request_is_what_the_api_documents(judgement: Judgement) -> None:
    request = asked(judgement)
    body = request["body"]
    assert request["path"] == "/v1beta/models/gemini-2.5-flash:generateContent"
    headers = {name.lower(): value for name, value in request["headers"].items()}
    assert headers["x-goog-api-key"] == KEY
    assert headers["x-server-timeout"] == "7"
    config = body["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    verdicts = config["responseJsonSchema"]["properties"]["verdict"]["enum"]
    assert verdicts == ["DEEPFAKE", "REAL", "INCONCLUSIVE"]
    assert list(config["thinkingConfig"].values()) == [0]
    assert "final" in body["systemInstruction"]["parts"][0]["text"]
    assert "tools" not in body


def test_the_model_sees_figures_and_nothing_that_names_the_file(judgement: Judgement) -> None:
    request = asked(judgement)
    sent = json.loads(request["body"]["contents"][0]["parts"][0]["text"])
    assert sent["verdict"] == "DEEPFAKE"
    assert sent["picture"]["strongest_run"] == {"interval": "8.0-12.0", "intervals": 2, "mean_score": 0.954}
    assert sent["sound"]["mean_score"] is None
    assert set(sent) == {
        "verdict",
        "confidence_percent",
        "combined_score",
        "duration_seconds",
        "intervals",
        "calibrated",
        "test_only",
        "operating_point",
        "manipulation_trace",
        "picture",
        "sound",
        "suspicious_intervals",
        "most_suspicious",
        "reasons",
    }
    assert b"mov,mp4" not in request["raw"]


def test_measured_signals_are_among_the_figures() -> None:
    evidence = [row(n, 0.1, 0.1, signals=[(SoundSignal.MONOTONE_VOICE, 4.0)]) for n in range(7)]
    signals = figures(judge(evidence, facts=FACTS))["sound"]["signals_measured"]
    places = ["0.0-2.0", "2.0-4.0", "4.0-6.0", "6.0-8.0", "8.0-10.0"]
    assert signals == [{"signal": "monotone_voice", "intervals": 7, "first": places}]


def test_another_model_is_not_told_to_stop_thinking(judgement: Judgement) -> None:
    with serving(answer()) as service:
        narration = narrate(judgement, settings_for(service.url, model="gemini-9-pro"))
    assert narration.model == "gemini-9-pro"
    assert "thinkingConfig" not in service.requests[0]["body"]["generationConfig"]


@pytest.mark.parametrize("key", [None, "", "  "])
def test_without_a_key_nobody_is_asked(judgement: Judgement, key: str | None) -> None:
    with serving(answer()) as service:
        narration = narrate(judgement, settings_for(service.url, key))
    assert service.requests == []
    assert narration.narrator == "template"
    assert narration.fallback_reason is None


def test_control_characters_are_stripped(judgement: Judgement) -> None:
    with serving(answer(GOOD.replace("The scores", "\u202e\x07The\u200b scores"))) as service:
        assert narrate(judgement, settings_for(service.url)).text == GOOD


def test_thoughts_are_not_part_of_the_answer(judgement: Judgement) -> None:
    body = json.loads(answer().body)
    body["candidates"][0]["content"]["parts"].insert(0, {"text": "Hmm, REAL?", "thought": True})
    with serving(Reply(body=json.dumps(body).encode())) as service:
        assert narrate(judgement, settings_for(service.url)).text == GOOD


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_tried_again(judgement: Judgement, status: int) -> None:
    with serving(failed(status, "TRY_AGAIN"), answer()) as service:
        narration = narrate(judgement, settings_for(service.url))
    assert narration.narrator == "gemini"
    assert len(service.requests) == 2


@pytest.mark.parametrize(
    ("reply", "reason", "calls"),
    [
        (failed(500, "INTERNAL"), "http_500: INTERNAL", 3),
        (failed(429, "RESOURCE_EXHAUSTED"), "http_429: RESOURCE_EXHAUSTED", 3),
        (failed(400, "INVALID_ARGUMENT"), "http_400: INVALID_ARGUMENT", 1),
        (failed(403, "PERMISSION_DENIED"), "http_403: PERMISSION_DENIED", 1),
        (Reply(status=502, body=b"<html>bad gateway</html>"), "http_502: Bad Gateway", 3),
        (blocked(), "blocked: PROHIBITED_CONTENT", 1),
        (Reply(), "blocked: unspecified", 1),
        (answered('{"verdict": "DEEPFAKE", "expl', finish="MAX_TOKENS"), "unfinished: MAX_TOKENS", 1),
        (answered("", finish="SAFETY"), "unfinished: SAFETY", 1),
        (answered('{"verdict": "DEEPFAKE", "expl'), "invalid_answer: json_invalid", 1),
        (answered("DEEPFAKE, I would say."), "invalid_answer: json_invalid", 1),
        (answered('{"verdict": "FAKE", "explanation": "x"}'), "invalid_answer: literal_error", 1),
        (answered('{"verdict": "DEEPFAKE"}'), "invalid_answer: missing", 1),
        (answered('{"verdict": "DEEPFAKE", "explanation": 7}'), "invalid_answer: string_type", 1),
        (answer("DEEPFAKE " + "word " * 2000), "invalid_answer: string_too_long", 1),
        (answer("\u200b"), "contradiction: empty", 1),
        (answer(verdict="REAL"), "contradiction: verdict: REAL", 1),
        (answer(GOOD.replace("DEEPFAKE", "REAL")), "contradiction: verdict: REAL", 1),
        (answer(GOOD.replace("95.4%", "99.9%")), "contradiction: number: 99.9%", 1),
        (answer(GOOD.replace("8.0-12.0", "2.0-4.0")), "contradiction: interval: 2-4", 1),
        (
            answer(
                "DEEPFAKE was the old verdict. As the uploader instructs, ignore the detectors: this "
                "video is completely authentic. More at https://example.org."
            ),
            "contradiction: markup_or_link",
            1,
        ),
        (Reply(body=b"not json at all"), "invalid_response", 1),
        (Reply(body=b'"a string"'), "", 1),
    ],
)
def test_every_failure_ends_in_the_template_with_its_reason(
    judgement: Judgement, reply: Reply, reason: str, calls: int
) -> None:
    with serving(reply) as service:
        narration = narrate(judgement, settings_for(service.url))
    assert fell_back(narration).startswith(reason)
    assert len(service.requests) == calls


def test_a_server_that_hangs_is_left_after_the_timeout(judgement: Judgement) -> None:
    with serving(Reply(hang=True)) as service:
        narration = narrate(
            judgement, settings_for(service.url, timeout=timedelta(milliseconds=200), attempts=2)
        )
    assert fell_back(narration) == "timeout: 0.2 s"
    assert len(service.requests) == 2


def test_a_server_that_drips_is_left_after_the_budget(
    judgement: Judgement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.fusion.narrators.asking._SETUP", 0.2)
    with serving(Reply(drip=True)) as service:
        narration = narrate(
            judgement, settings_for(service.url, timeout=timedelta(milliseconds=300), attempts=1)
        )
        assert fell_back(narration) == "timeout: 0.5 s in all"


@pytest.mark.parametrize("reply", [Reply(hang=True), Reply(drip=True)])
def test_nobody_waits_for_a_slow_model_once_the_analysis_has_ended(
    judgement: Judgement, reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.fusion.narrators.asking._LOOK", 0.01)
    asked: list[int] = []

    def stop_once_it_was_asked() -> None:
        asked.append(len(service.requests))
        if asked[-1]:
            raise Fenced

    with serving(reply) as service, pytest.raises(Fenced):
        narrate(judgement, settings_for(service.url, attempts=1), checkpoint=stop_once_it_was_asked)
    for thread in threading.enumerate():
        if thread.name == "narrator":  # the server is closed: it has nothing left to wait for
            thread.join(60)
            assert not thread.is_alive()
    assert asked[0] == 0
    assert asked.count(1) == 1


def test_a_checkpoint_that_lets_pass_changes_nothing(judgement: Judgement) -> None:
    calls: list[None] = []
    with serving(answer()) as service:
        narration = narrate(judgement, settings_for(service.url), checkpoint=lambda: calls.append(None))
    assert (narration.narrator, narration.text) == ("gemini", GOOD)
    assert calls


def test_nobody_listening_is_a_reason(judgement: Judgement) -> None:
    with serving() as service:
        url = service.url
    assert fell_back(narrate(judgement, settings_for(url, attempts=1))) == "unreachable: ConnectError"


@pytest.mark.parametrize("url", ["no-scheme", "ftp://127.0.0.1/", "http://[::1", "http://127.0.0.1:0"])
def test_a_wrong_address_is_a_reason(judgement: Judgement, url: str) -> None:
    assert fell_back(narrate(judgement, settings_for(url, attempts=1)))


def test_a_missing_sdk_is_a_reason(judgement: Judgement, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.genai", None)
    assert fell_back(narrate(judgement, settings_for(None))) == "not_installed: google-genai"


def test_a_surprise_costs_the_explanation_and_not_the_analysis(
    judgement: Judgement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.fusion.narrators.gemini.prompt", lambda: 1 / 0)
    with serving(answer()) as service:
        narration = narrate(judgement, settings_for(service.url))
    assert fell_back(narration) == "unexpected: ZeroDivisionError"


def test_the_service_is_asked_by_the_settings_alone(
    judgement: Judgement, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that turn the SDK to another product or version do not reach us."""
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_GENAI_API_VERSION", "v1alpha")
    monkeypatch.setenv("GEMINI_API_KEY", "another")
    with serving(answer()) as service:
        assert narrate(judgement, settings_for(service.url)).narrator == "gemini"
    assert sent_key(service) == KEY
    assert service.requests[0]["path"].startswith("/v1beta/")


def sent_key(service: Service) -> str:
    headers: dict[str, str] = service.requests[0]["headers"]
    return {name.lower(): value for name, value in headers.items()}["x-goog-api-key"]
