"""Sagas from the side of agent services: they start them, and they are their participants.

async with connect() as mesh:
async with mesh.handles({"book_flight": book_flight, "cancel_flight": cancel_flight}, service="flights"):
result = await mesh.sagas.run(trip, {"customer": 7})
"""

from __future__ import annotations

from streams.sagas.errors import SagaError, SagaFailed, SagaRefused, StepFailed
from streams.sagas.participants import Participant, StepCall
from streams.sagas.session import SagaHandle, Sagas

__all__ = ["Participant", "SagaError", "SagaFailed", "SagaHandle", "SagaRefused", "Sagas", "StepCall", "StepFailed"]
