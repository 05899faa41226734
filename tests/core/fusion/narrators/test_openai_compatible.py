"""The narrator on servers of OpenAI's protocol, over real sockets."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from core.config import NarratorSettings, Settings
from core.errors import Fenced
from core.fusion.judgement import Judgement
from core.fusion.narrators import Narration, narrate
from core.fusion.verdict import judge
from tests.core.fusion.narrators.service import Reply, Service, serving
from tests.core.fusion.samples import FACTS, rows

KEY = "sk-a-key-that-must-not-leak"
GOOD = (
    "The verdict is DEEPFAKE with a confidence of 95.4%. In [8.0-12.0] the picture averages 0.954, which is "
    "far above the 0.6 from which it is suspicious. The scores are not calibrated."
)
ANSWER = json.dumps({"verdict": "DEEPFAKE", "explanation": GOOD})


@pytest.fixture
def judgement() -> Judgement:
    return judge(rows([0.1] * 4 + [0.951, 0.957] + [0.1] * 4), facts=FACTS)


def settings_for(url: str, **narrator: Any) -> Settings:
    defaults: dict[str, Any] = {
        "provider": "openai",
        "model": "local-8b",
        "base_url": f"{url}/v1",
        "api_key": SecretStr(KEY),
        "attempts": 1,
    }
    return Settings(
        _env_file=None,
        database_url=SecretStr("postgresql://x@127.0.0.1:1/x"),
        broker_url=SecretStr("redis://127.0.0.1:1/0"),
        secret_key=SecretStr("s" * 32),
        narrator=NarratorSettings(**defaults | narrator),
    )


def completed(content: str | None = ANSWER, *, finish: str | None = "stop", **message: Any) -> Reply:
    """A chat completion as the servers send it."""
    said = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "finish_reason": finish, "message": said}
    body = {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "local-8b",
        "choices": [choice],
        "usage": {"prompt_tokens": 800, "completion_tokens": 80, "total_tokens": 880},
    }
    return Reply(body=json.dumps(body).encode())


def refused(status: int, message: str = "made for a test") -> Reply:
    return Reply(status=status, body=json.dumps({"error": {"message": message}}).encode())


def fell_back(narration: Narration) -> str:
    assert narration.narrator == "template"
    assert narration.text.startswith("Verdict: DEEPFAKE")
    assert narration.model is narration.prompt_version is None
    assert narration.input_tokens is None
    assert narration.fallback_reason is not None
    assert KEY not in narration.fallback_reason
    return narration.fallback_reason


def formats(service: Service) -> list[str | None]:
    return [request["body"].get("response_format", {}).get("type") for request in service.requests]


def test_a_good_answer_is_used_and_says_where_it_came_from(judgement: Judgement) -> None:
    with serving(completed()) as service:
        narration = narrate(judgement, settings_for(service.url))
    assert (narration.text, narration.narrator, narration.model) == (GOOD, "openai", "local-8b")
    assert (narration.input_tokens, narration.output_tokens) == (800, 80)
    assert narration.prompt_version == "explain-v2"
    request = service.requests[0]
    assert request["path"] == "/v1/chat/completions"
    headers = {name.lower(): value for name, value in request["headers"].items()}
    assert headers["authorization"] == f"Bearer {KEY}"
    system, user = request["body"]["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert json.loads(user["content"])["verdict"] == "DEEPFAKE"
    assert b"mov,mp4" not in request["raw"]
    assert not {"tools", "functions", "stream", "store"} & set(request["body"])
    schema = request["body"]["response_format"]["json_schema"]
    assert schema["schema"]["properties"]["verdict"]["enum"] == ["DEEPFAKE", "REAL", "INCONCLUSIVE"]


def test_a_server_without_a_key_is_sent_none_of_ours(
    judgement: Judgement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "the-key-of-another-service")
    with serving(completed()) as service:
        assert narrate(judgement, settings_for(service.url, api_key=None)).narrator == "openai"
    assert b"another-service" not in json.dumps(service.requests[0]["headers"]).encode()


@pytest.mark.parametrize("status", [400, 422, 501])
def test_a_server_that_knows_no_schema_is_asked_for_less_and_remembered(
    judgement: Judgement, status: int
) -> None:
    with serving(refused(status), refused(status), completed()) as service:
        settings = settings_for(service.url)
        assert narrate(judgement, settings).text == GOOD
        assert formats(service) == ["json_schema", "json_object", None]
        assert narrate(judgement, settings).text == GOOD
    assert formats(service)[3:] == [None]


@pytest.mark.parametrize(
    "content",
    [
        f"```json\n{ANSWER}\n```",
        f"<think>Is it {{real}}? No.</think>\n{ANSWER}",
        f"Here you are: {ANSWER} Bye.",
    ],
)
def test_an_object_among_thoughts_and_fences_is_found(judgement: Judgement, content: str) -> None:
    with serving(completed(content)) as service:
        assert narrate(judgement, settings_for(service.url)).text == GOOD


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (refused(401), "http_401: AuthenticationError"),
        (refused(429), "http_429: RateLimitError"),
        (refused(500), "http_500: InternalServerError"),
        (refused(404), "http_404: NotFoundError"),
        (completed(finish="length"), "unfinished: length"),
        (completed(finish="content_filter"), "unfinished: content_filter"),
        (completed(None, refusal="I will not"), "blocked: refusal"),
        (completed(None), "invalid_answer: json_invalid"),
        (completed("{}"), "invalid_answer: missing"),
        (completed("{" * 100_000), "invalid_answer: json_invalid"),
        (completed(json.dumps({"verdict": "REAL", "explanation": GOOD})), "contradiction: verdict: REAL"),
        (completed(ANSWER.replace("95.4", "99.9")), "contradiction: number: 99.9%"),
        (completed(ANSWER.replace("[8.0-12.0]", "[0.0-2.0]")), "contradiction: interval: 0-2"),
        (Reply(body=b'{"choices": []}'), "blocked: no choices"),
        (Reply(body=b'{"choices": 7}'), "invalid_response: "),
        (Reply(body=b"[]"), "invalid_response: "),
        (Reply(body=b"<html>sign in</html>"), "invalid_response: "),
        (Reply(body=b'{"choices": [{"message": null}]}'), "invalid_response: "),
        (Reply(hang=True), "timeout: 0.3 s"),
    ],
)
def test_whatever_comes_back_the_template_takes_over(judgement: Judgement, reply: Reply, reason: str) -> None:
    with serving(reply) as service:
        narration = narrate(judgement, settings_for(service.url, timeout=timedelta(seconds=0.3)))
    assert fell_back(narration).startswith(reason)


def test_a_server_that_is_not_there(judgement: Judgement) -> None:
    with serving() as service:
        url = service.url
    assert fell_back(narrate(judgement, settings_for(url))) == "unreachable: ConnectError"


def test_busy_servers_are_asked_again_within_bounds(judgement: Judgement) -> None:
    with serving(refused(503), completed()) as service:
        assert narrate(judgement, settings_for(service.url, attempts=2)).text == GOOD
        assert len(service.requests) == 2


def test_a_model_that_keeps_failing_is_left_alone(judgement: Judgement) -> None:
    with serving(refused(500)) as service:
        settings = settings_for(service.url, breaker_failures=2)
        reasons = [fell_back(narrate(judgement, settings)).partition(":")[0] for _ in range(4)]
    assert reasons == ["http_500", "http_500", "circuit_open", "circuit_open"]
    assert len(service.requests) == 2


def test_a_model_that_was_left_alone_gets_another_chance(judgement: Judgement) -> None:
    with serving(refused(500), completed()) as service:
        settings = settings_for(service.url, breaker_failures=1, breaker_pause=timedelta(microseconds=1))
        fell_back(narrate(judgement, settings))
        assert narrate(judgement, settings).text == GOOD


def test_one_server_that_fails_takes_no_other_along(judgement: Judgement) -> None:
    with serving(refused(500)) as broken, serving(completed()) as sound:
        fell_back(narrate(judgement, settings_for(broken.url, breaker_failures=1)))
        assert narrate(judgement, settings_for(sound.url, breaker_failures=1)).text == GOOD


def test_a_spent_budget_asks_nobody(judgement: Judgement) -> None:
    with serving(completed()) as service:
        narration = narrate(judgement, settings_for(service.url), allowed=lambda: False)
    assert fell_back(narration) == "budget: spent"
    assert service.requests == []


def test_an_analysis_that_nobody_waits_for_opens_no_circuit(judgement: Judgement) -> None:
    def stop() -> None:
        raise Fenced

    with serving(completed()) as service:
        settings = settings_for(service.url, breaker_failures=1)
        with pytest.raises(Fenced):
            narrate(judgement, settings, checkpoint=stop)
        assert narrate(judgement, settings).text == GOOD


def test_the_template_can_be_chosen_although_there_is_a_key(judgement: Judgement) -> None:
    with serving(completed()) as service:
        narration = narrate(judgement, settings_for(service.url, provider="template"))
    assert (narration.narrator, narration.fallback_reason) == ("template", None)
    assert service.requests == []


def test_figures_go_nowhere_that_was_not_named() -> None:
    with pytest.raises(ValidationError, match="needs a base_url"):
        NarratorSettings(provider="openai")
