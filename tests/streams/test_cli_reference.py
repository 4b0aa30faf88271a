"""docs/cli.md says what the command line offers."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import typer

from streams.cli import commands
from streams.cli.reference import page

ROOT = Path(__file__).parent.parent.parent


def _everything() -> typer.Typer:
    """The command line with the commands of this checkout's entry points, whether it is installed or not."""
    everything = typer.Typer()
    everything.registered_commands = list(commands.app.registered_commands)
    everything.registered_groups = list(commands.app.registered_groups)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {one.name for one in everything.registered_commands} | {one.name for one in everything.registered_groups}
    for name, place in project["entry-points"]["antiphon.commands"].items():
        module, _, attribute = place.partition(":")
        if name in known:
            continue
        command = getattr(import_module(module), attribute)
        if isinstance(command, typer.Typer):
            everything.add_typer(command, name=name)
        else:
            everything.command(name)(command)
    return everything


def test_the_page_of_the_command_line_is_current() -> None:
    """docs/cli.md is what the commands say: `python -m streams.cli.reference > docs/cli.md`."""
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == page(_everything(), "antiphon")


def test_every_kind_of_parameter_is_described() -> None:
    """Names, short names, switches with two sides, choices, lists and defaults are all there."""
    text = page(_everything(), "antiphon")
    for expected in (
        "| `--follow`, `--no-follow` | on |",
        "| `--format`, `-f` events\\|json\\|raw | `events` |",
        "| `--config`, `-c` TEXT ... |",
        "| `--lines`, `-n` NUMBER | `50` |",
        "    antiphon replay TOPICS... [OPTIONS]",
        "    antiphon deadletters show POSITION [APP] [OPTIONS]",
    ):
        assert expected in text
