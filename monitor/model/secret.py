"""A text that must never be shown: an API key, an API secret, a token, a webhook address that is itself a password."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, NoReturn, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import GetCoreSchemaHandler, ValidationInfo
    from pydantic_core import CoreSchema

HIDDEN = "***"
READER = "secret_reader"  # key of the validation context


@final
class Secret:
    """Holds a text and shows it only to who asks by name: `secret.reveal()`.

    `repr`, `str`, `format` and JSON show `***`, whatever the length of the text, and so does anything that prints an object which
    contains it. Pickling is refused. Equality and hashing work on the text, so that a reloaded configuration can be compared.

    As a field of a pydantic model it accepts a `Secret` or a `str`. Who reads a file of settings passes a reader of its own as
    `model_validate(..., context={READER: reader})`. The reader gets what stands in the file (a text, or where the text is kept),
    returns the `Secret`, and refuses with a `PydanticCustomError`.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a secret is a text, not {type(text).__name__}")  # the type only: the value may be the secret
        object.__setattr__(self, "_text", text)

    def reveal(self) -> str:
        """The text itself. Call it where the text is used (signing, a header), not where it is passed on."""
        text: str = object.__getattribute__(self, "_text")
        return text

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a secret does not change")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a secret does not change")

    def __repr__(self) -> str:
        return f"Secret({HIDDEN!r})"

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.reveal().encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash((Secret, self.reveal()))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled: it would be readable in the file")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret is not pickled: it would be readable in the file")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema as schemas  # noqa: PLC0415  model stays free of pydantic until a model asks

        return schemas.with_info_plain_validator_function(
            cls._validated,
            serialization=schemas.plain_serializer_function_ser_schema(str, return_schema=schemas.str_schema()),
            json_schema_input_schema=schemas.str_schema(
                metadata={"pydantic_js_extra": {"format": "password", "writeOnly": True}}
            ),
        )

    @classmethod
    def _validated(cls, value: object, info: ValidationInfo) -> Secret:
        if isinstance(value, Secret):
            return value
        reader: Callable[[object], Secret] | None = (info.context or {}).get(READER)
        if reader is not None:
            return reader(value)
        if isinstance(value, str):
            return cls(value)
        raise ValueError(f"a secret is a text, not {type(value).__name__}")
