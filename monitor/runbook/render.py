"""The runbook as Markdown and as a page without scripts."""

import html
import re
from collections.abc import Iterator

from monitor.rules import RuleBook
from monitor.rules.base import LadderRule
from monitor.runbook.entries import ENTRIES, GROUPS, Entry

INTRO = (
    "Every message links here: the anchor is the name of its rule. First what to do, then why. "
    "Levels: info, warning, high, critical, emergency, liquidation; UNKNOWN weighs as much as critical."
)
RULE_SILENCE = (
    "`margin-monitor ack ID --note …` stops the repeats until it gets worse; "
    "`margin-monitor silence --rule {rule} --account NAME --minutes 60 --note …` holds messages back. "
    "Emergency and liquidation are told all the same."
)
MADE_BY = "Written by `python -m monitor.runbook`; the source is monitor/runbook/entries.py."


def markdown() -> str:
    """The text of deploy/docs/runbook.md."""
    parts = ["# Runbook: what each alert means and what to do\n", f"{INTRO}\n", f"{MADE_BY}\n"]
    for group, title in GROUPS.items():
        parts.append(f"## {title}\n")
        for entry in _of(group):
            anchors = "".join(f'<a id="{name}"></a>' for name in (entry.anchor, *entry.also))
            parts.append(f"{anchors}\n\n### {', '.join((entry.anchor, *entry.also))}: {entry.title}\n")
            for heading, body in _sections(entry):
                parts.append(
                    "\n".join(f"{number}. {step}" for number, step in enumerate(body, start=1)) + "\n"
                    if heading == "Do now"
                    else f"**{heading}.** " + " ".join(body) + "\n"
                )
    return "\n".join(parts)


def page() -> str:
    """The page /runbook: plain HTML, with a style sheet of its own and nothing that runs."""
    contents = "\n".join(
        f"<li>{html.escape(title)}\n<ul>\n"
        + "\n".join(f'<li><a href="#{one.anchor}">{one.anchor}</a> {html.escape(one.title)}</li>' for one in _of(group))
        + "\n</ul></li>"
        for group, title in GROUPS.items()
    )
    sections = "\n".join(
        f"<h2>{html.escape(title)}</h2>\n" + "\n".join(_article(entry) for entry in _of(group)) for group, title in GROUPS.items()
    )
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Runbook · margin-monitor</title>
<link rel="icon" href="static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="static/runbook.css">
</head>
<body>
<header><h1>Runbook</h1><p><a href="./">Status page</a></p></header>
<main>
<p>{html.escape(INTRO)}</p>
<nav aria-label="All alerts"><ul>
{contents}
</ul></nav>
{sections}
</main>
</body>
</html>
"""


def _article(entry: Entry) -> str:
    names = " ".join((f"<code>{entry.anchor}</code>", *(f'<code id="{name}">{name}</code>' for name in entry.also)))
    parts = [f'<article id="{entry.anchor}">', f"<h3>{names} {html.escape(entry.title)}</h3>"]
    for heading, body in _sections(entry):
        parts.append(
            "<ol>" + "".join(f"<li>{_marked(step)}</li>" for step in body) + "</ol>"
            if heading == "Do now"
            else f"<p><b>{heading}.</b> {_marked(' '.join(body))}</p>"
        )
    return "\n".join((*parts, "</article>"))


def _sections(entry: Entry) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(heading, texts) in the order in which a person at night needs them."""
    yield "Do now", entry.now
    yield "Means", (entry.means,)
    yield "How sure", (entry.sure,)
    if entry.look:
        yield "Look also", entry.look
    if limits := _limits(entry.anchor):
        yield "Default limits", (limits,)
    yield "Silence", (entry.quiet or RULE_SILENCE.format(rule=entry.anchor),)


def _limits(anchor: str) -> str:
    """The limits of a rule, from the rule itself; "" for what has none."""
    rule = getattr(RuleBook(), anchor, None)
    if rule is None:
        return ""
    off = "" if rule.enabled else "; off unless `enabled: true`"
    if isinstance(rule, LadderRule):
        unit = next((type(rule).model_fields[level.word].description for level, _ in rule.ladder), "")
        steps = " · ".join(f"{level.word} {limit:g}" for level, limit in rule.ladder)
        return f"{steps} ({unit}){off}; set under `rules.{anchor}`."
    return f"told as {rule.level}{off}; set under `rules.{anchor}`."


def _of(group: str) -> list[Entry]:
    return [entry for entry in ENTRIES if entry.group == group]


def _marked(text: str) -> str:
    """Backticks become code, and the name of another entry a link to it."""

    anchors = {entry.anchor for entry in ENTRIES}

    def code(match: re.Match[str]) -> str:
        shown = f"<code>{match[1]}</code>"
        return f'<a href="#{match[1]}">{shown}</a>' if match[1] in anchors else shown

    return re.sub(r"`([^`]+)`", code, html.escape(text, quote=False))
