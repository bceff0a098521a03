"""Loads the configuration, and finds all faults of a file at once, each with its line and column.

A document goes through three hands: `yamlpos` reads it with positions, this module fills in what accounts take from elsewhere
and has pydantic judge it, `config_errors` puts the verdict into words. `secret_sources` reads the secrets on the way.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from monitor.config_errors import ConfigError, ConfigErrors, Fault, faults_of, has, key_text, locate, value_at
from monitor.config_model import ALIAS, NAMES_CLASH, AccountConfig, Config, name_clashes
from monitor.model.misfit import MISFIT
from monitor.model.secret import READER
from monitor.secret_sources import SecretReader, default_names, exposed, read_small_file, reason
from monitor.yamlpos import DEPTH_MAX, SIZE_MAX, YamlDocument, read_yaml
from monitor.yamlpos import Path as KeyPath

Model = TypeVar("Model", bound=BaseModel)

__all__ = ["AccountConfig", "Config", "ConfigError", "ConfigErrors", "from_data", "load"]


def load(path: Path, environ: Mapping[str, str] = os.environ, *, over: Mapping[str, Any] | None = None) -> Config:
    """The configuration of a YAML file. Raises ConfigErrors with all its faults, each with line, column, cause and hint.

    environ: where {env: NAME}, $CREDENTIALS_DIRECTORY and the default sources of secrets are looked up; over: settings that are
    written over those of the file, key by key, such as the addresses of a simulated exchange.
    """
    file = str(path)
    try:
        raw, mode = read_small_file(path, SIZE_MAX)
    except (OSError, ValueError) as exc:
        hint = (
            "`margin-monitor init` writes one; config/example.yaml shows every key" if isinstance(exc, FileNotFoundError) else ""
        )
        raise ConfigErrors([ConfigError(file, 0, 0, "", f"cannot be read: {reason(exc)}", hint)]) from None
    inline_refused = None
    if problem := exposed(mode):
        inline_refused = (f"is written in a file that {problem}", f"chmod 600 {file}, or write {{file: /path}} here")
    reader = SecretReader(environ=environ, folder=path.absolute().parent, inline_refused=inline_refused)
    document = read_yaml(raw)
    if over and isinstance(document.value, dict):
        document.value = _merged(document.value, over)
    return _configured(document, reader, file)


def from_data(data: dict[str, Any], environ: Mapping[str, str] = os.environ, *, folder: Path = Path()) -> Config:
    """The configuration of what a YAML file would hold, for who writes it in Python. Raises ConfigErrors, without lines."""
    return _configured(YamlDocument(data), SecretReader(environ=environ, folder=folder), "")


def _configured(document: YamlDocument, reader: SecretReader, file: str) -> Config:
    errors = [
        ConfigError(file, it.place.line, it.place.column, key_text(it.key), it.problem, it.hint) for it in document.problems
    ]
    if document.value is None and errors:  # it could not be read at all
        raise ConfigErrors(errors)
    config, faults = _validated(document, reader)
    lost = {it.key for it in document.problems if it.value_lost}
    errors += [locate(fault, document, file) for fault in faults if fault.path not in lost]
    if config is None or errors:
        raise ConfigErrors(replace(error, problem=reader.hide(error.problem), hint=reader.hide(error.hint)) for error in errors)
    return config


def _validated(document: YamlDocument, reader: SecretReader) -> tuple[Config | None, list[Fault]]:
    """The configuration that the document describes, and what is wrong with it."""
    faults = _clash_faults(document)
    completed = _completed(document.value, reader)
    try:
        return _checked(Config, completed, reader), faults
    except ValidationError as exc:
        details = [detail for detail in exc.errors(include_url=False) if detail["type"] != NAMES_CLASH]
        found = faults_of(Config, details)
        found += _further_misfits(found, completed, reader)
        faults += [_with_sources(_at_key(fault, document), document) for fault in found]
        return None, [fault for fault in faults if not _is_inherited(fault, document)] or faults


def _checked(model: type[Model], value: Any, reader: SecretReader) -> Model:
    """By way of JSON: strict, so that no text turns into a number, while lists may still be tuples and texts paths."""
    return model.model_validate_json(json.dumps(value, allow_nan=False), strict=True, context={READER: reader})


def _further_misfits(faults: Sequence[Fault], value: Any, reader: SecretReader) -> list[Fault]:
    """What contradicts itself in sections that have other faults too: pydantic would tell it only when those are mended.

    Each such section is judged again without its faulty keys, and what these are part of is left for later.
    """
    faulty: dict[KeyPath, tuple[type[BaseModel], set[str]]] = {}
    for fault in faults:
        if fault.owner is not None:
            faulty.setdefault(fault.path[:-1], (fault.owner, set()))[1].add(str(fault.path[-1]))
    found = []
    for path, (owner, names) in faulty.items():
        section = value_at(value, path)
        try:
            if isinstance(section, dict):
                _checked(owner, {key: one for key, one in section.items() if key not in names}, reader)
        except ValidationError as exc:
            own = [detail for detail in exc.errors(include_url=False) if detail["type"] == MISFIT and not detail["loc"]]
            found += [replace(fault, path=path) for fault in faults_of(owner, own) if not names & set(fault.keys)]
    return found


def _at_key(fault: Fault, document: YamlDocument) -> Fault:
    """A contradiction, at the key of it that the file has: that one can be changed there."""
    key = next((key for key in fault.keys if has(document.value, (*fault.path, key))), None)
    return fault if key is None else replace(fault, path=(*fault.path, key))


def _completed(value: Any, reader: SecretReader) -> Any:
    """The document with what each account takes from elsewhere: the global rules, and the default sources of its secrets."""
    if not isinstance(value, dict) or not isinstance(value.get("accounts"), list):
        return value
    rules = value.get("rules", {})
    return value | {"accounts": [_completed_account(account, rules, reader) for account in value["accounts"]]}


def _completed_account(account: Any, rules: Any, reader: SecretReader) -> Any:
    if not isinstance(account, dict):
        return account
    found: dict[str, Any] = {}
    if _is_alias(account.get("name")):
        sources = {
            name: reader.default_source(account["name"], name) for name in ("api_key", "api_secret") if name not in account
        }
        found = {name: source for name, source in sources.items() if source}
    own_rules = account.get("rules", {})
    if isinstance(rules, dict) and isinstance(own_rules, dict):
        found["rules"] = _merged(rules, own_rules, depth=2)  # a mapping inside a rule (targets) is one value
    return account | found


def _with_sources(fault: Fault, document: YamlDocument) -> Fault:
    """A missing key of an account, with the names of all the places where it may be."""
    match fault:
        case Fault(path=("accounts", int(index), ("api_key" | "api_secret") as name), absent=True):
            alias = value_at(document.value, ("accounts", index, "name"))
            credential, variable = default_names(alias if _is_alias(alias) else "NAME", name)
            return replace(
                fault, hint=f"write {name}: {{file: /path}}, or give credential {credential} or environment {variable}"
            )
    return fault


def _is_inherited(fault: Fault, document: YamlDocument) -> bool:
    """True if the fault of an account's rules stands in the global rules, where it is told once."""
    path = fault.path[:-1] if fault.absent else fault.path
    of_account_rules = path[:1] == ("accounts",) and path[2:3] == ("rules",)
    elsewhere = bool(fault.keys) and path[-1] not in fault.keys  # no key of the contradiction stands here
    return of_account_rules and (elsewhere or not has(document.value, path))


def _is_alias(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(ALIAS, name) is not None


def _merged(base: Mapping[str, Any], over: Mapping[str, Any], depth: int = DEPTH_MAX) -> dict[str, Any]:
    """`over` written over `base`: mappings key by key down to `depth`, all else as a whole."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        deeper = depth > 1 and isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(below or {}, value, depth - 1) if deeper else value
    return merged


def _clash_faults(document: YamlDocument) -> list[Fault]:
    """Clashing names of accounts, looked for in the document: pydantic would tell them only when all else is right."""
    accounts = value_at(document.value, ("accounts",))
    names = [value_at(account, ("name",)) for account in accounts] if isinstance(accounts, list) else []
    return [
        Fault(("accounts", index, "name"), problem, "give each account a name of its own")
        for index, problem in name_clashes(names).items()
    ]
