"""``antiphon topics ls|create|describe|delete``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from streams.cli.output import Exit, JsonFlag, err, key_values, out, print_json, print_table, topics_of
from streams.settings import Settings

__all__ = ["app"]

app = typer.Typer(help="Topics: list, create, describe, delete.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The topic's name.", show_default=False)]


@app.command("ls")
def list_topics(
    internal: Annotated[bool, typer.Option("--internal", help="Kafka's own topics too.")] = False, json: JsonFlag = False
) -> None:
    """All topics with their partitions and replicas."""
    found = topics_of().list(internal=internal)
    if json:
        print_json([asdict(topic) for topic in found])
    elif found:
        print_table(["topic", "partitions", "replicas"], [(topic.name, topic.partitions, topic.replication) for topic in found])
    else:
        out.print("no topics", style="dim")


@app.command()
def create(
    names: Annotated[list[str], typer.Argument(metavar="TOPIC...", help="Their names.", show_default=False)],
    partitions: Annotated[
        int | None, typer.Option("--partitions", "-p", help="How many; worker.partitions if not given.", min=1)
    ] = None,
    replication: Annotated[int | None, typer.Option(help="Replicas; kafka.replication_factor if not given.", min=1)] = None,
    compact: Annotated[bool, typer.Option("--compact", help="Keep the last record of each key.")] = False,
    config: Annotated[
        list[str] | None, typer.Option("--config", "-c", help="Setting of the topic, name=value; may be repeated.")
    ] = None,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="Succeed where it is there with as many partitions.")] = False,
    json: JsonFlag = False,
) -> None:
    """Create topics and wait until clients see them; the first that is there already ends it (exit code 1)."""
    settings = Settings()
    chosen = {**({"cleanup.policy": "compact"} if compact else {}), **key_values(config or [])}
    count = partitions or settings.worker.partitions
    replicas = replication or settings.kafka.replication_factor
    topics = topics_of(settings)
    for topic in names:
        created = True
        if if_missing:
            created = topics.ensure(topic, count, chosen, replication_factor=replicas)
        else:
            topics.create(topic, partitions=count, replication_factor=replicas, config=chosen)
        if json:
            print_json({"topic": topic, "partitions": count, "created": created})
        else:
            out.print(f"topic {topic} {'created' if created else 'is there already'} with {count} partitions", highlight=False)


@app.command()
def describe(topic: Name, json: JsonFlag = False) -> None:
    """Partitions, offsets and the settings that differ from the default."""
    found = topics_of().describe(topic)
    if json:
        print_json({**asdict(found), "records": found.records})
        return
    rows = [
        (
            one.partition,
            one.first_offset,
            one.next_offset,
            one.next_offset - one.first_offset,
            one.leader,
            f"{len(one.in_sync)}/{len(one.replicas)}",
        )
        for one in found.partitions
    ]
    print_table(
        ["partition", "first offset", "next offset", "offsets", "leader", "in sync"],
        rows,
        title=f"{topic}: {found.records:,} offsets",
    )
    for name, value in found.config.items():
        out.print(f"{name} = {value}", style="dim", highlight=False, soft_wrap=True)


@app.command()
def delete(
    topics: Annotated[list[str], typer.Argument(help="Their names.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonFlag = False,
) -> None:
    """Delete topics with all their records."""
    if not yes and not typer.confirm(f"Delete {', '.join(topics)} with all records?", err=True):
        err.print("nothing deleted")
        raise typer.Exit(Exit.FAILED)
    admin = topics_of()
    admin.check(dict.fromkeys(topics))  # all or none
    for topic in topics:
        admin.delete(topic)
    if json:
        print_json({"deleted": topics})
    else:
        out.print(f"deleted {', '.join(topics)}", highlight=False)
