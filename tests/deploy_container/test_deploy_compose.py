"""The compose file: every service is confined, every file it mounts is there, and the parts speak of the same names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_container.image_kit import PROJECT

from monitor.config import ConfigErrors, load

HERE = PROJECT / "deploy/container"
COMPOSE: dict[str, Any] = yaml.safe_load((HERE / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
MADE_BY_THE_USER = HERE / "secrets"


def mounts(service: str) -> list[list[str]]:
    return [mount.split(":") for mount in SERVICES[service]["volumes"]]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert service["ulimits"]["core"] == 0, "a dump would hold the keys"
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}, "a log that grows for ever fills the disk"
    assert service["restart"] == "unless-stopped"
    assert not service.keys() & {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "user"}
    for port in service["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), "for this machine only: it has balances"
    for option in ("noexec", "nosuid", "nodev"):
        assert all(option in mount for mount in service["tmpfs"])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_an_image_has_a_version(name: str) -> None:
    image = SERVICES[name]["image"]
    if "build" in SERVICES[name]:
        assert (image, SERVICES[name]["pull_policy"]) == ("localhost/margin-monitor:latest", "build"), "never somebody else's"
        context = (HERE / SERVICES[name]["build"]["context"]).resolve()
        assert (context / SERVICES[name]["build"]["dockerfile"]) == HERE / "Containerfile"
        assert (context / ".dockerignore").is_file()
    else:
        assert re.fullmatch(r"docker\.io/[a-z]+/[a-z]+(:v?\d+\.\d+\.\d+|@sha256:[0-9a-f]{64})", image)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_is_mounted_is_there(name: str) -> None:
    for source, target, *options in mounts(name):
        if source.startswith("."):
            assert (HERE / source).exists(), f"{source} would become an empty folder at {target}"
            assert options == ["ro"]
        else:
            assert source in COMPOSE["volumes"], "what is kept is in a volume of its own"
    assert {*SERVICES[name].get("secrets", [])} <= COMPOSE["secrets"].keys()


def test_secrets_are_files_that_no_commit_and_no_image_takes() -> None:
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    assert f"/{MADE_BY_THE_USER.relative_to(PROJECT)}/" in (PROJECT / ".gitignore").read_text().splitlines()
    used = {name for service in SERVICES.values() for name in service.get("secrets", [])}
    assert used == COMPOSE["secrets"].keys()
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            assert not re.search("KEY|SECRET|TOKEN|PASSWORD", variable) or value.startswith("/run/secrets/"), (
                f"{name}: {variable}"
            )
        for path in re.findall(r"/run/secrets/(\w+)", str(service)):
            assert path in service["secrets"]


def test_the_configuration_finds_its_secrets(tmp_path: Path) -> None:
    monitor = SERVICES["margin-monitor"]
    for name in monitor["secrets"]:
        (tmp_path / name).write_text(
            "https://hooks.slack.com/services/T0/B0/xyz" if name.endswith("_url") else f"it-is-the-{name}"
        )
        (tmp_path / name).chmod(0o440)
    settings = load(HERE / "config.yaml", {"CREDENTIALS_DIRECTORY": str(tmp_path), **monitor["environment"]})
    shown = {secret.reveal() for secret in settings.secrets()}
    assert all((tmp_path / name).read_text() in shown for name in monitor["secrets"]), "none is given for nothing"
    assert settings.web.port == 9877 == int(monitor["ports"][0].rpartition(":")[2])
    assert "margin-monitor" in settings.web.host_names, "the name of the service"
    with pytest.raises(ConfigErrors, match="cannot be read"):
        load(HERE / "config.yaml", {"CREDENTIALS_DIRECTORY": str(tmp_path / "none"), **monitor["environment"]})


def test_prometheus_is_that_of_one_machine_but_for_names_and_token() -> None:
    expected = yaml.safe_load((PROJECT / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = expected["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:9877"]}]
    job["static_configs"] = [{"targets": ["margin-monitor:9877"]}]
    job["authorization"] = {"credentials_file": "/run/secrets/web_token"}
    (managers,) = expected["alerting"]["alertmanagers"]
    assert managers == {"static_configs": [{"targets": ["127.0.0.1:9093"]}]}
    managers["static_configs"] = [{"targets": ["alertmanager:9093"]}]
    found = yaml.safe_load((HERE / "prometheus.yml").read_text())
    assert found == expected
    assert {"margin-monitor", "alertmanager"} <= SERVICES.keys()


def test_prometheus_finds_its_rules() -> None:
    """As rule_files are looked for beside its configuration."""
    targets = {target: HERE / source for source, target, *_ in mounts("prometheus")}
    for pattern in yaml.safe_load((HERE / "prometheus.yml").read_text())["rule_files"]:
        folder, _, file = f"/etc/prometheus/{pattern}".rpartition("/")
        assert list(targets[folder].glob(file))


def test_grafana_finds_what_is_provisioned() -> None:
    targets = {target: HERE / source for source, target, *_ in mounts("grafana")}
    provisioning = targets["/etc/grafana/provisioning"]
    paths = {
        provider["options"]["path"]
        for file in (provisioning / "dashboards").glob("*.y*ml")
        for provider in yaml.safe_load(file.read_text())["providers"]
    }
    assert paths
    for path in paths:
        assert list(targets[path].glob("*.json"))
    variables = {
        name for file in (provisioning / "datasources").glob("*.y*ml") for name in re.findall(r"\$\{(\w+)\}", file.read_text())
    }
    assert variables <= SERVICES["grafana"]["environment"].keys()
