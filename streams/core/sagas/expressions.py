"""Expressions over a saga's data: `flight.price <= input.limit and not (input.city in ['Ulm', 'Bonn'])`.

::

    input.city   flight.seats[0].row   item['a b']       a path: what is missing on the way is null, never an error
    'text'  "text"  42  -1.5  1e3  true  false  null     literals, and lists of anything: [1, 'a', item]
    ==  !=                                               of any two values; 1 and true differ
    <  <=  >  >=                                         of two numbers or two texts; of anything else: false
    x in y    x not in y                                 an item of a list, a key of a mapping, a part of a text; else: false
    and  or  not   ( )                                   only true is true
    size(x)                                              of a list, mapping or text; of anything else: null

There is no arithmetic and there are no functions of one's own: what computes belongs into a handler, whose answer is on the log.
So an expression always has a value, the same for the same data, and takes time by its length alone.

The parser is a recursive descent over these rules (or > and > not > comparison > value); each rule makes a closure, so that
evaluation is a few calls. Nothing of Python's own evaluation is involved.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from schemas.errors import AntiphonError, Fault
from streams.core.sagas.limits import EXPRESSION_CHARS_MAX, EXPRESSION_DEPTH_MAX

__all__ = ["BadExpression", "Expression", "Json", "Read", "Scope", "Value", "compile_expression", "is_true"]

Json = Any
Scope = Mapping[str, Json]
"""The values of the names."""
Read = tuple[str | int, ...]
"""A path that is read: name, then keys and indexes."""
Value = Callable[[Scope], Json]
"""What an expression became."""

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>-?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][-+]?[0-9]{1,3})?(?![A-Za-z0-9_.]))|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<text>'[^']*'|\"[^\"]*\")|(?P<sign>==|!=|<=|>=|<|>|\(|\)|\[|\]|,|\.))"
)
_LITERALS: Final[Mapping[str, Json]] = {"true": True, "false": False, "null": None}
_KEYWORDS: Final = frozenset({"and", "or", "not", "in", *_LITERALS})
_INSTEAD: Final[Mapping[str, str]] = {
    "=": "write '==' to compare",
    "&": "write 'and'",
    "|": "write 'or'",
    "!": "write 'not', or '!='",
    "+": "there is no arithmetic: let a handler compute it",
    "-": "there is no arithmetic: let a handler compute it",
    "*": "there is no arithmetic: let a handler compute it",
    "/": "there is no arithmetic: let a handler compute it",
    "%": "there is no arithmetic: let a handler compute it",
    "'": "the text does not end: a ' is missing",
    '"': 'the text does not end: a " is missing',
    "$": "write the name alone, without '$'",
    "{": "a mapping is no expression: write it as a template",
}
_ALLOWED: Final = "allowed are paths, literals, == != < <= > >= in, and or not, size() and parentheses"


class BadExpression(AntiphonError, ValueError):
    """An expression of a saga that cannot mean anything: correct it as the message says.

    Attributes:
        reason: What is wrong, and what is allowed.
        column: Where in the text, from 1.
    """

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "caller"

    def __init__(self, reason: str, column: int = 1) -> None:
        """`column` counts from 1."""
        self.reason = reason
        self.column = column
        super().__init__(f"{reason} (column {column})")


@dataclass(frozen=True, slots=True)
class Expression:
    """A text that was understood.

    Attributes:
        text: As it was written.
        value: Its value over a scope.
        reads: Every path in it, in order, each with its column.
    """

    text: str
    value: Callable[[Scope], Json] = field(compare=False)
    reads: tuple[tuple[Read, int], ...]


def is_true(value: Json) -> bool:
    """Whether a condition with this value holds: only true is true."""
    return value is True


def compile_expression(text: str) -> Expression:
    """Understand `text`.

    Raises:
        BadExpression: It is none.
    """
    if not isinstance(text, str):
        raise BadExpression("an expression is text")
    if len(text) > EXPRESSION_CHARS_MAX:
        raise BadExpression(f"the expression has {len(text)} characters, at most {EXPRESSION_CHARS_MAX} are allowed")
    parser = _Parser(text)
    value = parser.whole()
    return Expression(text, value, tuple(parser.reads))


class _Parser:
    """One reading of a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        self.reads: list[tuple[Read, int]] = []
        self._at = 0
        self._kind = self._said = ""
        self._next = 0
        self._advance()

    def whole(self) -> Value:
        if self._kind == "end":
            raise BadExpression(f"the expression is empty; {_ALLOWED}")
        value = self._or()
        if self._kind != "end":
            raise self._wrong(f"{self._said!r} is not expected here; {_ALLOWED}")
        return value

    def _advance(self) -> None:
        match = _TOKEN.match(self._text, self._next)
        if match is None:
            rest = self._text[self._next :]
            self._at = len(self._text) - len(rest.lstrip())
            if rest.strip():
                letter = self._text[self._at]
                raise self._wrong(_INSTEAD.get(letter, f"{letter!r} is not expected here; {_ALLOWED}"))
            self._kind, self._said = "end", ""
            return
        self._kind = match.lastgroup or "sign"
        self._said, self._at, self._next = match[self._kind], match.start(self._kind), match.end()

    def _wrong(self, reason: str, at: int | None = None) -> BadExpression:
        return BadExpression(reason, (self._at if at is None else at) + 1)

    def _take(self, *tokens: str) -> str:
        """The token, if it is one of `tokens`, which is then passed; else nothing."""
        token = self._said
        if self._kind in {"word", "sign"} and token in tokens:
            self._advance()
            return token
        return ""

    def _expect(self, token: str, why: str) -> None:
        if not self._take(token):
            raise self._wrong(f"a {token!r} is missing: {why}")

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > EXPRESSION_DEPTH_MAX:
            raise self._wrong(f"the expression nests deeper than {EXPRESSION_DEPTH_MAX}: make it flatter")

    def _or(self) -> Value:
        self._deeper()
        values = [self._and()]
        while self._take("or"):
            values.append(self._and())
        self._depth -= 1
        if len(values) == 1:
            return values[0]
        several = tuple(values)
        return lambda scope: any(value(scope) is True for value in several)

    def _and(self) -> Value:
        values = [self._not()]
        while self._take("and"):
            values.append(self._not())
        if len(values) == 1:
            return values[0]
        several = tuple(values)
        return lambda scope: all(value(scope) is True for value in several)

    def _not(self) -> Value:
        if not self._take("not"):
            return self._compared()
        self._deeper()
        value = self._not()
        self._depth -= 1
        return lambda scope: value(scope) is not True

    def _compared(self) -> Value:
        left = self._value()
        negated = bool(self._take("not"))
        if negated and self._said != "in":
            raise self._wrong("behind a value, 'not' is only followed by 'in'")
        sign = self._take("==", "!=", "<", "<=", ">", ">=", "in")
        if not sign:
            return left
        right = self._value()
        if self._said in _COMPARING and self._kind in {"sign", "word"}:
            raise self._wrong("compare two values at a time: 'a < b and b < c'")
        compare = _COMPARING[sign]
        if negated:
            return lambda scope: not compare(left(scope), right(scope))
        return lambda scope: compare(left(scope), right(scope))

    def _value(self) -> Value:
        kind, token, at = self._kind, self._said, self._at
        if kind == "number":
            self._advance()
            number = int(token) if re.fullmatch(r"-?\d+", token) else float(token)
            if abs(number) >= float("inf"):
                raise self._wrong(f"{token} is too large", at)
            return lambda _scope: number
        if kind == "text":
            self._advance()
            text = token[1:-1]
            return lambda _scope: text
        if kind == "word":
            return self._word(token, at)
        if self._take("("):
            value = self._or()
            self._expect(")", "it closes what '(' opened")
            return value
        if self._take("["):
            return self._list()
        found = "the expression ends too early" if kind == "end" else f"{token!r} is not expected here"
        raise self._wrong(f"{found}; {_ALLOWED}", at)

    def _list(self) -> Value:
        values: list[Value] = []
        while not self._take("]"):
            if values:
                self._expect(",", "it stands between the items of a list, and ']' behind them")
            values.append(self._or())
        several = tuple(values)
        return lambda scope: [value(scope) for value in several]

    def _word(self, word: str, at: int) -> Value:
        self._advance()
        if word in _LITERALS:
            literal = _LITERALS[word]
            return lambda _scope: literal
        if word in _KEYWORDS:
            raise self._wrong(f"{word!r} is not expected here; {_ALLOWED}", at)
        if self._said == "(" and self._kind == "sign":
            if word != "size":
                raise self._wrong(f"there is no function {word!r}, only size(): let a handler compute it", at)
            self._advance()
            value = self._or()
            self._expect(")", "it closes what '(' opened")
            return lambda scope: _size(value(scope))
        path = (word, *self._keys())
        self.reads.append((path, at + 1))
        return _reader(path)

    def _keys(self) -> list[str | int]:
        keys: list[str | int] = []
        while True:
            if self._take("."):
                if self._kind != "word":
                    raise self._wrong("a name is missing behind '.': names that are no words stand in ['...']")
                keys.append(self._said)
                self._advance()
            elif self._take("["):
                if self._kind == "text":
                    keys.append(self._said[1:-1])
                elif self._kind == "number" and self._said.isdigit():
                    keys.append(int(self._said))
                else:
                    raise self._wrong("in brackets stands a whole number from 0, or a key in quotes")
                self._advance()
                self._expect("]", "it closes what '[' opened")
            else:
                return keys


def _reader(path: Read) -> Value:
    name, keys = path[0], path[1:]
    assert isinstance(name, str), "a path begins with a name"
    if not keys:
        return lambda scope: scope.get(name)
    if len(keys) == 1 and isinstance(keys[0], str):
        key = keys[0]

        def one(scope: Scope) -> Json:
            value = scope.get(name)
            return value.get(key) if isinstance(value, dict) else None

        return one

    def several(scope: Scope) -> Json:
        value = scope.get(name)
        for key in keys:
            if isinstance(key, str):
                value = value.get(key) if isinstance(value, dict) else None
            else:
                value = value[key] if isinstance(value, list) and key < len(value) else None
        return value

    return several


def _equal(left: Json, right: Json) -> bool:
    pairs = [(left, right)]  # no recursion: data may nest deeper than Python's calls
    while pairs:
        one, other = pairs.pop()
        if isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            pairs += zip(one, other, strict=True)
        elif isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            pairs += [(value, other[key]) for key, value in one.items()]
        elif isinstance(one, bool) or isinstance(other, bool):
            if one is not other:
                return False
        elif one != other:
            return False
    return True


def _ordered(left: Json, right: Json) -> bool:
    if isinstance(left, str) or isinstance(right, str):
        return isinstance(left, str) and isinstance(right, str)
    return _is_number(left) and _is_number(right)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _in(left: Json, right: Json) -> bool:
    if isinstance(right, list):
        return any(_equal(left, one) for one in right)
    return isinstance(left, str) and isinstance(right, dict | str) and left in right


def _size(value: Json) -> int | None:
    return len(value) if isinstance(value, list | dict | str) else None


_COMPARING: Final[Mapping[str, Callable[[Json, Json], bool]]] = {
    "==": _equal,
    "!=": lambda left, right: not _equal(left, right),
    "<": lambda left, right: _ordered(left, right) and left < right,
    "<=": lambda left, right: _ordered(left, right) and left <= right,
    ">": lambda left, right: _ordered(left, right) and left > right,
    ">=": lambda left, right: _ordered(left, right) and left >= right,
    "in": _in,
}
