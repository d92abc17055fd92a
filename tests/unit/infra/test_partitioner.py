"""Kafka's own vectors for its default partitioner (UtilsTest.testMurmur2 of the Java client)."""

from __future__ import annotations

import pytest

from infra.bus_memory import _murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_known_vectors(key: bytes, signed: int) -> None:
    assert _murmur2(key) == signed & 0xFFFF_FFFF
    assert partition_of(key, 16) == (signed & 0x7FFF_FFFF) % 16
