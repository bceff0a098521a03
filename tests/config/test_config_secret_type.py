"""A secret shows itself only to who asks by name."""

from __future__ import annotations

import copy
import json
import pickle
import traceback

import orjson
import pytest
from pydantic import BaseModel, ValidationError

from monitor.model.secret import READER, Secret

CANARY = "canary-5d1e"


class _Holder(BaseModel, frozen=True):
    secret: Secret
    maybe: Secret | None = None


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        lambda secret: f"{secret}",
        lambda secret: f"{secret!r:>40}",
        lambda secret: f"{secret:>40}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
        lambda secret: repr([secret, {"a": secret}]),
        lambda secret: repr(_Holder(secret=secret)),
        lambda secret: _Holder(secret=secret, maybe=secret).model_dump_json(),
        lambda secret: str(_Holder(secret=secret).model_dump()),
        lambda secret: json.dumps(secret, default=str),
        lambda secret: orjson.dumps(secret, default=repr).decode(),
        lambda secret: str(ValueError(secret)),
    ],
)
def test_it_is_shown_as_stars(show: object) -> None:
    shown = show(Secret(CANARY))  # type: ignore[operator]
    assert "***" in shown
    assert CANARY not in shown


def test_its_text_is_given_to_who_asks() -> None:
    assert Secret(CANARY).reveal() == CANARY


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret(CANARY), protocol)


def test_it_has_no_attributes_to_look_into() -> None:
    secret = Secret(CANARY)
    with pytest.raises(TypeError):
        vars(secret)
    with pytest.raises(AttributeError):
        secret._text = "x"
    with pytest.raises(AttributeError):
        del secret._text


def test_equality_is_that_of_the_texts() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("ä") == Secret("ä")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert not Secret("")


def test_copies_are_the_same_secret() -> None:
    holder = _Holder(secret=Secret(CANARY))
    assert copy.copy(holder.secret) is copy.deepcopy(holder.secret) is holder.secret
    assert holder.model_copy(deep=True) == holder


@pytest.mark.parametrize("value", [5, None, ["x"], {"file": "x"}, b"x"])
def test_only_a_text_is_one(value: object) -> None:
    with pytest.raises(ValidationError, match="a secret is a text"):
        _Holder.model_validate({"secret": value})


def test_a_reader_sees_what_is_written() -> None:
    seen: list[object] = []

    def reader(value: object) -> Secret:
        seen.append(value)
        return Secret("read")

    holder = _Holder.model_validate_json('{"secret": {"file": "x"}, "maybe": null}', context={READER: reader})
    assert holder == _Holder(secret=Secret("read"))
    assert seen == [{"file": "x"}]


def test_a_traceback_of_its_misuse_has_no_text() -> None:
    try:
        Secret(CANARY) + 1  # type: ignore[operator]
    except TypeError:
        assert CANARY not in traceback.format_exc()
    else:
        pytest.fail("a secret is no text to calculate with")
