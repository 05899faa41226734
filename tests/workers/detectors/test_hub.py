"""Pulling from a hub: what is fetched, what is recorded, and what happens when it goes wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from core.config import ModelSettings
from core.domain import Modality
from core.errors import DetectorUnavailable
from tests.checkpoints import make_image_checkpoint
from tests.workers.detectors import hub_server
from workers.detectors import hub, registry, store

HUB_ID = "dima806/deepfake_vs_real_image_detection"
TARGET = "dima806--deepfake_vs_real_image_detection"
COMMIT = "c" * 40


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's library writes every 10 MB; a tiny checkpoint would never be half there."""
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_image_checkpoint(tmp_path_factory.mktemp("hub") / "checkpoint", test_only=False)
    (folder / "README.md").write_text("not fetched")
    (folder / "pytorch_model.bin").write_bytes(b"never fetched")
    (folder / "training_args.bin").write_bytes(b"never fetched")
    return folder


@pytest.fixture
def server(original: Path) -> Iterator[hub_server.Hub]:
    with hub_server.running() as running:
        running.offer(HUB_ID, original)
        yield running


def pull(server: hub_server.Hub, root: Path, revision: str | None = None) -> store.Record:
    plan = hub.plan(HUB_ID, revision, endpoint=server.url)
    return hub.pull(plan, root, endpoint=server.url)


def code_of_pull(server: hub_server.Hub, root: Path) -> str:
    with pytest.raises(DetectorUnavailable) as caught:
        pull(server, root)
    return caught.value.code


def visible(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if not path.name.startswith(".")}


def test_the_plan_says_the_commit_and_the_size_before_anything_is_fetched(
    server: hub_server.Hub, original: Path
) -> None:
    plan = hub.plan(HUB_ID, endpoint=server.url)
    assert (plan.commit, plan.requested) == (COMMIT, "main")
    assert plan.size == sum((original / name).stat().st_size for name in store.FILES)
    assert not any("resolve" in path for _, path, _ in server.asked)


def test_a_pull_fetches_three_files_and_records_them(server: hub_server.Hub, tmp_path: Path) -> None:
    record = pull(server, tmp_path)
    folder = tmp_path / TARGET
    assert {path.name for path in folder.iterdir()} == {*store.FILES, store.RECORD}
    assert record == store.record_of(folder)
    assert (record.id, record.revision, record.requested) == (HUB_ID, COMMIT, "main")
    assert record.digest == store.verify(folder)
    assert set(record.files) == set(store.FILES)
    assert visible(tmp_path) == {TARGET}
    assert not any(path.endswith((".bin", ".md")) for _, path, _ in server.asked)


def test_what_was_pulled_can_be_loaded_without_the_hub(server: hub_server.Hub, tmp_path: Path) -> None:
    record = pull(server, tmp_path)
    server.status = 500
    identity = registry.load(Modality.VIDEO, ModelSettings(dir=tmp_path, device="cpu")).identity
    assert (identity.id, identity.version, identity.digest) == (HUB_ID, COMMIT, record.digest)


def test_files_are_fetched_at_the_commit_and_not_at_the_branch(
    server: hub_server.Hub, tmp_path: Path
) -> None:
    pull(server, tmp_path)
    fetched = [path for _, path, _ in server.asked if "/resolve/" in path]
    assert len(fetched) == 3
    assert all(f"/resolve/{COMMIT}/" in path for path in fetched)


def test_progress_grows_to_the_size_that_was_said(server: hub_server.Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    plan = hub.plan(HUB_ID, endpoint=server.url)
    hub.pull(plan, tmp_path, progress=lambda done, size: seen.append((done, size)), endpoint=server.url)
    done = [one for one, _ in seen]
    assert done == sorted(done)
    assert done[-1] == plan.size
    assert {size for _, size in seen} == {plan.size}


def test_an_interrupted_pull_goes_on_where_it_stopped(server: hub_server.Hub, tmp_path: Path) -> None:
    server.break_after, server.then_status = 5000, 500
    assert code_of_pull(server, tmp_path) == "hub_unreachable"
    assert visible(tmp_path) == set()
    server.then_status = None
    server.asked.clear()
    record = pull(server, tmp_path)
    assert server.served(store.WEIGHTS) == ["bytes=5000-"]
    assert server.served(store.CONFIG) == []  # was whole already
    assert record.digest == store.verify(tmp_path / TARGET)


def test_a_short_outage_is_bridged_within_one_pull(server: hub_server.Hub, tmp_path: Path) -> None:
    server.break_after = 5000
    assert pull(server, tmp_path).digest == store.verify(tmp_path / TARGET)
    assert server.served(store.WEIGHTS) == [None, "bytes=5000-"]


def test_a_server_that_ignores_ranges_is_no_harm(server: hub_server.Hub, tmp_path: Path) -> None:
    server.break_after, server.then_status = 5000, 500
    code_of_pull(server, tmp_path)
    server.then_status, server.ignore_range = None, True
    assert pull(server, tmp_path).digest == store.verify(tmp_path / TARGET)


def test_a_partial_file_that_is_wrong_is_fetched_anew(server: hub_server.Hub, tmp_path: Path) -> None:
    server.break_after, server.then_status = 5000, 500
    code_of_pull(server, tmp_path)
    (part,) = tmp_path.glob(f".pull-*/{store.WEIGHTS}.part")
    part.write_bytes(b"\0" * 5000)
    server.then_status = None
    assert pull(server, tmp_path).digest == store.verify(tmp_path / TARGET)


@pytest.mark.parametrize("shorter", [0, 100])
def test_weights_that_are_not_what_the_hub_states_never_arrive(
    server: hub_server.Hub, tmp_path: Path, original: Path, shorter: int
) -> None:
    size = (original / store.WEIGHTS).stat().st_size
    server.lie = b"\x01" * (size - shorter)
    assert code_of_pull(server, tmp_path) == ("hub_unreachable" if shorter else "wrong_digest")
    assert visible(tmp_path) == set()


def test_a_changed_config_is_seen_by_gits_own_digest(
    server: hub_server.Hub, tmp_path: Path, original: Path
) -> None:
    plan = hub.plan(HUB_ID, endpoint=server.url)
    config = server.repos[HUB_ID][store.CONFIG]
    server.repos[HUB_ID][store.CONFIG] = config.replace(b"Fake", b"Real").replace(b"Real", b"Fake")
    assert len(config) == (original / store.CONFIG).stat().st_size
    with pytest.raises(DetectorUnavailable) as caught:
        hub.pull(plan, tmp_path, endpoint=server.url)
    assert caught.value.code == "wrong_digest"


def test_a_second_pull_fetches_nothing(server: hub_server.Hub, tmp_path: Path) -> None:
    first = pull(server, tmp_path)
    server.asked.clear()
    assert pull(server, tmp_path) == first
    assert not any("/resolve/" in path for _, path, _ in server.asked)


def test_a_damaged_checkpoint_is_replaced(server: hub_server.Hub, tmp_path: Path) -> None:
    first = pull(server, tmp_path)
    (tmp_path / TARGET / store.WEIGHTS).write_bytes(b"gone")
    assert pull(server, tmp_path).digest == first.digest == store.verify(tmp_path / TARGET)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".old", ".pull-"))] == []


def test_a_newer_commit_replaces_an_older_one(server: hub_server.Hub, tmp_path: Path, original: Path) -> None:
    pull(server, tmp_path)
    server.offer(HUB_ID, original, commit="d" * 40)
    assert pull(server, tmp_path).revision == "d" * 40
    assert visible(tmp_path) == {TARGET}


def test_a_persons_own_folder_is_kept_beside_the_pulled_one(server: hub_server.Hub, tmp_path: Path) -> None:
    (tmp_path / TARGET).mkdir()
    (tmp_path / TARGET / "precious.txt").write_text("mine")
    pull(server, tmp_path)
    (kept,) = tmp_path.glob(f"{TARGET}.replaced-*")
    assert (kept / "precious.txt").read_text() == "mine"
    assert store.record_of(tmp_path / TARGET) is not None


def test_a_link_is_replaced_and_never_what_it_points_to(server: hub_server.Hub, tmp_path: Path) -> None:
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "root"
    pull(server, elsewhere)
    (elsewhere / TARGET / store.WEIGHTS).write_bytes(b"damaged")
    root.mkdir()
    (root / TARGET).symlink_to(elsewhere / TARGET)
    pull(server, root)
    assert not (root / TARGET).is_symlink()
    assert (elsewhere / TARGET / store.WEIGHTS).read_bytes() == b"damaged"


def test_two_pulls_at_once_both_end_well(server: hub_server.Hub, tmp_path: Path) -> None:
    records: list[store.Record] = []
    threads = [threading.Thread(target=lambda: records.append(pull(server, tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({record.digest for record in records}) == 1
    assert len(records) == 3
    assert len(server.served(store.WEIGHTS)) == 1


@pytest.mark.parametrize(
    ("hub_id", "revision"),
    [("nobody/nothing", None), (HUB_ID, "no-such-branch"), ("not a/hub/id", None), ("", None)],
)
def test_what_the_hub_does_not_have_is_unknown(
    server: hub_server.Hub, hub_id: str, revision: str | None
) -> None:
    with pytest.raises(DetectorUnavailable) as caught:
        hub.plan(hub_id, revision, endpoint=server.url)
    assert caught.value.code == "unknown_checkpoint"


def test_a_pickle_alone_is_refused_before_anything_is_fetched(server: hub_server.Hub) -> None:
    del server.repos[HUB_ID][store.WEIGHTS]
    with pytest.raises(DetectorUnavailable, match="pickle") as caught:
        hub.plan(HUB_ID, endpoint=server.url)
    assert caught.value.code == "pickle_refused"


def test_an_offer_that_lacks_a_file_is_refused(server: hub_server.Hub) -> None:
    del server.repos[HUB_ID][store.PREPROCESSOR]
    with pytest.raises(DetectorUnavailable, match="preprocessor_config") as caught:
        hub.plan(HUB_ID, endpoint=server.url)
    assert caught.value.code == "checkpoint_incomplete"


@pytest.mark.parametrize("status", [403, 500, 503])
def test_a_hub_that_answers_with_an_error_is_out_of_reach(server: hub_server.Hub, status: int) -> None:
    server.status = status
    with pytest.raises(DetectorUnavailable) as caught:
        hub.plan(HUB_ID, endpoint=server.url)
    assert caught.value.code == "hub_unreachable"
    assert "\n" not in caught.value.detail


def test_a_port_where_nobody_listens_is_out_of_reach() -> None:
    with pytest.raises(DetectorUnavailable) as caught:
        hub.plan(HUB_ID, endpoint="http://127.0.0.1:1")
    assert caught.value.code == "hub_unreachable"


def test_the_probe_sees_a_hub_that_answers(server: hub_server.Hub) -> None:
    assert hub.hub_answers(5, endpoint=server.url)


@pytest.mark.parametrize("status", [403, 502])
def test_the_probe_takes_an_error_for_no_answer(server: hub_server.Hub, status: int) -> None:
    server.status = status
    assert not hub.hub_answers(5, endpoint=server.url)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://host.invalid", "not an address"])
def test_the_probe_takes_silence_for_no_answer(endpoint: str) -> None:
    assert not hub.hub_answers(5, endpoint=endpoint)


def test_the_probe_does_not_wait_for_a_server_that_only_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert not hub.hub_answers(0.2, endpoint=f"http://127.0.0.1:{listening.getsockname()[1]}")


def test_offline_mode_is_respected(server: hub_server.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert not hub.hub_answers(5, endpoint=server.url)
    with pytest.raises(DetectorUnavailable) as caught:
        hub.plan(HUB_ID, endpoint=server.url)
    assert caught.value.code == "hub_unreachable"
    assert server.asked == []


def test_a_full_disk_is_said_before_the_first_byte(
    server: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    assert code_of_pull(server, tmp_path) == "disk_full"
    assert server.served(store.CONFIG) == []


def test_a_folder_that_cannot_be_written_is_said(server: hub_server.Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert code_of_pull(server, tmp_path / "file" / "models") == "unwritable"
