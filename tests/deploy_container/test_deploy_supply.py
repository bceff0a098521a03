"""The locks and the wheel: what is installed is what was tested, and it is whole without its source."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from deploy_container.image_kit import PROJECT

from monitor.config_docs import example_yaml


def locked(name: str) -> dict[str, frozenset[str]]:
    """By package, version and condition, the hashes."""
    text = (PROJECT / name).read_text()
    assert "://" not in text, "a lock names no index"
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line]
    return {
        re.sub(r"\s*--hash=\S+", "", line).strip(): frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", line)) for line in lines
    }


def names(lines: set[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in lines}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-build.lock"])
def test_what_is_installed_is_what_was_tested(lock: str) -> None:
    tested = locked("requirements-dev.lock")
    for package, hashes in locked(lock).items():
        assert hashes, f"{package} has no hash"
        assert tested[package] == hashes, package


def test_the_locks_hold_what_is_asked_for_and_no_tool_of_tests() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    wanted = names({*project["project"]["dependencies"]})
    there = names({*locked("requirements.lock")})
    assert wanted <= there
    assert names({*project["build-system"]["requires"]}) <= names({*locked("requirements-build.lock")})
    assert not there & names({*project["project"]["optional-dependencies"]["dev"]})


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as the Containerfile builds it: from the same command, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "."], cwd=PROJECT, check=True, capture_output=True, timeout=100
    )
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_is_whole(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        archive.extractall(tmp_path)
    sources = {
        str(path.relative_to(PROJECT))
        for path in (PROJECT / "monitor").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= inside
    assert {"monitor/web/static/index.html", "monitor/demo.yaml"} <= inside
    (example,) = (name for name in inside if name.endswith("share/margin-monitor/example.yaml"))
    assert (tmp_path / example).read_text() == example_yaml()
    assert not [name for name in inside if name.startswith(("tests/", "config/", "deploy/"))]
    assert any(name.endswith("licenses/LICENSE") for name in inside)


def test_it_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    """With an empty environment, in a folder that cannot be written, from other files than this checkout's."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir(mode=0o555)
    code = (
        f"import sys; sys.path[:] = [{str(tmp_path / 'site')!r}, *(path for path in sys.path if path != {str(PROJECT)!r})];"
        "import monitor; from importlib.resources import files;"
        "assert (files('monitor.web') / 'static/app.js').is_file(); assert (files('monitor') / 'demo.yaml').is_file();"
        "print(monitor.__file__); sys.argv[1:] = ['demo', '--seconds', '1', '--listen', '127.0.0.1:0'];"
        "from monitor.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=nowhere, env={}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    where, *shown = done.stdout.splitlines()
    assert where.startswith(str(tmp_path / "site"))
    assert shown[0].startswith("Page: http://127.0.0.1:")
    assert not list(nowhere.iterdir())
