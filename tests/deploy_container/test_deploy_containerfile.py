"""What the Containerfile promises, read from its text; whether it builds is another file's question."""

from __future__ import annotations

import json
import re
import shlex
from typing import NamedTuple

import pytest
from deploy_container.image_kit import CONTAINERFILE, PROJECT


class Step(NamedTuple):
    word: str
    rest: str
    stage: int


def steps() -> list[Step]:
    """The instructions, lines joined, each with its stage; -1 before the first."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found, stage = [], -1
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        stage += word == "FROM"
        found.append(Step(word, rest, stage))
    return found


STEPS = steps()
LAST = [step for step in STEPS if step.stage == max(step.stage for step in STEPS)]


def last(word: str) -> str:
    """What the only such instruction of the final stage says."""
    (step,) = (step for step in LAST if step.word == word)
    return step.rest


def test_two_stages_on_one_base_that_can_be_pinned() -> None:
    assert [step.rest for step in STEPS if step.word == "FROM"] == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]
    base = STEPS[0].rest.removeprefix("PYTHON_IMAGE=")
    assert STEPS[0] == ("ARG", f"PYTHON_IMAGE={base}", -1)
    assert re.fullmatch(r"[a-z0-9.-]+(/[a-z0-9.-]+)+(:3\.\d+-[a-z-]+|@sha256:[0-9a-f]{64})", base), "a full name and a version"


def test_no_step_needs_a_shell() -> None:
    for step in STEPS:
        if step.word in ("RUN", "CMD", "ENTRYPOINT", "VOLUME"):
            assert isinstance(json.loads(step.rest), list), step
    assert not [step for step in STEPS if step.word in ("SHELL", "ADD")]


def test_nothing_is_installed_without_its_hash() -> None:
    installs = [json.loads(step.rest) for step in STEPS if step.word == "RUN" and {"install", "wheel"} & {*json.loads(step.rest)}]
    assert len(installs) == 4
    for words in installs:
        assert "--require-hashes" in words or {"--no-index", "--no-deps"} <= {*words}, "from the lock, or what was just built"
        if "--require-hashes" in words:
            assert words[words.index("--only-binary") + 1] == ":all:", "nothing is compiled that nobody has looked at"
    assert not [step for step in LAST if step.word == "RUN"], "the image only receives what was built"


def test_the_image_is_nobody_with_one_folder() -> None:
    assert last("USER") == "10001:10001", "a number: Kubernetes cannot see whether a name is root"
    assert json.loads(last("VOLUME")) == ["/var/lib/margin-monitor"] == [last("WORKDIR")]
    assert last("STOPSIGNAL") == "SIGTERM"
    assert json.loads(last("ENTRYPOINT")) == ["margin-monitor"]
    health = last("HEALTHCHECK").partition("CMD ")
    assert json.loads(health[2]) == ["margin-monitor", "healthcheck"]
    assert {"--interval", "--timeout", "--start-period", "--retries"} == {
        option.partition("=")[0] for option in health[0].split()
    }
    environment = dict(pair.split("=", 1) for pair in shlex.split(last("ENV")))
    assert environment["CREDENTIALS_DIRECTORY"] == "/run/secrets"
    assert environment["STATE_DIRECTORY"] == last("WORKDIR")
    assert not [name for name in environment if re.search("KEY|SECRET|TOKEN|PASSWORD", name)]


def test_it_says_what_it_is() -> None:
    labels = dict(pair.split("=", 1) for pair in shlex.split(last("LABEL")))
    project = (PROJECT / "pyproject.toml").read_text()
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}" in labels
    assert f'description = "{labels["org.opencontainers.image.description"]}"' in project
    assert f'license = "{labels["org.opencontainers.image.licenses"]}"' in project


@pytest.mark.parametrize(
    "wanted",
    sorted({word for step in STEPS if step.word == "COPY" and "--from" not in step.rest for word in step.rest.split()[:-1]}),
)
def test_what_is_copied_is_sent(wanted: str) -> None:
    """.dockerignore lets in what is named there, and nothing else: no key and no history gets into a layer."""
    ignore = (PROJECT / ".dockerignore").read_text().splitlines()
    assert ignore[1] == "*"
    assert f"!{wanted}" in ignore
    assert (PROJECT / wanted).exists()
