"""Reads YAML and remembers where each key and value stands, so that an error can name its line and column.

The accepted YAML is the part on which people agree: mappings with text keys, lists, and scalars by the rules of YAML 1.2. So
`yes`, `1_000`, `0o17`, `.inf` and `12:30` are texts, as they look; who wants a number or a boolean there asks `scalar_hint`.
Refused, because each has surprised someone: tags, duplicate keys, merge keys, keys that are not text, recursion, and small files
that unfold into large ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

SIZE_MAX = 1 << 20  # bytes; ten thousand accounts fit
NODES_MAX = 250_000  # after aliases are unfolded
DEPTH_MAX = 40

Path = tuple[str | int, ...]

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_INT_DIGITS_MAX = 18  # larger ones are identifiers, which are quoted; also bounds the time of int()


@dataclass(frozen=True, order=True)
class Place:
    """A position in the file, both from 1; columns count characters."""

    line: int
    column: int


@dataclass(frozen=True)
class YamlProblem:
    """One thing that is wrong with the text itself. `key` is the path at which it was found, () for the whole file."""

    place: Place
    key: Path
    problem: str
    hint: str = ""
    value_lost: bool = False  # what the document holds at `key` is not what stands there


@dataclass
class YamlDocument:
    """What the text says, and where. Where `problems` is not empty, `value` is what could still be read."""

    value: Any = None
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    problems: list[YamlProblem] = field(default_factory=list)

    def place(self, path: Path) -> Place:
        """Where the value at `path` stands, else its nearest parent."""
        return next((self.values[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.values), Place(1, 1))

    def key_place(self, path: Path) -> Place:
        """Where the key at the end of `path` stands; an element of a list has no key, its value counts."""
        return self.keys.get(path) or self.place(path)


def read_yaml(raw: bytes) -> YamlDocument:
    """Never raises: what is wrong is in `.problems`, all of it where the syntax allows to go on."""
    document = YamlDocument()
    if len(raw) > SIZE_MAX:
        problem = f"the file has {len(raw):,} bytes, more than {SIZE_MAX:,}"
        document.problems.append(
            YamlProblem(Place(1, 1), (), problem, "a configuration is much smaller: is this the right file?")
        )
        return document
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        before = raw[: exc.start].decode("utf-8-sig")
        document.problems.append(YamlProblem(_place_after(before), (), "the file is not UTF-8 text", "save it as UTF-8"))
        return document
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as exc:
        document.problems.append(_syntax_problem(exc))
    except yaml.reader.ReaderError as exc:
        place = _place_after(text[: exc.position])
        problem = f"the character U+{ord(text[exc.position]):04X} is not allowed"
        document.problems.append(YamlProblem(place, (), problem, "delete it; it may be invisible in the editor"))
    else:
        if node is None:
            document.problems.append(YamlProblem(Place(1, 1), (), "the file is empty"))
        else:
            _Builder(document).build_root(node)
    return document


_WORDS = {
    **dict.fromkeys(("true", "false"), "write it without quotes"),
    **dict.fromkeys(("yes", "on", "y"), "write true"),
    **dict.fromkeys(("no", "off", "n"), "write false"),
    **dict.fromkeys((".inf", "+.inf", "-.inf", ".nan", "inf", "nan", "infinity"), "write a finite number"),
}


def scalar_hint(text: str) -> str:
    """What to write instead, for a text that stands where a number or a boolean is wanted; "" if nothing is known."""
    word = text.strip().lower()
    plain = word.replace("_", "")
    hint = _WORDS.get(word, "")
    if re.fullmatch(r"0o[0-7]{1,12}|0x[0-9a-f]{1,12}", word):
        hint = f"write {int(word, 0)}, in decimal"
    elif re.fullmatch(r"[-+]?0[0-9]{1,17}", plain, re.ASCII):
        hint = f"write {int(plain)}, without leading zeros"
    elif _FLOAT.fullmatch(plain):
        if isinstance(_plain_value(plain), str):
            hint = "write a smaller number"
        else:
            hint = f"write {plain}" if plain != text else "write it without quotes"
    elif re.fullmatch(r"[-+]?[0-9.]{1,18} ?%", word, re.ASCII):
        hint = "write a fraction: 5 % is 0.05"
    elif re.fullmatch(r"[0-9.]{1,18} ?(ms|s|m|min|h|d)|[0-9]{1,6}(:[0-9]{1,2}){1,2}", word, re.ASCII):
        hint = "write the number alone; the unit is in the name or the description of the key"
    elif word[:1].isdigit():  # 1,2 may mean either: a guess could be wrong by a factor of ten
        hint = "write digits 0 to 9 and, if need be, a decimal point"
    return hint


def shown_key(text: str) -> str:
    """A key or tag as it may be shown: what is long or strange may be a secret in the wrong place."""
    return text if re.fullmatch(r"[\w.!:<-]{1,32}", text) else f"({len(text)} characters)"


class _Loader(yaml.SafeLoader):
    """Composes nodes without deciding what a plain scalar is (no resolvers), and refuses what could hurt before it is built."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  the base class's own shape
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise yaml.MarkedYAMLError(problem=f"the tag {shown_key(tag)} is not allowed", problem_mark=event.start_mark)
        if self.depth >= DEPTH_MAX:
            raise yaml.MarkedYAMLError(problem=f"nested more than {DEPTH_MAX} levels deep", problem_mark=event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Builder:
    """Turns nodes into values and notes their places."""

    def __init__(self, document: YamlDocument) -> None:
        self.document = document
        self.nodes = 0
        self.open: set[int] = set()  # nodes being built, by identity: meeting one again is a recursion

    def build_root(self, node: yaml.Node) -> None:
        try:
            self.document.value = self.build(node, ())
        except _TooLargeError as exc:
            problem = f"aliases unfold to more than {NODES_MAX:,} values"
            self.document.problems.append(YamlProblem(exc.place, (), problem, "write the values out, or use fewer aliases"))

    def build(self, node: yaml.Node, path: Path) -> Any:
        place = _place(node.start_mark)
        self.document.values.setdefault(path, place)
        self.nodes += 1
        if self.nodes > NODES_MAX:
            raise _TooLargeError(place)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        if id(node) in self.open:
            self.problem(place, path, "contains itself through an alias", "write the value out", value_lost=True)
            return None
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
            return {key: self.build(value, (*path, key)) for key, value in self.pairs(node, path)}
        finally:
            self.open.discard(id(node))

    def pairs(self, node: yaml.Node, path: Path) -> Iterator[tuple[str, yaml.Node]]:
        """The keys of a mapping, each once, with their values."""
        seen: dict[str, Place] = {}
        for key_node, value in node.value:
            place = _place(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(
                    place, path, "a key is a list or a mapping", "keys are plain words; quote a text that starts with [ or {"
                )
                continue
            key = key_node.value
            if key == "<<" and key_node.style is None:
                self.problem(
                    place, path, "merge keys (<<) are not supported", "write the keys out, or give the whole value by an alias"
                )
            elif key in seen:
                problem = f"the key {shown_key(key)} is given twice, first in line {seen[key].line}"
                self.problem(place, (*path, key), problem, "keep one of them")
            else:
                seen[key] = place
                self.document.keys[*path, key] = place
                yield key, value

    def scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text: str = node.value
        if any("\ud800" <= char <= "\udfff" for char in text):
            self.problem(
                _place(node.start_mark), path, "contains half of a surrogate pair", "write the character itself", value_lost=True
            )
            return ""
        return _plain_value(text) if node.style is None else text

    def problem(self, place: Place, path: Path, problem: str, hint: str, *, value_lost: bool = False) -> None:
        self.document.problems.append(YamlProblem(place, path, problem, hint, value_lost))


class _TooLargeError(Exception):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.place = place


def _plain_value(text: str) -> Any:
    """An unquoted scalar by YAML 1.2, without octal, hexadecimal and infinite numbers, which stay texts."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text) and len(text.lstrip("+-")) <= _INT_DIGITS_MAX:
        return int(text)
    if _FLOAT.fullmatch(text) and not _INT.fullmatch(text):
        number = float(text)
        if abs(number) < float("inf"):
            return number
    return text


def _syntax_problem(exc: yaml.MarkedYAMLError) -> YamlProblem:
    """PyYAML's words, with what usually causes them. They quote single characters, never values."""
    mark = exc.problem_mark or exc.context_mark
    problem = re.sub(
        r" '[^'<>]{4,}'", "", str(exc.problem or exc.context or "not YAML")
    )  # anchors: perhaps a secret that starts with *
    context = f"{exc.context}: " if exc.context and exc.problem else ""
    hints = {
        "mapping values are not allowed here": "quote a text that contains ': ', and check the indentation",
        "found character '\\t'": "indent with spaces, not tabs",
        "could not find expected ':'": "a key needs ': ' after it",
        "found unknown escape character": "in double quotes \\ begins an escape; use single quotes",
        "found character '@'": "quote a text that starts with @",
        "found character '`'": "quote a text that starts with `",
        "found character '%'": "quote a text that starts with %",
        "found undefined alias": "quote a text that starts with *",
        "the tag": "remove it; quote a text that starts with !",
        "but found another document": "keep one document: remove the line ---",
        "expected <block end>": "check the indentation of this line and of those above",
        "found unexpected end of stream": "a quote or bracket is not closed",
    }
    hint = next((hint for words, hint in hints.items() if words in problem), "")
    return YamlProblem(_place(mark) if mark else Place(1, 1), (), f"not valid YAML: {context}{problem}", hint)


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _place_after(text: str) -> Place:
    lines = text.split("\n")
    return Place(len(lines), len(lines[-1]) + 1)
