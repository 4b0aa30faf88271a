"""Publish typed events and receive them in a group; starts the embedded Kafka where no other is set."""

import asyncio

from schemas.work import ChangeCommitted
from streams.client import connect


async def main() -> None:
    """Publish three events, one awaited and two in the background, and read them back."""
    async with connect() as mesh:
        change = ChangeCommitted(agent="ada", task="T-1", ts=1, arrived=2, files=3, added=40, removed=2)
        print("acknowledged at", await mesh.publish(change))
        for task in ("T-2", "T-3"):
            await mesh.publish_soon(change.model_copy(update={"task": task}))
        await mesh.flush()
        async with mesh.subscribe("agents.*", group="example", types=[ChangeCommitted]) as deliveries:
            async for delivery in deliveries:
                print(delivery.position, delivery.event.task, delivery.event.id)
                if delivery.event.task == "T-3":
                    delivery.ack()
                    break


if __name__ == "__main__":
    asyncio.run(main())
