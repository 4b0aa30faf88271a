"""The part of a mesh that has sagas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from streams.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streams.client import Mesh
    from streams.sagas.participants import Handler, Participant
    from streams.sagas.session import Sagas

__all__ = ["SagaFacade"]

HandlerT = TypeVar("HandlerT", bound="Callable[..., Any]")


class SagaFacade:
    """A base of `Mesh`."""

    _sagas: Sagas | None = None
    _handlers: Mapping[str, Handler] = {}
    _participants: tuple[Participant, ...] = ()

    def _new_sagas(self) -> Sagas:
        """Make the session, when it is first used."""
        raise NotImplementedError

    @property
    def sagas(self) -> Sagas:
        """Starts sagas, and says to them what they wait for: `await mesh.sagas.run(trip, {"customer": 7})`."""
        if self._sagas is None:
            self._sagas = self._new_sagas()
        return self._sagas

    def handles(self, name: str) -> Callable[[HandlerT], HandlerT]:
        """Register a handler of steps: `@mesh.handles("book_flight")`. `participate` lets all that are registered work.

        Args:
            name: As definitions say it.

        Raises:
            SettingsError: A handler has this name already.
        """

        def register(handler: HandlerT) -> HandlerT:
            if name in self._handlers:
                raise SettingsError(f"a handler {name!r} is registered already: take another name")
            self._handlers = {**self._handlers, name: handler}
            return handler

        return register

    def participate(self, service: str, handlers: Mapping[str, Handler] | None = None, *, at_once: int = 100) -> Participant:
        """Do the steps of sagas for the time of a block: `async with mesh.participate("flights"):`.

        See `streams.sagas.participants` for what is promised.

        Args:
            service: Participants with the same name share the calls. It names the consumer group.
            handlers: By name; else those that `handles` has registered. Each is a function, asynchronous or not (that one gets
                a thread), which takes the input, or the input and a `StepCall`; it returns JSON or raises: `StepFailed` with a
                code, or anything, whose class is the code.
            at_once: Handlers at work at once.

        Raises:
            SettingsError: A name or number is not allowed, or there is no handler.
            TopicMissing: (Entering the block.) The orchestrator has never run.
        """
        from streams.sagas.participants import Participant

        chosen = self._handlers if handlers is None else handlers
        made = Participant(cast("Mesh", self), chosen, service=service, at_once=at_once, prefix=self.sagas.prefix)
        self._participants = (*self._participants, made)
        return made
