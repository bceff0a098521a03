"""The configuration's own documentation, made of its models: the JSON Schema for editors, and the example with every key.

So neither can disagree with what `load` accepts, and a description is written once.
"""

from __future__ import annotations

import json
import re
import textwrap
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from monitor.config_model import AccountConfig, Config
from monitor.model.secret import Secret
from monitor.rules import RuleBook

WIDTH = 110

HEAD = """\
# yaml-language-server: $schema=schema.json
# margin-monitor: every key, with its default. Copy what you change; a key that is left out has the default shown here.
# This is a whole configuration, for one real account:
#
#accounts:
#  - name: main
#    venue: binance_usdm
#    api_key: {file: secrets/main_api_key}
#    api_secret: {file: secrets/main_api_secret}
#alerts:
#  channels:
#    - kind: slack
#      name: desk
#      webhook_url: {file: secrets/desk_webhook_url}
#
# Secrets stand in files that only their owner can read (chmod 600); relative paths start at this file. Other sources are
# {env: NAME}, and {credential: name} for systemd's LoadCredential=. A text in this file itself is taken if its mode is 0600.
# Units are in the names or the descriptions; a rate or a share is a fraction: 5 % is 0.05.
# A line that begins with # and no space after it is a setting that is not in force; delete the # to use it.
"""

# What stands for a value that has no default.
_EXAMPLES: dict[str, Any] = {
    "accounts.name": "main",
    "accounts.venue": "binance_usdm",
    "accounts.api_key": {"file": "secrets/main_api_key"},
    "accounts.api_secret": {"file": "secrets/main_api_secret"},
    "channels.slack.name": "desk",
    "channels.slack.webhook_url": {"file": "secrets/desk_webhook_url"},
    "channels.telegram.name": "phone",
    "channels.telegram.bot_token": {"file": "secrets/phone_bot_token"},
    "channels.telegram.chat_id": "123456789",
    "channels.webhook.name": "pager",
    "channels.webhook.url": {"file": "secrets/pager_url"},
    "channels.alertmanager.name": "site",
    "channels.alertmanager.url": {"file": "secrets/site_url"},
    "channels.pagerduty.name": "oncall",
    "channels.pagerduty.routing_key": {"file": "secrets/oncall_routing_key"},
    "routes.channels": ["phone"],
}


def schema_text() -> str:
    """The text of `config/schema.json`."""
    return json.dumps(json_schema(), ensure_ascii=False, indent=1) + "\n"


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the YAML file, for completion and checks in an editor."""
    schema: dict[str, Any] = _with_secret_sources(Config.model_json_schema())
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
    schema["$defs"]["SecretSource"] = _SECRET_SOURCE
    account = schema["$defs"][AccountConfig.__name__]
    account["required"] = [
        name for name in account["required"] if name not in {"api_key", "api_secret"}
    ]  # they have default sources
    return schema


_SECRET_SOURCE = {
    "description": "Where a secret is kept: a file with mode 0600, an environment variable, or a systemd credential.",
    "oneOf": [
        {
            "type": "object",
            "properties": {kind: {"type": "string", "minLength": 1}},
            "required": [kind],
            "additionalProperties": False,
        }
        for kind in ("file", "env", "credential")
    ]
    + [{"type": "string", "description": "the secret itself, if the configuration's own mode is 0600"}],
}


def _with_secret_sources(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_with_secret_sources(element) for element in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "password":
        kept = {key: schema[key] for key in ("title", "description") if key in schema}
        return kept | {"$ref": "#/$defs/SecretSource"}
    return {key: _with_secret_sources(value) for key, value in schema.items()}


def example_yaml() -> str:
    """The text of `config/example.yaml`."""
    return HEAD + "\n".join(_section(Config, "", "")) + "\n"


def _section(model: type[BaseModel], indent: str, where: str) -> Iterator[str]:
    """The lines of all fields of a model."""
    for name, field in model.model_fields.items():
        if not indent:
            yield ""
        yield from _comment(field, indent)
        yield from _field(name, field, indent, where)


def _field(name: str, field: FieldInfo, indent: str, where: str) -> Iterator[str]:
    models = _models(field.annotation)
    key = f"{where}.{name}".removeprefix(".")
    if field.annotation is RuleBook and where:
        yield f"{indent}{name}: {{}}"  # its keys are those of the global rules
    elif len(models) == 1 and _is_model(field.annotation):
        yield f"{indent}{name}:"
        yield from _section(models[0], indent + "  ", key)
    elif models:
        yield f"{indent}{name}:" + ("" if name == "accounts" else " []  # without [] once it has elements")
        for model in models:
            yield from _element(model, indent + "  ", name, in_force=name == "accounts")
    else:
        default = _EXAMPLES[key] if field.is_required() else field.get_default(call_default_factory=True)
        yield f"{indent}{name}: {flow(default)}"


def _element(model: type[BaseModel], indent: str, where: str, *, in_force: bool) -> Iterator[str]:
    """One element of a list of models, as settings, or as comments where having none is the default."""
    kind = next((get_args(field.annotation)[0] for field in model.model_fields.values() if _is_tag(field)), "")
    place = f"{where}.{kind}" if kind else where
    yield from _wrapped(_first_line(model), indent) if not in_force else ()
    fields = sorted(model.model_fields.items(), key=lambda item: not _is_tag(item[1]))  # what kind of element it is comes first
    dash = "- "
    for name, field in fields:
        yield from _comment(field, indent + "  ")
        for line in _field(name, field, "", place):
            if in_force:
                yield f"{indent}{dash}{line}"
            else:
                yield f"{indent}#{dash}{line}" if dash.strip() else f"{indent}  #{line}"
            dash = "  "


def _comment(field: FieldInfo, indent: str) -> Iterator[str]:
    text = field.description or (_first_line(field.annotation) if _is_model(field.annotation) else "")
    yield from _wrapped(text, indent)


def _wrapped(text: str, indent: str) -> Iterator[str]:
    yield from textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_on_hyphens=False)


def _first_line(model: Any) -> str:
    return str(model.__doc__ or "").strip().split("\n")[0]


def flow(value: Any) -> str:
    """A value on one line, in YAML that is also what people write."""
    match value:
        case None | bool() | int() | float():
            return json.dumps(value)
        case str():
            plain = re.fullmatch(r"[A-Za-z][\w./-]*", value) and value.lower() not in {
                "null",
                "true",
                "false",
                "yes",
                "no",
                "on",
                "off",
            }
            return value if plain else json.dumps(value, ensure_ascii=False)
        case dict():
            return "{" + ", ".join(f"{flow(key)}: {flow(element)}" for key, element in value.items()) + "}"
        case tuple() | list():
            return "[" + ", ".join(map(flow, value)) + "]"
    raise TypeError(f"no YAML for {type(value).__name__}")


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_tag(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1 and not field.is_required()


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in a type: itself, or the elements of a list of models, whatever the union."""
    if _is_model(annotation):
        return [annotation]
    if annotation is Secret or annotation is None:
        return []
    if hasattr(annotation, "__metadata__"):
        return _models(annotation.__origin__)
    if get_origin(annotation) in {tuple, list, Union, types.UnionType}:
        return [model for argument in get_args(annotation) for model in _models(argument)]
    return []
