"""Which pattern is meant: a name on the patterns topic, a version of it, or a file.

flaky           the version that runs
flaky@17        version 17, as long as the patterns topic holds it
flaky.yaml      the definition in a file; with several in it, flaky.yaml#name
-               the same on standard input; -#name
17              version 17 of the pattern that it is compared with
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from processors.core.cep.loading import load_definitions
from processors.patterns.store import PatternMissing
from schemas.errors import AntiphonError, Fault

if TYPE_CHECKING:
    from processors.core.cep.model import Definition
    from processors.patterns.store import PatternStore, StoredPattern

__all__ = ["ChoiceError", "Chosen", "NotThere", "choose", "content_of", "is_file"]

STDIN: Final = "-"

SUFFIXES: Final = (".yaml", ".yml", ".json")
"""What makes a word a file even where there is none, so that a mistyped one is not looked up as a pattern."""


class ChoiceError(AntiphonError):
    """What was named is no definition that can be tried; the message says what there is instead."""

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "caller"


class NotThere(ChoiceError):
    """A file or a topic that was named does not exist."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A definition, and where it is from.

    Attributes:
        label: What to call it: name@version, or the file.
        definition: It.
        version: On the patterns topic; None for a file.
        file: Where it is; None for one on the patterns topic.
    """

    label: str
    definition: Definition
    version: int | None = None
    file: str | None = None


def is_file(word: str) -> bool:
    """Whether a word means a file: it has a file's ending, a directory, is the name of one that there is, or "-"."""
    path, _, _ = word.partition("#")
    return path == STDIN or path.endswith(SUFFIXES) or "/" in path or (not word.isdigit() and Path(path).is_file())


def content_of(path: str) -> str:
    """Return what is in a file, or on standard input for "-".

    Raises:
        NotThere: No such file.
        ChoiceError: It cannot be read, or is no text.
    """
    try:
        return sys.stdin.read() if path == STDIN else Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotThere(f"{path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise ChoiceError(f"{path}: no UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise ChoiceError(f"{path}: {error.strerror}") from None


def choose(word: str, store: Callable[[], PatternStore], *, of: str | None = None, to_read: bool = True) -> Chosen:
    """Return the definition that a word means.

    Args:
        word: See the module.
        store: Gives the patterns topic, where it has to be asked.
        of: The pattern of which a bare number is a version; None where a number means nothing.
        to_read: Whether it has to name topics.

    Raises:
        PatternMissing: No such pattern or version.
        NotThere: No such file, or no such definition in it.
        ChoiceError: Several definitions in it, no topic, or nothing that runs.
        DefinitionError: The file has mistakes.
        BrokerError: The broker does not answer or refuses.
    """
    chosen = _from_file(word) if is_file(word) else _from_topic(word, store(), of)
    if to_read and not chosen.definition.topics:
        raise ChoiceError(f"{chosen.label}: pattern {chosen.definition.name!r} names no topic to read: give it `topics: [...]`")
    return chosen


def _from_file(word: str) -> Chosen:
    path, _, name = word.partition("#")
    found = {one.name: one for one in load_definitions(content_of(path), path)}
    if name and name not in found:
        raise NotThere(f"{path}: no pattern in it is called {name!r}; there are {', '.join(found)}")
    if not name and len(found) > 1:
        first = next(iter(found))
        raise ChoiceError(f"{path} holds {len(found)} patterns: choose one, as in {path}#{first}; there are {', '.join(found)}")
    return Chosen(word, found[name] if name else next(iter(found.values())), file=path)


def _from_topic(word: str, store: PatternStore, of: str | None) -> Chosen:
    name, _, number = (of, "", word) if of is not None and word.isdigit() else word.partition("@")
    known = store.list()
    stored = known.get(name)
    if stored is None:
        there = ", ".join(known) or "none"
        hint = "a file's name ends in .yaml or .json"
        raise PatternMissing(f"no pattern is called {name!r} on {store.topic}, there are: {there}; {hint}")
    if not number:
        if stored.definition is None:
            raise ChoiceError(f"pattern {name!r} has no definition that is taken ({stored.problem}): publish it again")
        return Chosen(f"{name}@{stored.version}", stored.definition, stored.version)
    return _version(stored, number)


def _version(stored: StoredPattern, number: str) -> Chosen:
    history = dict(stored.history)
    if not number.isdigit() or int(number) not in history:
        there = ", ".join(map(str, history)) or "none"
        why = "compaction removes older ones in time"
        raise PatternMissing(f"pattern {stored.name!r} has no version {number} on its topic, there are: {there} ({why})")
    return Chosen(f"{stored.name}@{number}", history[int(number)], int(number))
