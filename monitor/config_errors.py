"""What is wrong with a configuration: where, what, and what to do about it, for all its faults at once."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from monitor.model.misfit import MISFIT
from monitor.yamlpos import Path, YamlDocument, scalar_hint, shown_key


@dataclass(frozen=True)
class ConfigError:
    """One fault. `line` and `column` count from 1, 0 means the file as a whole; `key` is a path: `accounts[0].api_key`."""

    file: str
    line: int
    column: int
    key: str
    problem: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        text = ": ".join(filter(None, (place, self.key, self.problem)))
        return f"{text}. Hint: {self.hint}" if self.hint else text


class ConfigErrors(ValueError):  # noqa: N818  many errors
    """All faults of one configuration, in the order of the file. Its text is one line for each."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(sorted(dict.fromkeys(errors), key=lambda error: (error.line, error.column)))
        super().__init__("\n".join(map(str, self.errors)))


@dataclass(frozen=True)
class Fault:
    """A fault at a path of the document, before its place is looked up."""

    path: Path
    problem: str
    hint: str = ""
    at_key: bool = False  # the key is wrong, not its value
    absent: bool = False  # there is no such key, its parent's place counts
    owner: type[BaseModel] | None = None  # the section that the key belongs to
    keys: tuple[str, ...] = ()  # of the section at `path`: they contradict each other


def key_text(path: Path) -> str:
    """("accounts", 0, "name") → `accounts[0].name`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{shown_key(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def locate(fault: Fault, document: YamlDocument, file: str) -> ConfigError:
    if not document.values:  # it was not read from a text
        return ConfigError(file, 0, 0, key_text(fault.path), fault.problem, fault.hint)
    place = document.place(fault.path)
    if fault.at_key or isinstance(value_at(document.value, fault.path), dict | list):
        place = document.key_place(fault.path)  # of a block the reader looks for its name, not its first line
    return ConfigError(file, place.line, place.column, key_text(fault.path), fault.problem, fault.hint)


def faults_of(model: type[BaseModel], details: Sequence[ErrorDetails]) -> list[Fault]:
    """pydantic's errors about `model` in plain words. Values are quoted only where they are short and of no secret."""
    return [_fault(model, detail) for detail in details]


def value_at(value: Any, path: Path) -> Any:
    """The value at `path` inside nested dicts and lists; None if there is none."""
    for part in path:
        if not has(value, (part,)):
            return None
        value = value[part]
    return value


def has(value: Any, path: Path) -> bool:
    """True if nested dicts and lists hold something at `path`, be it None."""
    *above, last = path
    value = value_at(value, tuple(above))
    return last in value if isinstance(value, dict) else isinstance(value, list) and isinstance(last, int) and last < len(value)


def nearest(word: str, words: Iterable[str]) -> str:
    """ "did you mean …", or the list of what there is if nothing is near."""
    known = list(words)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}" if known else ""


def _fault(model: type[BaseModel], detail: ErrorDetails) -> Fault:
    path, owner, annotation = _resolve(model, detail["loc"])
    name = str(path[-1]) if path else ""
    given, context = detail["input"], detail.get("ctx", {})
    at_key = False
    hint = ""
    match detail["type"]:
        case "missing":
            problem, hint = "is missing", _described(owner, name)
        case "extra_forbidden":
            problem, hint, at_key = "unknown key", nearest(name, owner.model_fields if owner else ()), True
        case "secret":
            problem, hint = str(context["problem"]), str(context["hint"])
        case kind if kind == MISFIT:
            return Fault(path, str(context["problem"]), keys=tuple(context["keys"]))
        case "value_error":
            problem = str(context["error"])
        case "union_tag_not_found":
            path = (*path, str(context["discriminator"]).strip("'"))
            problem, hint = "is missing", f"known: {', '.join(_tags(annotation))}"
        case "union_tag_invalid":
            path = (*path, str(context["discriminator"]).strip("'"))
            problem, hint = _not_known(context["tag"], str(context["expected_tags"]))
        case "literal_error" | "enum":
            problem, hint = _not_known(given, str(context["expected"]))
        case kind if kind in _WANTED:
            problem, hint = f"must be {_WANTED[kind]}, not {_quoted(given)}", _rewrite(_WANTED[kind], given)
        case kind if kind in _LIMITS:
            problem, hint = _LIMITS[kind].format(**_plain(context), given=_quoted(given)), _described(owner, name)
        case _:
            problem, hint = detail["msg"][:1].lower() + detail["msg"][1:], str(context.get("hint", "")) or _described(owner, name)
    return Fault(path, problem, hint, at_key, absent=detail["type"] == "missing", owner=owner)


_WANTED = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "path_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_LIMITS = {
    "greater_than": "must be greater than {gt}, not {given}",
    "greater_than_equal": "must be at least {ge}, not {given}",
    "less_than": "must be less than {lt}, not {given}",
    "less_than_equal": "must be at most {le}, not {given}",
    "too_short": "needs {min_length} elements or more",
    "too_long": "takes {max_length} elements at most",
    "string_too_short": "needs {min_length} characters or more",
    "string_too_long": "takes {max_length} characters at most",
    "string_pattern_mismatch": "cannot be {given}",
}


def _rewrite(wanted: str, given: object) -> str:
    """How to write what was meant, for a value of the wrong type."""
    if wanted == "a list":
        return "write [a, b], or one line with - for each"
    if wanted == "a mapping":
        return "write key: value, indented under it, or remove the key"
    if wanted == "a text":
        return "put it into quotes" if isinstance(given, int | float) else ""
    return scalar_hint(given) if isinstance(given, str) else ""


def _not_known(given: object, expected: str) -> tuple[str, str]:
    """Problem and hint for a word that is none of pydantic's list, such as "'a', 'b' or 'c'"."""
    known = re.findall(r"'([^']+)'", expected)
    return f"{_quoted(given)} is not known", nearest(given, known) if isinstance(given, str) else f"known: {', '.join(known)}"


def _plain(context: dict[str, Any]) -> dict[str, Any]:
    """Limits as people write them: 1, not 1.0."""
    return {name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in context.items()}


def _quoted(value: object) -> str:
    """A value as it may be shown: numbers, and texts that are too short and plain for a secret."""
    match value:
        case None:
            words = "empty"
        case bool():
            words = str(value).lower()
        case int() | float():
            words = str(value)
        case str():
            words = f"'{value}'" if re.fullmatch(r"[\w .:,%/+-]{0,24}", value) else f"a text of {len(value)} characters"
        case dict():
            words = "a mapping"
        case _:
            words = "a list"
    return words


def _described(owner: type[BaseModel] | None, name: str) -> str:
    """The description of a field, as a hint: it says what the value is, its unit and its sense."""
    field = owner.model_fields.get(name) if owner else None
    return f"{name}: {field.description.rstrip('.')}" if field and field.description else ""


def _resolve(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[Path, type[BaseModel] | None, Any]:
    """The path in the document for pydantic's location, the model that owns the last key, and the type of its value.

    The two differ at unions, where pydantic puts the member's name into the location.
    """
    path: Path = ()
    annotation: Any = model
    owner: type[BaseModel] | None = None
    for part in loc:
        members = [member for member in _members(annotation) if member is not type(None)]
        if len(members) > 1:
            annotation = next((member for member in members if _is_tagged(member, part)), None)
            continue
        annotation = members[0] if members else None
        owner = None
        path = (*path, part)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            owner = annotation
            field = annotation.model_fields.get(str(part))
            annotation = field.annotation if field else None
        else:
            arguments = [argument for argument in get_args(annotation) if argument is not Ellipsis]
            annotation = arguments[-1] if arguments else None
    return path, owner, annotation


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; any other type is its only member."""
    origin = get_origin(annotation)
    if origin in {Union, types.UnionType}:
        return get_args(annotation)
    if hasattr(annotation, "__metadata__"):  # Annotated[...]
        return _members(annotation.__origin__)
    return (annotation,)


def _is_tagged(member: Any, tag: int | str) -> bool:
    """True if `member` is the member of a union that pydantic calls `tag`: by a literal field of it, or by its name."""
    return getattr(member, "__name__", "") == tag or tag in _tags(member)


def _tags(annotation: Any) -> list[str]:
    """The words by which the members of a union of models are told apart."""
    models = [member for member in _members(annotation) if isinstance(member, type) and issubclass(member, BaseModel)]
    types_of_fields = [field.annotation for model in models for field in model.model_fields.values()]
    return [
        word
        for annotation in types_of_fields
        if get_origin(annotation) is Literal and len(get_args(annotation)) == 1
        for word in get_args(annotation)
    ]
