"""YAML and JSON as plain data that remembers where each part stood.

What counts as YAML is version 1.2's core schema: `on`, `no` and `12:30` are text, `1e3` is a number and `true` a boolean. JSON
is a part of it. Refused, because each has surprised somebody: a key twice in one mapping, merge keys (`<<`), tags
(`!!python/...`), and keys that are no text. Aliases are allowed, and every use counts as if it were written out: ten lines that
unfold into a million values are refused, and so is a value that contains itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

__all__ = ["DEPTH_MAX", "DOCUMENT_CHARS_MAX", "VALUES_MAX", "Document", "Path", "Problem", "documents_of", "spelled", "yaml_of"]

DOCUMENT_CHARS_MAX: Final = 256 * 1024
"""Characters of a file: the library's largest pattern has a hundredth; the parser takes about 3 s for as many."""
VALUES_MAX: Final = 20_000
"""Values of a file, aliases written out: what the characters above hold, if each value has a dozen."""
DEPTH_MAX: Final = 150
"""Values inside values: the deepest condition in the deepest group needs 120."""

Path = tuple[str | int, ...]
"""Keys and indexes from the document's root."""

_PLAIN: Final = "plain"
_QUOTED: Final = "quoted"
_LIST: Final = "list"
_MAPPING: Final = "mapping"
_INT = re.compile(r"[-+]?[0-9]{1,400}\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,100}\Z|0o[0-7]{1,100}\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_JSON_ONLY = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_WORDS: Final[dict[str, bool | None]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong in a file.

    Attributes:
        line: From 1.
        column: From 1.
        path: Where in the data, as `pattern.stages[2].times.min`; empty for the whole.
        reason: What is wrong and what is allowed.
    """

    line: int
    column: int
    path: str
    reason: str

    def __str__(self) -> str:
        """Return `line:column: path: reason`."""
        return f"{self.line}:{self.column}: {f'{self.path}: ' if self.path else ''}{self.reason}"


def spelled(path: Path) -> str:
    """`path` in words: `stages[2].times.min`."""
    words = ""
    for part in path:
        words += f"[{part}]" if isinstance(part, int) else f".{part}" if words else part
    return words


@dataclass(slots=True)
class Document:
    """One document: its value, and where each part of it stands.

    Attributes:
        value: Mappings, lists, text, numbers, booleans and None.
        problems: What had to be refused; `value` is without it.
    """

    value: Any
    problems: list[Problem] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)
    _nodes: dict[Path, yaml.Node] = field(default_factory=dict)
    _keys: dict[Path, yaml.Node] = field(default_factory=dict)

    def find(self, path: Path) -> Path:
        """The longest beginning of `path` that the document has. A list of one that was written without the list has its 0."""
        found: Path = ()
        for part in path:
            if (*found, part) in self._nodes:
                found = (*found, part)
            elif part != 0:
                break
        return found

    def named(self, name: str, under: Path) -> Path | None:
        """The last mapping under `under` whose 'name' is `name`."""
        for path, node in reversed(self._nodes.items()):
            if path[-1:] == ("name",) and path[: len(under)] == under and node.value == name:
                return path[:-1]
        return None

    def problem_in_text(self, path: Path, reason: str, *, line: int, column: int) -> Problem:
        """`reason`, placed at `line` and `column` (from 1) of the text that stands at `path`."""
        place = self.find(path)
        node = self._nodes[place]
        start, end = node.start_mark, node.end_mark
        style = node.style if isinstance(node, yaml.ScalarNode) else None
        if style == "|":
            below = self._lines[start.line + 1 : end.line + 1]
            indent = next((len(text) - len(text.lstrip(" ")) for text in below if text.strip()), 0)
            return Problem(start.line + 1 + line, indent + column, spelled(path), reason)
        quote = 1 if style in {'"', "'"} else 0
        written = self._lines[start.line][start.column + quote : end.column - quote] if start.line == end.line else None
        if written == node.value:
            return Problem(start.line + 1, start.column + quote + column, spelled(path), reason)
        return Problem(start.line + 1, start.column + 1, spelled(path), f"column {column} of the text: {reason}")

    def empty(self, under: Path, keys: set[str]) -> list[Path]:
        """Where under `under` one of `keys` has no value."""
        inside = ((path, node) for path, node in self._nodes.items() if path[: len(under)] == under and path[-1:])
        return [path for path, node in inside if path[-1] in keys and node.tag == _PLAIN and _scalar(node.value) is None]

    def problem(self, path: Path, reason: str, *, at: Path | None = None, key: bool = False) -> Problem:
        """`reason`, placed at `path` (or at `at`): at its value, or at its key."""
        place = self.find(path if at is None else at)
        node = self._keys.get(place, self._nodes[place]) if key else self._nodes[place]
        return Problem(node.start_mark.line + 1, node.start_mark.column + 1, spelled(path), reason)


class _Loader(yaml.SafeLoader):
    """Composes nodes without deciding what a plain scalar is; never constructs anything."""

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> str:  # noqa: ANN401, ARG002 untyped there
        """Keep only what tells a plain scalar from a quoted one; any other tag was written out."""
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else _QUOTED
        return _LIST if kind is yaml.SequenceNode else _MAPPING


def documents_of(text: str) -> tuple[list[Document], list[Problem]]:
    """The documents of a file that are not empty, and what made the rest of it unreadable."""
    if len(text) > DOCUMENT_CHARS_MAX:
        return [], [Problem(1, 1, "", f"the file has {len(text)} characters, at most {DOCUMENT_CHARS_MAX} are allowed")]
    found: list[Document] = []
    try:
        loader = _Loader(_as_yaml(text))
        lines = re.split("\r\n|[\r\n\x85\u2028\u2029]", text)  # what the parser counts as lines
        while loader.check_node():
            node = loader.get_node()
            assert node is not None, "check_node said so"
            document = _Builder(lines).build(node)
            if document.value is not None or document.problems:
                found.append(document)
    except yaml.YAMLError as error:
        return found, [_no_yaml(error, text)]
    except RecursionError:
        return found, [Problem(1, 1, "", f"values nest deeper than {DEPTH_MAX}: make it flatter")]
    except _TooMuch as error:
        return found, [error.problem]
    return found, []


def _as_yaml(text: str) -> str:
    """JSON may be indented with tabs, which YAML forbids, and have characters in strings that YAML folds or forbids."""
    if text.lstrip()[:1] in {"{", "["}:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return text
        text = _JSON_ONLY.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\t", " "))
    return text


def _no_yaml(error: yaml.YAMLError, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:  # a character that YAML does not allow
        before = text[: getattr(error, "position", 0)]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return Problem(line, column, "", "no YAML: a control character; write it as an escape in double quotes")
    said = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)
    hint = "; indent with blanks, not with tabs" if "\\t" in said else ""
    hint = "; a text with ': ' in it stands in quotes" if "mapping values" in said else hint
    return Problem(mark.line + 1, mark.column + 1, "", f"no YAML: {f'{context}, ' if context else ''}{said}{hint}")


class _TooMuch(Exception):
    """Reading ends here."""

    def __init__(self, node: yaml.Node, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.problem = Problem(node.start_mark.line + 1, node.start_mark.column + 1, spelled(path[:10]), reason)


class _Builder:
    """Makes one document."""

    def __init__(self, lines: list[str]) -> None:
        self._document = Document(None, _lines=lines)
        self._values = 0

    def build(self, node: yaml.Node) -> Document:
        self._document.value = self._value(node, ())
        return self._document

    def _value(self, node: yaml.Node, path: Path) -> Any:  # noqa: ANN401 a JSON value
        self._values += 1
        if self._values > VALUES_MAX:
            raise _TooMuch(node, path, f"the file has more than {VALUES_MAX} values, aliases written out: make it smaller")
        if len(path) > DEPTH_MAX:
            raise _TooMuch(node, path, f"values nest deeper than {DEPTH_MAX}, or contain themselves: make it flatter")
        self._document._nodes[path] = node
        if node.tag not in {_PLAIN, _QUOTED, _LIST, _MAPPING}:
            self._refuse(node, path, "tags are not allowed: write the plain value, text that looks like a number in quotes")
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node.value, path)
        if node.tag != _PLAIN:
            return _joined(node.value)
        return _scalar(node.value)

    def _mapping(self, pairs: Sequence[tuple[yaml.Node, yaml.Node]], path: Path) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key_node, value_node in pairs:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or (key_node.tag == _PLAIN and not isinstance(_scalar(key), str)):
                self._refuse(key_node, path, "a key is text: put it in quotes")
            elif key == "<<" and key_node.tag == _PLAIN:
                self._refuse(key_node, path, "merge keys ('<<') are not allowed: write the keys out, or alias the whole value")
            elif key in value:
                first = self._document._keys[*path, key].start_mark.line + 1
                self._refuse(key_node, (*path, key), f"{key!r} is here twice, the first time in line {first}: take one away")
            else:
                self._document._keys[*path, key] = key_node
                value[key] = self._value(value_node, (*path, key))
        return value

    def _refuse(self, node: yaml.Node, path: Path, reason: str) -> None:
        mark = node.start_mark
        self._document.problems.append(Problem(mark.line + 1, mark.column + 1, spelled(path), reason))


def _scalar(text: str) -> str | int | float | bool | None:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    if _HEX.match(text):
        return int(text, 0)
    if _FLOAT.match(text):
        return float(text)
    if _NOT_FINITE.match(text):
        return float(text.replace(".", "", 1))
    return text


def _joined(text: str) -> str:
    """JSON writes characters beyond 16 bits as two escapes, which the parser leaves apart."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class _Dumper(yaml.SafeDumper):
    """Writes what `documents_of` reads."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # YAML 1.1, which the library writes, takes some texts for plain that are numbers in 1.2
    style = "'" if not isinstance(_scalar(text), str) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def yaml_of(data: Any) -> str:  # noqa: ANN401 a JSON value
    """`data` as YAML, in the order of its keys; `documents_of` reads the same value."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
