"""The manifests: confined as Kubernetes' own strictest level wants it, and speaking of the same names."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_container.image_kit import CONTAINERFILE, PROJECT

from monitor.config import load

HERE = PROJECT / "deploy/kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((HERE / "kustomization.yaml").read_text())


def manifest(kind: str) -> dict[str, Any]:
    """The only one of a kind, wherever it is."""
    found = [
        document
        for name in [*KUSTOMIZATION["resources"], "secret.example.yaml"]
        for document in yaml.safe_load_all((HERE / name).read_text())
        if document["kind"] == kind
    ]
    assert len(found) == 1, kind
    return dict(found[0])


def pod() -> dict[str, Any]:
    return dict(manifest("Deployment")["spec"]["template"]["spec"])


def container() -> dict[str, Any]:
    (one,) = pod()["containers"]
    return dict(one)


def test_every_manifest_is_applied_but_the_example() -> None:
    there = {path.name for path in HERE.glob("*.yaml")} - {"kustomization.yaml", "config.yaml", "secret.example.yaml"}
    assert {*KUSTOMIZATION["resources"]} == there
    assert "secret.example.yaml" not in KUSTOMIZATION["resources"], "it would write over real keys"


def test_the_pod_is_restricted() -> None:
    """Pod Security Standards, level "restricted", which the namespace enforces."""
    assert manifest("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    outer, inner = pod()["securityContext"], container()["securityContext"]
    assert outer["runAsNonRoot"] is True
    assert outer["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inner == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert pod()["automountServiceAccountToken"] is False, "it has nothing to say to the cluster"
    assert not pod().keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert {kind for volume in pod()["volumes"] for kind in volume} <= {
        "name",
        "configMap",
        "secret",
        "persistentVolumeClaim",
        "emptyDir",
    }
    user = f"{outer['runAsUser']}:{outer['runAsGroup']}"
    assert f"USER {user}\n" in CONTAINERFILE.read_text(), "the image's own user"
    assert outer["fsGroup"] == outer["runAsGroup"], "who reads the secrets and writes the volume"


def test_never_two_at_once() -> None:
    spec = manifest("Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert manifest("PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_probes() -> None:
    for probe in ("startupProbe", "livenessProbe"):
        assert container()[probe]["httpGet"] == {"path": "/-/healthy", "port": "http"}, "needs no token"
    ready = container()["readinessProbe"]["exec"]["command"]
    assert ready == ["margin-monitor", "healthcheck", "--ready", "--token-file", "/run/secrets/web_token"]
    assert container()["readinessProbe"]["timeoutSeconds"] > 10, "the command itself waits for 10 s and says what is wrong"
    assert "limits" in container()["resources"]
    assert "cpu" not in container()["resources"]["limits"], "throttling delays alerts"


def test_volumes_and_mounts_meet() -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod()["volumes"]}
    text = CONTAINERFILE.read_text()
    assert f"CREDENTIALS_DIRECTORY={mounts['secrets']} " in text
    assert f"STATE_DIRECTORY={mounts['state']} " in text
    assert f'"{mounts["config"]}/config.yaml"' in text
    (secret,) = (volume["secret"] for volume in pod()["volumes"] if "secret" in volume)
    assert secret == {"secretName": manifest("Secret")["metadata"]["name"], "defaultMode": 0o440}
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    assert {volume["configMap"]["name"] for volume in pod()["volumes"] if "configMap" in volume} == {generated["name"]}


def test_the_configuration_finds_its_secrets(tmp_path: Path) -> None:
    secrets = manifest("Secret")["stringData"]
    for name, text in secrets.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o440)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), **{one["name"]: one["value"] for one in container()["env"]}}
    settings = load(HERE / "config.yaml", environ)
    assert {*secrets.values()} <= {secret.reveal() for secret in settings.secrets()}
    assert settings.web.port == container()["ports"][0]["containerPort"] == manifest("Service")["spec"]["ports"][0]["port"]
    name, space = manifest("Service")["metadata"]["name"], KUSTOMIZATION["namespace"]
    assert {*settings.web.host_names} == {name, f"{name}.{space}", f"{name}.{space}.svc"}


def test_compose_and_kubernetes_differ_in_host_names_only() -> None:
    here, there = (yaml.safe_load(path.read_text()) for path in (HERE / "config.yaml", PROJECT / "deploy/container/config.yaml"))
    for one in (here, there):
        del one["web"]["host_names"]
    assert here == there


def test_labels_meet() -> None:
    label = {"app.kubernetes.io/name": "margin-monitor"}
    assert manifest("Deployment")["spec"]["selector"]["matchLabels"] == label
    assert manifest("Deployment")["spec"]["template"]["metadata"]["labels"] == label
    assert manifest("Service")["spec"]["selector"] == label
    assert manifest("Service")["metadata"]["labels"] == label == manifest("ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == label
    assert manifest("Service")["spec"]["publishNotReadyAddresses"] is True, "what is not ready is scraped all the more"


def test_the_scrape_is_that_of_one_machine() -> None:
    single = yaml.safe_load((PROJECT / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = single["scrape_configs"]
    (endpoint,) = manifest("ServiceMonitor")["spec"]["endpoints"]
    assert manifest("Service")["metadata"]["name"] == job["job_name"], "the operator makes it the job, which the rules name"
    assert endpoint["interval"] == single["global"]["scrape_interval"]
    assert endpoint["scrapeTimeout"] == single["global"]["scrape_timeout"]
    assert endpoint["port"] == manifest("Service")["spec"]["ports"][0]["name"]
    key = endpoint["authorization"]["credentials"]
    assert key["name"] == manifest("Secret")["metadata"]["name"]
    assert key["key"] in manifest("Secret")["stringData"]


def test_the_rules_are_those_of_prometheus() -> None:
    script = runpy.run_path(str(HERE / "prometheusrule.py"))
    fix = "run .venv/bin/python deploy/kubernetes/prometheusrule.py"
    assert (HERE / "prometheusrule.yaml").read_text() == script["manifest"](), fix
    rules = yaml.safe_load((PROJECT / "deploy/prometheus/rules/margin-monitor.rules.yml").read_text())
    assert manifest("PrometheusRule")["spec"] == rules, "nothing is lost on the way"


def test_kustomize_puts_it_together() -> None:
    """With kubectl where it is; it is in no Debian package of this age, and what it does is checked above piece by piece."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on this machine")
    done = subprocess.run([kubectl, "kustomize", str(HERE)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    made = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}
    assert {document["metadata"].get("namespace", KUSTOMIZATION["namespace"]) for document in made.values()} == {"margin-monitor"}
    volumes = made["Deployment"]["spec"]["template"]["spec"]["volumes"]
    (name,) = (volume["configMap"]["name"] for volume in volumes if "configMap" in volume)
    assert name == made["ConfigMap"]["metadata"]["name"]
    assert name != "margin-monitor", "with the hash of its text"
    assert made["ConfigMap"]["data"] == {"config.yaml": (HERE / "config.yaml").read_text()}
