"""The dependency rule of the design, read from the source: who may import whom, and what the core must not do."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "monitor"
FILES = sorted(ROOT.rglob("*.py"))

# part -> parts of ours that it may import; a part may always import itself
ALLOWED = {
    "model": set(),
    "margin": {"model"},
    "rules": {"model", "margin"},
    "engine": {"model", "margin", "rules"},
    "venues": {"model"},
    "alerts": {"model", "store"},  # the desk is handed a store; it knows its type
    "store": {"model"},
    "history": {"model"},
    "metrics": {"model"},
    "web": {"model"},
    "runbook": {"model", "rules"},  # it says each rule's defaults
    "sim": set(),
}
CORE = {"model", "margin", "rules", "engine"}
FORBIDDEN_IN_CORE = {
    "asyncio",
    "time",
    "datetime",
    "random",
    "logging",
    "structlog",
    "aiohttp",
    "websockets",
    "sqlite3",
    "os",
    "socket",
}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Full dotted names of everything that a file imports, functions' imports included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def parts_imported(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("monitor.")} - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_part_imports_only_what_it_may(path: Path) -> None:
    part = part_of(path)
    if part in ALLOWED:
        assert parts_imported(path) <= ALLOWED[part] | {part}


@pytest.mark.parametrize("path", [p for p in FILES if part_of(p) in CORE], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_neither_awaits_nor_reads_a_clock_nor_logs(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & FORBIDDEN_IN_CORE
    awaiting = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Await | ast.AsyncFunctionDef)]
    assert not awaiting


def test_the_rule_itself_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from monitor.engine.engine import Engine\n")
    assert parts_imported(bad) == {"engine"}


def test_venues_do_not_know_each_other() -> None:
    venues = {path.name for path in (ROOT / "venues").iterdir() if path.is_dir() and path.name != "__pycache__"}
    for path in (ROOT / "venues").rglob("*.py"):
        own = path.relative_to(ROOT / "venues").parts[0]
        others = {f"monitor.venues.{venue}" for venue in venues - {own}}
        assert not [name for name in imports(path) if any(name.startswith(other) for other in others)], path
