"""How a setting is spoken of: its variable, what it may be, and its value with secrets covered."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Union, get_args, get_origin

from pydantic import SecretStr

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["ENV_PREFIX", "allowed", "env_name", "is_secret", "shown"]

ENV_PREFIX: Final = "ANTIPHON_"

_KINDS = ((int, "a whole number"), (float, "a number"), (bool, "true or false"), (Path, "a directory"))
_LIMITS = ("ge", "gt", "le", "lt", "min_length")
_USERINFO = re.compile(r"(?<=//)[^/@\s]+(?=@)")


def env_name(group: str, name: str) -> str:
    """The environment variable of a setting."""
    return f"{ENV_PREFIX}{group}__{name}".upper()


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting's value must never be printed."""
    return field.annotation is SecretStr


def shown(field: FieldInfo, value: object) -> str:
    """A value as it may be printed: secrets and passwords within addresses are covered."""
    if is_secret(field):
        secret = value.get_secret_value() if isinstance(value, SecretStr) else value
        return "(secret)" if secret else ""
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return _USERINFO.sub("***", str(value))


def allowed(field: FieldInfo) -> str:
    """What a setting may be, in words, from its type and its limits."""
    options = _options(field.annotation)
    if options:
        return "one of " + ", ".join(option or "(empty)" for option in options)
    kind = "names separated by commas" if get_origin(field.annotation) is tuple else "text"
    for type_, words in _KINDS:
        if field.annotation is type_:
            kind = words
    limits = {name: getattr(limit, name) for limit in field.metadata for name in _LIMITS if hasattr(limit, name)}
    bounds = [
        f"{text} {limits[name]}"
        for name, text in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below"))
        if name in limits
    ]
    return " ".join([kind, *bounds]) + (", not empty" if limits.get("min_length") else "")


def _options(annotation: object) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(option) for option in get_args(annotation)]
    if get_origin(annotation) in (Union, types.UnionType):
        return [option for part in get_args(annotation) for option in _options(part)]
    return []
