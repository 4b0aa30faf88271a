"""Conditions as people write them: `type == 'tool.failed' and price > last(failed.price)`.

::

    price   'text'   42   1e3   true   false   null   ts      a field, literals, the event's time
    field('a name with blanks')                               a field whose name is no word
    ==  !=  <  <=  >  >=   x in ['a', 'b']   x not in [1, 2]  comparisons; of two values, so `a < b and b < c`
    and  or  not   +  -  *  /  %   -x  abs(x)  ( )            as in Python; `%` is `mod`
    contains(x, 'part')   starts_with(x, 'beginning')         strings
    count(stage)   sum(stage.field)   avg min max first last  over the events that the stage has taken
    last(stage.field, 0)                                      with what it is while nothing was taken
    last(stage='a name', field='a field', default=0)          with names that are no words

The text is read with Python's own parser, nothing but what stands above is let through, and nothing is ever run. `from_text`
and `to_text` are each other's inverse: trees with no usual spelling have a function's (`add(a, b, c)`, `all(a)`, `neg(1)`).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from difflib import get_close_matches
from keyword import iskeyword
from typing import Final, cast

from processors.core.cep.expressions import (
    AGGREGATES,
    Agg,
    Const,
    Expr,
    ExpressionError,
    Field,
    Op,
    Scalar,
    Ts,
    from_data,
    to_data,
)
from processors.core.cep.limits import NODES_MAX, OPERATORS_DEPTH_MAX, TEXT_CHARS_MAX

__all__ = ["from_text", "to_text"]

_COMPARE: Final[Mapping[type[ast.cmpop], str]] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.In: "in", ast.NotIn: "in",
}  # fmt: skip
_BINARY: Final[Mapping[type[ast.operator], str]] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Mod: "mod",
}  # fmt: skip
_CALLS: Final[Mapping[str, str]] = {
    "contains": "contains", "starts_with": "starts_with", "abs": "abs", "neg": "neg", "mod": "mod", "add": "+", "subtract": "-",
    "multiply": "*", "divide": "/", "all": "and", "any": "or",
}  # fmt: skip
_NAMED: Final[Mapping[str, Scalar]] = {"true": True, "false": False, "null": None}
_FUNCTIONS: Final = (*AGGREGATES, "contains", "starts_with", "abs", "field")
_LITERALS: Final = "a literal is a number, a string in quotes, true, false or null"
_ALLOWED: Final = (
    "allowed are fields, literals, == != < <= > >= in, and or not, + - * / %, contains(), starts_with(), abs() and"
    " the aggregates count() sum() avg() min() max() first() last()"
)
_INSTEAD: Final[Mapping[type[ast.AST], str]] = {
    ast.IfExp: "'if' and 'else' are not allowed: use 'and' and 'or'",
    ast.Subscript: "fields of fields are not supported: brackets only hold the list of 'in'",
    ast.JoinedStr: "strings are plain: take away the f in front",
    ast.Lambda: "a condition is data: no functions of your own",
    ast.NamedExpr: "compare with '==', not ':='",
    ast.Tuple: "one condition is wanted, and there are several, or a comma too many; join them with 'and'",
    ast.List: "a list stands only behind 'in'",
    ast.Set: "write the list of 'in' in brackets: ['a', 'b']",
    ast.Dict: "the data form ({...}) cannot be mixed with text",
}
_TYPOS: Final = (("&&", "and"), ("||", "or"), ("<>", "!="), ("=~", "contains()"), ("!", "not"), ("=", "=="))


def from_text(text: str) -> Expr:
    """The tree of a condition.

    Raises:
        ExpressionError: With line and column in `text`, what is wrong and what is allowed.
    """
    if len(text) > TEXT_CHARS_MAX:
        raise ExpressionError(f"the condition has {len(text)} characters, at most {TEXT_CHARS_MAX} are allowed")
    reader = _TextReader(text)
    return reader.read(reader.parse(), 1)


class _TextReader:
    """One reading; knows where in the text each node stands."""

    def __init__(self, text: str) -> None:
        self._text = text
        flat = text.translate({10: " ", 13: " ", 9: " ", 12: " "})  # one line: YAML folds and wraps as it likes
        self._source = flat.strip()
        self._offset = len(flat) - len(flat.lstrip())
        self._nodes = 0

    def parse(self) -> ast.expr:
        """Python's tree of the text."""
        if not self._source:
            raise ExpressionError("the condition is empty: leave the key away to take every event", column=1)
        try:
            body = ast.parse(self._source, mode="eval").body
        except SyntaxError as error:
            ended = not error.offset and error.msg == "invalid syntax"
            at = len(self._source) if ended else (error.offset or 1) - 1
            raise self._error_at(at, self._no_syntax(error, at)) from None
        except (ValueError, RecursionError, MemoryError):
            raise ExpressionError("no expression: unreadable characters, or parentheses too deep", column=1) from None
        rest = self._source.encode()[body.end_col_offset or 0 :].decode()
        if rest.strip(" )"):
            raise self._error_at(len(self._source) - len(rest.lstrip(" )")), "comments are not allowed in a condition")
        return body

    def _no_syntax(self, error: SyntaxError, at: int) -> str:
        if at == len(self._source):
            return f"the condition ends too early; {_ALLOWED}"
        near = self._source[max(0, at - 1) : at + 2]
        for typo, instead in _TYPOS:
            if typo in near and (typo != "=" or "==" not in near):
                return f"write {instead!r}, not {typo!r}"
        if "digits" in error.msg:
            return "a whole number has at most 64 bits; write a larger one as 1e30"
        if "is not allowed" in error.msg or "forgot a comma" in error.msg or error.msg == "invalid syntax":
            return f"no expression here; {_ALLOWED}"
        return f"no expression: {error.msg}"

    def _error_at(self, at: int, reason: str) -> ExpressionError:
        before = self._text[: self._offset + at]
        line = before.count("\n") + 1
        return ExpressionError(reason, column=len(before) - (before.rfind("\n") + 1) + 1, line=line)

    def error(self, node: ast.AST, reason: str) -> ExpressionError:
        """`reason`, with the place of `node`."""
        at = getattr(node, "col_offset", 0)  # in bytes
        return self._error_at(len(self._source.encode()[:at].decode()), reason)

    def read(self, node: ast.expr, depth: int) -> Expr:
        """The tree of `node`."""
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise self.error(node, f"the condition has more than {NODES_MAX} parts: make it shorter")
        if depth > OPERATORS_DEPTH_MAX:
            raise self.error(node, f"the condition nests deeper than {OPERATORS_DEPTH_MAX}: make it flatter")
        if isinstance(node, ast.BoolOp):
            return Op(
                "and" if isinstance(node.op, ast.And) else "or", tuple(self.read(value, depth + 1) for value in node.values)
            )
        if isinstance(node, ast.Compare):
            return self._compare(node, depth)
        if isinstance(node, ast.BinOp):
            return self._binary(node, depth)
        if isinstance(node, ast.Call):
            return self._call(node, depth)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Op("not", (self.read(node.operand, depth + 1),))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not _is_number(node.operand):
            return Op("neg", (self.read(node.operand, depth + 1),))
        if isinstance(node, ast.Name) and node.id not in _NAMED:
            return Ts() if node.id == "ts" else Field(self._word(node, node.id))
        return Const(self._literal(node))

    def _word(self, node: ast.expr, word: str) -> str:
        if word not in self._text:  # Python spells some letters anew (NFKC)
            raise self.error(node, f"write the name {word!r} in quotes, as in field('...')")
        return word

    def _literal(self, node: ast.expr) -> Scalar:
        negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and _is_number(node.operand)
        plain = cast("ast.UnaryOp", node).operand if negative else node
        if isinstance(plain, ast.Name) and plain.id in _NAMED:
            return _NAMED[plain.id]
        if not isinstance(plain, ast.Constant) or not isinstance(plain.value, int | float | str | None):
            raise self.error(node, self._not_allowed(node))
        value = -cast("float", plain.value) if negative else plain.value
        try:
            return cast("Scalar", cast("Const", from_data({"const": value})).value)
        except ExpressionError as error:
            raise self.error(node, error.reason) from None

    def _not_allowed(self, node: ast.expr) -> str:
        if isinstance(node, ast.Attribute):
            return f"{ast.unparse(node)!r} is a field of a stage only inside an aggregate: last({ast.unparse(node)})"
        return next((why for kind, why in _INSTEAD.items() if isinstance(node, kind)), f"not allowed here; {_ALLOWED}")

    def _compare(self, node: ast.Compare, depth: int) -> Expr:
        if len(node.ops) > 1:
            raise self.error(node.comparators[1], "compare two values at a time: 'a < b and b < c'")
        op, right = node.ops[0], node.comparators[0]
        name = _COMPARE.get(type(op))
        if name is None:
            raise self.error(node, "write '== null' and '!= null', not 'is'")
        left = self.read(node.left, depth + 1 + isinstance(op, ast.NotIn))
        if name != "in":
            return Op(name, (left, self.read(right, depth + 1)))
        if not isinstance(right, ast.List | ast.Tuple):
            advice = f"contains({ast.unparse(right)}, {ast.unparse(node.left)})"
            raise self.error(right, f"'in' takes a list of literals, as ['a', 'b']; for a part of a string write {advice}")
        among = Op("in", (left, Const(tuple(self._literal(value) for value in right.elts))))
        try:
            from_data(to_data(Op("in", (Ts(), among.args[1]))))
        except ExpressionError as error:
            raise self.error(right, error.reason) from None
        return Op("not", (among,)) if isinstance(op, ast.NotIn) else among

    def _binary(self, node: ast.BinOp, depth: int) -> Expr:
        name = _BINARY.get(type(node.op))
        if name is None:
            hint = "write 'and' and 'or'" if isinstance(node.op, ast.BitAnd | ast.BitOr) else "there are + - * / %"
            raise self.error(node.right, f"no such operator; {hint}")
        return Op(name, (self.read(node.left, depth + 1), self.read(node.right, depth + 1)))

    def _call(self, node: ast.Call, depth: int) -> Expr:
        if not isinstance(node.func, ast.Name):
            raise self.error(node, f"no such function; there are {' '.join(_FUNCTIONS)}")
        name = node.func.id
        if name in AGGREGATES:
            return self._aggregate(node, name)
        if name not in _CALLS and name != "field":
            close = get_close_matches(name.lower(), _FUNCTIONS, n=1)
            hint = f". Did you mean {close[0]}()?" if close else ""
            raise self.error(node, f"no function {name}(); there are {' '.join(_FUNCTIONS)}{hint}")
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            raise self.error(node, f"{name}() takes its arguments in order, without names and stars")
        if name == "field":
            field = node.args[0] if len(node.args) == 1 else node
            if not isinstance(field, ast.Constant) or not isinstance(field.value, str) or not field.value:
                raise self.error(node, "field() takes the field's name in quotes")
            return cast("Field", self._checked(node, Field(field.value)))
        op = Op(_CALLS[name], tuple(self.read(argument, depth + 1) for argument in node.args))
        self._checked(node, Op(op.op, (Ts(),) * len(op.args)))  # as many as it takes?
        return op

    def _aggregate(self, node: ast.Call, name: str) -> Agg:
        usage = f"{name}(stage)" if name == "count" else f"{name}(stage.field) or {name}(stage.field, default)"
        parts: dict[str, Scalar] = {}
        if len(node.args) > 2 or (name == "count" and len(node.args) > 1):
            raise self.error(node, f"{name}() has too many arguments; write {usage}")
        if node.args:
            parts |= self._stage_and_field(node, name, usage)
        if len(node.args) == 2:
            parts["default"] = self._literal(node.args[1])
        for keyword in node.keywords:
            if keyword.arg not in {"stage", "field", "default"} or keyword.arg in parts:
                raise self.error(keyword, f"{name}() has stage=, field= and default=, each once; or write {usage}")
            parts[keyword.arg] = self._literal(keyword.value)
        stage, field = parts.get("stage"), parts.get("field")
        if not isinstance(stage, str) or not isinstance(field, str | None):
            raise self.error(node, f"{name}() needs a stage; write {usage}")
        return cast("Agg", self._checked(node, Agg(name, stage, field, parts.get("default"))))

    def _stage_and_field(self, node: ast.Call, name: str, usage: str) -> dict[str, Scalar]:
        first = node.args[0]
        stage = first.value if isinstance(first, ast.Attribute) else first
        if isinstance(first, ast.Attribute) == (name == "count"):
            raise self.error(first, f"{name}() is of a {'stage' if name == 'count' else 'field of a stage'}; write {usage}")
        field = {"field": self._word(first, first.attr)} if isinstance(first, ast.Attribute) else {}
        if isinstance(stage, ast.Name):
            return {"stage": self._word(stage, stage.id), **field}
        if isinstance(stage, ast.Constant) and isinstance(stage.value, str):
            return {"stage": stage.value, **field}
        raise self.error(first, f"no stage; write {usage}")

    def _checked(self, node: ast.expr, expr: Expr) -> Expr:
        try:
            return from_data(to_data(expr))
        except ExpressionError as error:
            raise self.error(node, error.reason) from None


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)


# ---------------------------------------------------------------------- to text

_ATOM: Final = 8
_LEVELS: Final[Mapping[str, int]] = {
    "or": 1, "and": 2, "not": 3, "==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4, "in": 4, "+": 5, "-": 5, "*": 6, "/": 6,
    "mod": 6, "neg": 7,
}  # fmt: skip
"""How tightly an operator binds, as in Python."""
_SPELLED: Final[Mapping[str, str]] = {op: name for name, op in _CALLS.items()}


def to_text(expr: Expr) -> str:
    """The text of a tree; `from_text` makes the same tree of it."""
    return _spell(expr, 0)


def _spell(expr: Expr, level: int) -> str:
    """`expr`, in parentheses if it binds less than `level`."""
    if isinstance(expr, Const):
        return _spell_const(expr.value)
    if isinstance(expr, Field):
        return expr.name if _is_word(expr.name) else f"field({expr.name!r})"
    if isinstance(expr, Ts):
        return "ts"
    if isinstance(expr, Agg):
        return _spell_aggregate(expr)
    text, binds = _spell_operator(expr)
    return f"({text})" if binds < level else text


def _spell_operator(expr: Op) -> tuple[str, int]:
    op, args = expr.op, expr.args
    binds = _LEVELS.get(op, _ATOM)
    if op == "not" and isinstance(args[0], Op) and args[0].op == "in":
        value, among = args[0].args
        return f"{_spell(value, binds + 2)} not in {_spell(among, 0)}", _LEVELS["in"]
    if op == "not":
        return f"not {_spell(args[0], binds)}", binds
    if op == "neg" and not (isinstance(args[0], Const) and _is_numeric(args[0].value)):
        return f"-{_spell(args[0], binds)}", binds
    if op in {"and", "or"} and len(args) > 1:
        return f" {op} ".join(_spell(argument, binds + 1) for argument in args), binds
    if binds == 4:
        return f"{_spell(args[0], binds + 1)} {op} {_spell(args[1], binds + 1)}", binds
    if binds in {5, 6} and len(args) == 2:
        return f"{_spell(args[0], binds)} {'%' if op == 'mod' else op} {_spell(args[1], binds + 1)}", binds
    return f"{_SPELLED[op]}({', '.join(_spell(argument, 0) for argument in args)})", _ATOM


def _spell_aggregate(expr: Agg) -> str:
    word = expr.stage if _is_word(expr.stage) else repr(expr.stage)
    if expr.field is None and expr.agg == "count" and expr.default is None:
        return f"count({word})"
    if expr.field is not None and expr.agg != "count" and _is_word(expr.field):
        default = "" if expr.default is None else f", {_spell_const(expr.default)}"
        return f"{expr.agg}({word}.{expr.field}{default})"
    parts = {"stage": expr.stage, "field": expr.field, "default": expr.default}
    return f"{expr.agg}({', '.join(f'{key}={_spell_const(value)}' for key, value in parts.items() if value is not None)})"


def _spell_const(value: Scalar | tuple[Scalar, ...]) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_spell_const, value))}]"
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    return repr(value)


def _is_numeric(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_word(name: str) -> bool:
    return name.isascii() and name.isidentifier() and not iskeyword(name) and name not in _NAMED and name != "ts"
