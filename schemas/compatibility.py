"""Whether a reader with the new schema can read all that was written with the old one (BACKWARD), by Avro's rules of resolution.

    old (writer)                     new (reader)                            verdict
    ────────────────────────────     ──────────────────────────────────      ─────────────────────────────────────────────
    a field                          no such field                           fine, it is skipped
    no such field                    a field with a default                  fine, the default is used
    no such field                    a field without a default               a violation
    int, long, float                 a wider one, int→long→float→double      fine
    long                             int                                     a violation, and so for every narrowing
    string                           bytes                                   fine
    bytes                            string                                  a violation here (Avro allows it): not all
                                                                             bytes are text
    enum with a symbol               enum without it, with a default         fine, the default is read
    enum with a symbol               enum without it, no default             a violation
    a union                          a type                                  every branch must fit
    a type, a union's branch         a union                                 the branches that a library may take must fit

Names count without their namespace, and a new name may list the old one under `aliases`. Source: Apache Avro 1.12 specification,
"Schema Resolution". A violation in words is one line with the path of the field.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["is_backward"]

Node = Any
"""A piece of a schema, as JSON: a name, a list of branches or a dict."""

_PROMOTIONS: Final = {
    "int": {"int", "long", "float", "double"},
    "long": {"long", "float", "double"},
    "float": {"float", "double"},
    "string": {"string", "bytes"},
}
_NAMED: Final = ("record", "enum", "fixed", "error")
_PRIMITIVES: Final = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
_INNER: Final = {"array": ("items", "[]"), "map": ("values", "{}")}
_INT_BITS: Final = {"int": 31, "long": 63}


def is_backward(old: Node, new: Node) -> list[str]:
    """Return what keeps a reader with `new` from reading what was written with `old`, in words; empty where nothing does.

    Args:
        old: The writer's schema, as JSON: a dict, a list or a name.
        new: The reader's schema.
    """
    return _Check(old, new).compare(old, new, "")


class _Check:
    """Compares two schemas; holds what their names stand for and the pairs of names already under comparison."""

    def __init__(self, old: Node, new: Node) -> None:
        self.old_names: dict[str, Any] = {}
        self.new_names: dict[str, Any] = {}
        _collect(old, "", self.old_names)
        _collect(new, "", self.new_names)
        self.seen: set[tuple[int, int]] = set()

    def compare(self, old: Node, new: Node, path: str) -> list[str]:
        old, new = _resolve(old, self.old_names), _resolve(new, self.new_names)
        if isinstance(old, list):
            return [problem for branch in old for problem in self.compare(branch, new, path)]
        if isinstance(new, list):
            branches = self._branches(old, new)
            if not branches:
                return [_say(path, f"was {_show(old)}, and the union {_show(new)} does not take it")]
            return list(dict.fromkeys(problem for branch in branches for problem in self.compare(old, branch, path)))
        before, after = _kind(old), _kind(new)
        if before not in _NAMED and before not in _INNER:
            if after in _PROMOTIONS.get(before, {before}):
                return []
            return [_say(path, f"was {before} and is {_show(new)}, which cannot read it{_advice(before, after)}")]
        if before != after:
            return [_say(path, f"was {_show(old)} and is {_show(new)}, which cannot read it")]
        if before in _INNER:
            inner, mark = _INNER[before]
            return self.compare(old[inner], new[inner], path + mark)
        return self._named(old, new, path)

    def _branches(self, old: Node, union: list[Any]) -> list[Node]:
        """Return the branches of a reader's union that a library may choose for the writer's type.

        The specification says the first that matches, and fastavro does that; Java prefers the same type to
        a promotion. Both must work.
        """
        kind = _kind(old)
        promoted = {*_PROMOTIONS.get(kind, ()), *(("string",) if kind == "bytes" else ())}
        same: list[Node] = []
        first: list[Node] = []
        for branch in (_resolve(branch, self.new_names) for branch in union):
            is_same = _kind(branch) == kind and (kind not in _NAMED or _same_name(old, branch))
            if is_same and not same:
                same.append(branch)
            if not first and (is_same or (isinstance(branch, str) and branch in promoted)):
                first.append(branch)
        return [*first, *same]

    def _named(self, old: Node, new: Node, path: str) -> list[str]:
        if (id(old), id(new)) in self.seen:
            return []
        self.seen.add((id(old), id(new)))
        if not _same_name(old, new):
            return [_say(path, f"was named {old['name']} and is named {new['name']}: list the old name under aliases")]
        if old["type"] == "fixed":
            return [] if old["size"] == new["size"] else [_say(path, f"had {old['size']} bytes and has {new['size']}")]
        if old["type"] == "enum":
            return self._enum(old, new, path)
        return self._record(old, new, path)

    def _enum(self, old: Node, new: Node, path: str) -> list[str]:
        default = new.get("default")
        problems = (
            []
            if default is None or default in new["symbols"]
            else [_say(path, f"the enum's default {default} is none of its symbols")]
        )
        lost = [symbol for symbol in old["symbols"] if symbol not in new["symbols"]]
        if lost and default is None:
            problems.append(_say(path, f"lost the symbols {', '.join(lost)}: keep them, or give the enum a default"))
        return problems

    def _record(self, old: Node, new: Node, path: str) -> list[str]:
        problems = []
        before = {field["name"]: field for field in old["fields"]}
        for field in new["fields"]:
            at = f"{path}.{field['name']}" if path else field["name"]
            names = (field["name"], *field.get("aliases", ()))
            source = next((before[name] for name in names if name in before), None)
            if "default" in field and not _fits(field["default"], field["type"], self.new_names):
                problems.append(_say(at, f"the default {field['default']!r} is not of the type {_show(field['type'])}"))
            if source is not None:
                problems += self.compare(source["type"], field["type"], at)
            elif "default" not in field:
                problems.append(_say(at, "is new and has no default: records written before lack it"))
        return problems


def _collect(schema: Node, namespace: str, names: dict[str, Any]) -> None:
    """Remember every named type by its full and by its short name."""
    if isinstance(schema, list):
        for branch in schema:
            _collect(branch, namespace, names)
    elif isinstance(schema, dict):
        if schema["type"] in _NAMED:
            own = schema["name"].rpartition(".")
            namespace = own[0] or schema.get("namespace", namespace)
            names[f"{namespace}.{own[2]}" if namespace else own[2]] = schema
            names.setdefault(own[2], schema)
        for inner in ("type", "items", "values"):
            if isinstance(schema.get(inner), (dict, list)):
                _collect(schema[inner], namespace, names)
        for field in schema.get("fields", ()):
            _collect(field["type"], namespace, names)


def _resolve(schema: Node, names: dict[str, Any]) -> Node:
    """Return what a name stands for, and the type inside `{"type": <type>}`."""
    while True:
        if isinstance(schema, str) and schema not in _PRIMITIVES:
            schema = names[schema]
        elif isinstance(schema, dict) and (not isinstance(schema["type"], str) or schema["type"] in names):
            schema = schema["type"]
        else:
            return schema


def _kind(schema: Node) -> str:
    if isinstance(schema, list):
        return "union"
    return str(schema["type"]) if isinstance(schema, dict) else str(schema)


def _same_name(old: Node, new: Node) -> bool:
    names = {name.rpartition(".")[2] for name in (new["name"], *new.get("aliases", ()))}
    return old["name"].rpartition(".")[2] in names


def _fits(value: Node, schema: Node, names: dict[str, Any]) -> bool:  # noqa: PLR0911 - a return a type
    """Return whether a default is of its type; a union's is of its first branch."""
    schema = _resolve(schema, names)
    if isinstance(schema, list):
        return bool(schema) and _fits(value, schema[0], names)
    match _kind(schema):
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "int" | "long" as kind:
            return type(value) is int and -(1 << _INT_BITS[kind]) <= value < 1 << _INT_BITS[kind]
        case "float" | "double":
            return type(value) in (int, float)
        case "enum":
            return value in schema["symbols"]
        case "array":
            return isinstance(value, list) and all(_fits(v, schema["items"], names) for v in value)
        case "map":
            return isinstance(value, dict) and all(_fits(v, schema["values"], names) for v in value.values())
        case "record":
            return isinstance(value, dict) and all(
                _fits(value[f["name"]], f["type"], names) if f["name"] in value else "default" in f for f in schema["fields"]
            )
    return isinstance(value, str)


def _advice(before: str, after: str) -> str:
    if before == "bytes" and after == "string":
        return " (not all bytes are text)"
    return " (it is narrower)" if before in _PROMOTIONS.get(after, ()) else ""


def _show(schema: Node) -> str:
    if isinstance(schema, list):
        return "[" + ", ".join(map(_show, schema)) + "]"
    kind = _kind(schema)
    return f"{kind} {schema['name']}" if kind in _NAMED else kind


def _say(path: str, problem: str) -> str:
    return f"{path or 'the record'}: {problem}"
