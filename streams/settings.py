"""All settings, from arguments, the environment, a TOML file and defaults, in that order; checked before anything starts.

::

    Settings(worker={"partitions": 8})      arguments          wins
    ANTIPHON_WORKER__PARTITIONS=8           environment
    [worker]                                antiphon.toml, or the file that ANTIPHON_CONFIG names
    partitions = 8
    4                                       default            loses

Everything that is wrong is reported at once, one line each, with both names, the value (never a secret's) and what is
allowed. A name that we do not know is refused, because a misspelt setting that is silently ignored is found in
production; variables that Kubernetes makes for a service called antiphon are let through. An empty variable counts as
not set, as Compose files write them. docs/settings.md lists every setting; `streams.settings_groups` and
`streams.settings_kafka` define them.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, Field, PrivateAttr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as SourceError

from streams.errors import SettingsError
from streams.settings_checks import disagreements
from streams.settings_groups import (
    BrokerSettings,
    ClientSettings,
    LogSettings,
    RegistrySettings,
    TracingSettings,
    WorkerSettings,
)
from streams.settings_kafka import KafkaSettings
from streams.settings_words import ENV_PREFIX, allowed, env_name, shown

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

__all__ = [
    "CONFIG_VARIABLE",
    "ENV_PREFIX",
    "BrokerSettings",
    "ClientSettings",
    "KafkaSettings",
    "LogSettings",
    "Origin",
    "RegistrySettings",
    "Settings",
    "TracingSettings",
    "WorkerSettings",
    "fields",
]

CONFIG_VARIABLE: Final = "ANTIPHON_CONFIG"
CONFIG_FILE: Final = "antiphon.toml"
CONFIG_BYTES_MAX: Final = 1_000_000  # a settings file has a few hundred lines; more is the wrong file
VALUE_SHOWN_MAX: Final = 80  # characters of a refused value in its error line, which stays one line

# What Kubernetes puts into every pod beside a Service called "antiphon" or "antiphon-...", and our tests' own switches.
_FOREIGN = re.compile(
    r"^ANTIPHON_(TEST_.*|(\w+_)?SERVICE_HOST|(\w+_)?SERVICE_PORT(_\w+)?|(\w+_)?PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$"
)

Origin = Literal["argument", "environment", "file", "default"]
Tree = dict[str, Any]


class Settings(BaseSettings):
    """Every setting of a process, frozen and valid.

    Raises:
        SettingsError: One line for each thing that is wrong.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    broker: BrokerSettings = Field(default_factory=BrokerSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    client: ClientSettings = Field(default_factory=ClientSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)

    _origins: dict[str, Origin] = PrivateAttr(default_factory=dict)
    _file: Path | None = PrivateAttr(default=None)
    _arguments: dict[str, object] = PrivateAttr(default_factory=dict)

    def __init__(self, config_file: str | Path | None = None, /, **groups: object) -> None:
        """Reads, merges and checks.

        Args:
            config_file: The TOML file; None: the one ANTIPHON_CONFIG names, else antiphon.toml here if there is one.
            **groups: Settings that win over all else, by group: a dict or a group's model.

        Raises:
            SettingsError: One line for each thing that is wrong.
        """
        path = _config_path(config_file)
        layers: dict[Origin, Tree] = {
            "file": _read_file(path),
            "environment": _read_environment(type(self)),
            "argument": {name: _plain(value) for name, value in groups.items()},
        }
        origins: dict[str, Origin] = {}
        merged: Tree = {}
        for origin, layer in layers.items():
            for group, name, value in _leaves(layer):
                origins[f"{group}.{name}" if name else group] = origin
                if name:
                    node = merged.setdefault(group, {})
                    merged[group] = (node if isinstance(node, dict) else {}) | {name: value}
                else:
                    merged[group] = value
        problems = list(_unknown_variables(os.environ))
        try:
            super().__init__(**merged)
        except ValidationError as fault:
            problems += [_explain(error, origins, path) for error in fault.errors(include_url=False)]
            raise SettingsError("\n".join(problems)) from None  # its own text could show a secret
        problems += disagreements(self)
        if problems:
            raise SettingsError("\n".join(problems))
        self._origins = origins
        self._file = path
        self._arguments = groups

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic-settings' own
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `__init__` merged: it must know where each value came from, for the error lines."""
        return (init_settings,)

    @property
    def config_file(self) -> Path | None:
        """The TOML file that was read; None if there was none."""
        return self._file

    def read_again(self) -> Settings:
        """Settings made anew from the same arguments and file, and the environment as it is now.

        Raises:
            SettingsError: As at the first reading; also when the file has gone.
        """
        return type(self)(self._file, **self._arguments)

    def with_changes(self, changes: Mapping[str, Mapping[str, object]]) -> Settings:
        """A copy with some values replaced by others that are valid already.

        Args:
            changes: New values by group and name.
        """
        groups = {group: getattr(self, group).model_copy(update=dict(values)) for group, values in changes.items()}
        return self.model_copy(update=groups)

    def origin(self, name: str) -> Origin:
        """Where a setting came from.

        Args:
            name: Such as "worker.partitions".
        """
        return self._origins.get(name, "default")


def fields() -> Iterator[tuple[str, str, FieldInfo]]:
    """Group, name and definition of every setting, in the order of the documentation."""
    for group, holder in Settings.model_fields.items():
        model = holder.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            for name, field in model.model_fields.items():
                yield group, name, field


def _config_path(given: str | Path | None) -> Path | None:
    named = given or os.environ.get(CONFIG_VARIABLE)
    if not named:
        return Path(CONFIG_FILE) if Path(CONFIG_FILE).is_file() else None
    path = Path(named).expanduser()
    if not path.is_file():
        where = "the argument" if given else CONFIG_VARIABLE
        raise SettingsError(f"settings file {path}, named by {where}, is not there: create it or name another")
    return path


def _read_file(path: Path | None) -> Tree:
    if path is None:
        return {}
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise SettingsError(f"settings file {path} is larger than {CONFIG_BYTES_MAX} bytes: name a TOML file of settings")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise SettingsError(f"settings file {path} cannot be read: {fault.strerror}") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise SettingsError(f"settings file {path} is not TOML: {fault}") from fault


def _read_environment(settings: type[BaseSettings]) -> Tree:
    # One group's JSON, ANTIPHON_WORKER='{"partitions": 8}', is pydantic-settings' own habit; it is allowed, not advised.
    try:
        return EnvSettingsSource(settings)()
    except SourceError as fault:
        raise SettingsError(f"environment: {fault}: a group as a whole must be a JSON object") from None


def _plain(value: object) -> object:
    """A group given as a model, as the dict of what was set in it."""
    return {name: getattr(value, name) for name in value.model_fields_set} if isinstance(value, BaseModel) else value


def _leaves(layer: Tree) -> Iterator[tuple[str, str, Any]]:
    for group, content in layer.items():
        if isinstance(content, Mapping):
            yield from ((group, str(name), value) for name, value in content.items())
        else:
            yield group, "", content


def _did_you_mean(name: str) -> str:
    """The nearest setting to an unknown one, whichever group it was written in."""
    known = {f"{group}.{field}": (group, field) for group, field, _ in fields()}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if not near:
        by_field = {field: full for full, (_, field) in known.items()}
        hits = difflib.get_close_matches(name.rpartition(".")[2], by_field, n=1, cutoff=0.75)
        near = [by_field[hit] for hit in hits]
    if not near:
        return "`antiphon settings` lists all there are"
    group, field = known[near[0]]
    return f"did you mean {near[0]} ({env_name(group, field)})?"


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """Variables with our prefix in no group of ours; those within a group are refused by the group itself."""
    for variable in sorted(environment):
        upper = variable.upper()
        if not upper.startswith(ENV_PREFIX) or upper == CONFIG_VARIABLE or _FOREIGN.match(upper):
            continue
        group, _, name = upper.removeprefix(ENV_PREFIX).lower().partition("__")
        if group not in Settings.model_fields:
            dotted = f"{group}.{name}" if name else group.replace("_", ".", 1)
            yield f"{variable}: there is no such setting; {_did_you_mean(dotted)}"


def _explain(error: ErrorDetails, origins: Mapping[str, Origin], path: Path | None) -> str:
    """One line for one of pydantic's errors."""
    location = [str(part) for part in error["loc"]]
    group, name = location[0], location[1] if len(location) > 1 else ""
    full = f"{group}.{name}" if name else group
    origin = origins.get(full, "default")
    source = f"from {path}" if origin == "file" else f"from the {origin}"
    both = f"{full} ({env_name(group, name)})" if name else full
    if error["type"] == "extra_forbidden":
        return f"{both}, {source}: there is no such setting; {_did_you_mean(full)}"
    field = next((one for g, n, one in fields() if (g, n) == (group, name)), None)
    if field is None:
        return f"{both}, {source}: allowed is a group of settings, [{group}] in the file"
    value = shown(field, error["input"])
    if len(value) > VALUE_SHOWN_MAX:
        value = value[:VALUE_SHOWN_MAX] + "..."
    own = error.get("ctx", {}).get("error")
    return f"{both} = {value!r}, {source}: allowed is {own or allowed(field)}"
