"""A TCP proxy in front of a broker that loses chosen answers: the request is carried out, the client never hears of it."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Iterable
from typing import Self

END_TXN = 26
TXN_OFFSET_COMMIT = 28


class LossyProxy:
    """Forwards everything, and closes the connection instead of forwarding every n-th answer to the given Kafka requests.

    Args:
        target: Host and port of the broker's own listener.
        api_keys: Kafka API keys whose answers are lost.
        every: Lose each n-th of them.
    """

    def __init__(self, target: tuple[str, int], api_keys: Iterable[int], *, every: int, port: int) -> None:
        self._target, self._api_keys, self._every, self.port = target, frozenset(api_keys), every, port
        self.lost = self._seen = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", self.port), self._loop
        ).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        async def close() -> None:
            if self._server is not None:
                self._server.close()
            mine = asyncio.current_task()
            others = [task for task in asyncio.all_tasks() if task is not mine]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        doomed: set[int] = set()
        pumps = [
            asyncio.ensure_future(self._requests(reader, to_writer, doomed)),
            asyncio.ensure_future(self._answers(to_reader, writer, doomed)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, to_writer):
                end.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: set[int]) -> None:
        while True:
            size = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack(">i", size)[0])
            api_key, _, correlation = struct.unpack_from(">hhi", body)
            if api_key in self._api_keys:
                self._seen += 1
                if self._seen % self._every == 0:
                    doomed.add(correlation)
            writer.write(size + body)
            await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: set[int]) -> None:
        while True:
            size = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack(">i", size)[0])
            if struct.unpack_from(">i", body)[0] in doomed:
                self.lost += 1
                return
            writer.write(size + body)
            await writer.drain()
