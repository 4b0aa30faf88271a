"""Every setting as rows: for ``antiphon settings``, and for docs/settings.md, which this module writes.

``python -m streams.settings_report`` prints the document; a test compares it with the committed one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streams.settings import CONFIG_VARIABLE, Origin, Settings, fields
from streams.settings_words import allowed, env_name, is_secret, shown

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["Row", "is_live", "markdown", "rows"]

_INTRODUCTION: Final = f"""
<!-- Written by `python -m streams.settings_report > docs/settings.md`; a test checks that it is current. -->

A setting is taken from arguments, else the environment, else the TOML file, else its default. The file is `antiphon.toml`
in the working directory, or the one that `{CONFIG_VARIABLE}` names. There, the first part of the name is the section:

```toml
[worker]
partitions = 8
```

The same from the environment: `ANTIPHON_WORKER__PARTITIONS=8`; an empty variable counts as not set. Unknown names and values
that are not allowed are refused at start, all at once, one line each. Secrets are never printed. While it runs, a worker
follows changes of the settings marked *live* in its file. `antiphon settings` prints what holds and where it came from.
""".strip().splitlines()


class Row(NamedTuple):
    """One setting.

    Attributes:
        name: Such as "worker.partitions", as in the TOML file.
        variable: Its environment variable.
        value: What it is now, as text; "(secret)" for a secret that is set.
        origin: Where that came from.
        allowed: What it may be.
        description: What it does.
        live: Whether a worker follows a change of the file while it runs.
    """

    name: str
    variable: str
    value: str
    origin: Origin
    allowed: str
    description: str
    live: bool


def is_live(field: FieldInfo) -> bool:
    """Whether a running worker follows a change of this setting."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("live"))


def rows(settings: Settings) -> list[Row]:
    """Every setting with its value, never a secret's.

    Args:
        settings: Those to list.
    """
    return [
        Row(
            name=f"{group}.{name}",
            variable=env_name(group, name),
            value=shown(field, getattr(getattr(settings, group), name)),
            origin=settings.origin(f"{group}.{name}"),
            allowed=allowed(field),
            description=field.description or "",
            live=is_live(field),
        )
        for group, name, field in fields()
    ]


def _default(group: str, name: str, field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if field.default_factory is not None:  # a directory, which differs from user to user
        return {
            "broker.data_dir": "broker in the user's data directory",
            "broker.jars_dir": "jars in the user's cache directory",
            "worker.state_dir": "state in the user's data directory",
        }[f"{group}.{name}"]
    text = shown(field, value)
    return f"`{text}`" if text else "(empty)"


def markdown() -> str:
    """docs/settings.md: every setting by group, without anything of this machine."""
    lines = ["# Settings", "", *_INTRODUCTION]
    group_before = ""
    for group, name, field in fields():
        if group != group_before:
            about = (Settings.model_fields[group].annotation.__doc__ or "").strip()
            lines += [
                "",
                f"## {group}",
                "",
                about,
                "",
                "| setting | default | allowed | what it does |",
                "| --- | --- | --- | --- |",
            ]
            group_before = group
        marks = (" *(live)*" if is_live(field) else "") + (" *(secret)*" if is_secret(field) else "")
        words = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{group}.{name}`{marks} | {_default(group, name, field)} | {allowed(field)} | {words} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
