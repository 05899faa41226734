from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
FILES = ["Dockerfile.api", "Dockerfile.worker"]


def instructions(name: str) -> list[tuple[str, str]]:
    """(instruction, arguments) of a Dockerfile, continued lines joined, comments dropped."""
    text = "\n".join(
        line for line in (ROOT / name).read_text().splitlines() if not line.lstrip().startswith("#")
    )
    joined = re.sub(r"\\\n\s*", " ", text)
    pairs = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in pairs]


def last_stage(name: str) -> list[tuple[str, str]]:
    """The instructions of the image that is shipped."""
    found = instructions(name)
    start = max(n for n, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


@pytest.mark.parametrize("name", FILES)
def test_the_image_does_not_run_as_root(name: str) -> None:
    users = [rest for word, rest in last_stage(name) if word == "USER"]
    assert users == ["10001:10001"], "a number, so that Kubernetes can check it"
    after = [word for word, _ in last_stage(name)]
    assert "RUN" not in after[after.index("USER") :]


@pytest.mark.parametrize("name", FILES)
def test_base_images_are_pinned_and_the_same_in_both_stages(name: str) -> None:
    bases = {rest.split()[0] for word, rest in instructions(name) if word == "FROM"}
    (base,) = bases
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base)


@pytest.mark.parametrize("name", FILES)
def test_no_secret_is_baked_in(name: str) -> None:
    for word, rest in instructions(name):
        if word in {"ENV", "ARG"}:
            assert not re.search(r"PASSWORD|SECRET|TOKEN|API_KEY|_URL", rest), rest


@pytest.mark.parametrize("name", FILES)
def test_pip_installs_what_was_tested(name: str) -> None:
    installs = re.findall(r"pip install [^&]*", " ".join(rest for _, rest in instructions(name)))
    assert installs
    for install in installs:
        assert "--constraint requirements.lock" in install or "--no-deps --force-reinstall ." in install


def extras(name: str) -> set[str]:
    """The extras of the project that an image installs."""
    found = re.search(r'"\.\[([\w,]+)\]"', (ROOT / name).read_text())
    assert found
    return set(found[1].split(","))


def test_the_api_image_installs_no_torch() -> None:
    assert extras("Dockerfile.api") == {"api", "cli"}
    assert not re.search(r"pip install.*\btorch", (ROOT / "Dockerfile.api").read_text())
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = [requirement for extra in ("api", "cli") for requirement in known[extra]]
    assert not [requirement for requirement in wanted if re.match(r"torch|celery|deepdefend", requirement)]


def test_the_worker_image_chooses_torch_by_argument() -> None:
    assert extras("Dockerfile.worker") == {"worker", "evaluation", "cli", "flower"}
    assert ("ARG", 'TORCH_INDEX=""') in instructions("Dockerfile.worker")
    assert any(
        "apt-get install" in rest and "bubblewrap" in rest for _, rest in last_stage("Dockerfile.worker")
    )


@pytest.mark.parametrize("index", ["", "https://wheels.example/cpu"])
def test_the_argument_selects_where_torch_comes_from(index: str) -> None:
    (choice,) = [
        rest for word, rest in instructions("Dockerfile.worker") if "TORCH_INDEX:+" in rest and word == "RUN"
    ]
    script = choice.replace("/opt/deepdefend/bin/pip", "echo")
    done = subprocess.run(
        ["sh", "-c", script], env={"TORCH_INDEX": index}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == "torch"
    assert (f"--index-url {index}" in done.stdout) == bool(index)


@pytest.mark.parametrize("name", FILES)
def test_what_is_copied_is_there_and_is_sent_to_the_builder(name: str) -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignore[1] == "*", "everything stays behind unless it is named"
    let_in = [line[1:] for line in ignore if line.startswith("!")]
    for word, rest in instructions(name):
        if word != "COPY" or "--from" in rest:
            continue
        for source in [part for part in rest.split() if not part.startswith("--")][:-1]:
            assert (ROOT / source).exists(), source
            assert any(fnmatch(source.split("/")[0], pattern) for pattern in let_in), source


@pytest.mark.parametrize("name", FILES)
def test_every_package_of_the_wheel_is_copied(name: str) -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    copied = {rest.split()[0] for word, rest in instructions(name) if word == "COPY" and "--" not in rest}
    assert set(packages["packages"]) <= copied


def test_dotenv_and_history_stay_behind() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert not let_in & {".env", ".git", ".venv", "tests"}


def check_deploy(folder: Path) -> subprocess.CompletedProcess[str]:
    """scripts/check-deploy on a copy of what it reads."""
    for name in [*FILES, ".ci", "deploy", "scripts"]:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    for file in ROOT.glob("docker-compose*.yml"):
        shutil.copy(file, folder)
    return run_check(folder)


def run_check(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / "scripts" / "check-deploy"],
        env={"VENV": str(BIN.parent), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_check_deploy_finds_what_is_wrong(tmp_path: Path) -> None:
    done = check_deploy(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, good, bad, complaint in (
        ("Dockerfile.api", "WORKDIR /src", "WORKDIR src", "DL3000"),
        ("Dockerfile.worker", "python:3.11.16-slim-trixie AS", "python AS", "DL3006"),
        ("docker-compose.yml", "networks: [inner]", "networks: 7", "docker-compose.yml"),
        ("docker-compose.gpu.yml", "devices:", "device:", "docker-compose.gpu.yml"),
        ("scripts/new-env", "done <", "odne <", "syntax error"),
    ):
        sound = (tmp_path / name).read_text()
        assert good in sound
        (tmp_path / name).write_text(sound.replace(good, bad, 1))
        done = run_check(tmp_path)
        assert done.returncode != 0, name
        assert complaint in done.stdout + done.stderr
        (tmp_path / name).write_text(sound)
