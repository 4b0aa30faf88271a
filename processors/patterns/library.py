"""Ready patterns for fleets of agents: YAML files beside this module, to publish as they are or to adapt.

    antiphon cep library                              what there is
    antiphon cep library stuck-agent > mine.yaml      one of them, with comments on what to adapt
    antiphon cep publish mine.yaml

They read the events of `schemas.work` and `schemas.fleet`; another fleet's events will do as well where they have the same types
and fields.
"""

from __future__ import annotations

from importlib.resources import files
from typing import ClassVar, Final

from processors.core.cep.loading import load_definition
from processors.core.cep.model import Definition
from schemas.errors import AntiphonError, Fault

__all__ = ["LibraryMissing", "load", "names", "text"]

_FILES: Final = files("processors") / "patterns" / "library"
_SUFFIX: Final = ".yaml"


class LibraryMissing(AntiphonError, KeyError):
    """No pattern of the library has this name; the message lists those there are."""

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "caller"

    def __str__(self) -> str:
        """The message as it is: a `KeyError` would quote it."""
        return str(self.args[0])


def names() -> list[str]:
    """Return the names of all patterns of the library, sorted."""
    return sorted(one.name.removesuffix(_SUFFIX) for one in _FILES.iterdir() if one.name.endswith(_SUFFIX))


def text(name: str) -> str:
    """Return a pattern as its file has it, comments included.

    Raises:
        LibraryMissing: There is none of this name.
    """
    known = names()
    if name not in known:
        raise LibraryMissing(f"the library has no pattern {name!r}; there are {', '.join(known)}")
    return (_FILES / (name + _SUFFIX)).read_text(encoding="utf-8")


def load(name: str) -> Definition:
    """Return a pattern of the library, ready to run.

    Raises:
        LibraryMissing: There is none of this name.
    """
    return load_definition(text(name), name + _SUFFIX)
