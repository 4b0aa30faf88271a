"""Group metadata as librdkafka's bytes: the fence between a zombie's kafka transaction and the group.

KIP-447 lets a transactional producer commit source offsets *with* the consumer group's generation and member id, so the broker
refuses a worker that the group has moved on from. confluent-kafka takes that metadata as opaque bytes, normally made by its own
consumer. Here the member is Faust's aiokafka coordinator, so the bytes are made by hand.

Layout (librdkafka `rd_kafka_consumer_group_metadata_write`, unchanged since 1.6):

    "CGMDv2:"  int32 generation (little-endian)  group id NUL  member id NUL  flag
    flag: 0x01 = no static member, or 0x00 followed by group instance id NUL

It is librdkafka's own format, so `pyproject.toml` pins the version and `tests/streams/turns/test_fence.py` compares these bytes
with those that confluent-kafka's own consumer makes.
"""

import struct

_MAGIC = b"CGMDv2:"
_NO_INSTANCE = b"\x01"
_INSTANCE = b"\x00"
_NUL = b"\x00"


def group_metadata(*, group_id: str, generation: int, member_id: str, group_instance_id: str | None = None) -> bytes:
    """Return the bytes that `Producer.send_offsets_to_transaction` takes for this member of this generation.

    Args:
        group_id: The consumer group, which is Faust's app id.
        generation: The generation the group's coordinator gave with the assignment.
        member_id: The member id the coordinator gave.
        group_instance_id: The static member's id (KIP-345), where there is one.

    Returns:
        The serialised metadata.

    Raises:
        ValueError: A name holds a NUL byte, which the layout cannot carry.
    """
    names = (group_id, member_id, group_instance_id or "")
    if any("\0" in name for name in names):
        raise ValueError(f"group, member and instance ids must not contain NUL: {names!r}")
    tail = _NO_INSTANCE if group_instance_id is None else _INSTANCE + group_instance_id.encode() + _NUL
    return _MAGIC + struct.pack("<i", generation) + group_id.encode() + _NUL + member_id.encode() + _NUL + tail
