"""`python -m monitor.runbook` in the project's folder: writes the runbook's page and document anew."""

from pathlib import Path

from monitor.runbook.render import markdown, page

if __name__ == "__main__":
    Path("deploy/docs/runbook.md").write_text(markdown(), encoding="utf-8")
    Path("monitor/web/runbook/index.html").write_text(page(), encoding="utf-8")
