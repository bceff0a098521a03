"""Writes prometheusrule.yaml: the rules of deploy/prometheus, as the Prometheus operator takes them.

.venv/bin/python deploy/kubernetes/prometheusrule.py
"""

from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
RULES = HERE.parent / "prometheus/rules"
TARGET = HERE / "prometheusrule.yaml"
HEAD = "# Made by prometheusrule.py of deploy/prometheus/rules: change it there.\n"


class _Plain(yaml.SafeDumper):
    """Texts that occur twice are written twice: the operator's readers need no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def manifest() -> str:
    groups = [group for path in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]]
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "margin-monitor", "labels": {"app.kubernetes.io/name": "margin-monitor"}},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=10_000)


if __name__ == "__main__":
    TARGET.write_text(manifest())
