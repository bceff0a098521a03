"""How settings say that they do not fit together, so that the error can name the key that is to be changed."""

from pydantic_core import PydanticCustomError

MISFIT = "misfit"  # type of the error


def misfit(problem: str, *keys: str) -> PydanticCustomError:
    """For a validator of a whole section: raise what it returns. keys: those of the section that contradict each other."""
    return PydanticCustomError(MISFIT, "{problem}", {"problem": problem, "keys": keys})
