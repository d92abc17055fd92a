"""A venue's feed at its worst: sends a tape to `prices` with ticks twice, out of order, and stretches sent again.

`python -m tests.ingest_sender BOOTSTRAP TAPE SESSION SEED [TICKS_A_SECOND]`; prints how many messages it sent.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from confluent_kafka import Producer

from infra.contracts import PRICES
from tests.tape_messages import Sent, messages

# Of a hundred ticks, how many come late and how many come twice.
LATE_PERCENT, TWICE_PERCENT = 2, 1
LATE_MAX = 3_000
STRETCH = 2_000


def sent(tape: Path, session: int, seed: int) -> Iterator[list[Sent]]:
    """Every tick of the tape at least once."""
    chance = np.random.default_rng(seed)
    for some in messages(tape, session):
        first, second = disturbed(len(some), chance), disturbed(len(some), chance)
        again = second[: len(some) * TWICE_PERCENT // 100]
        order = np.concatenate((first, again, first[:STRETCH]))
        yield [some[place] for place in order.tolist()]


def disturbed(count: int, chance: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    late = np.where(chance.random(count) < LATE_PERCENT / 100, chance.integers(1, LATE_MAX, count), 0)
    return np.argsort(np.arange(count) + late, kind="stable").astype(np.int64)


def main(arguments: Sequence[str]) -> int:
    bootstrap, tape, session, seed, *rate = arguments
    per_s = float(rate[0]) if rate else None
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 200_000,
        }
    )
    count, began_s = 0, time.monotonic()
    for some in sent(Path(tape), int(session), int(seed)):
        for key, value in some:
            while True:
                try:
                    producer.produce(PRICES, value, key)
                    break
                except BufferError:
                    producer.poll(0.05)
            count += 1
            if per_s and count % 1_000 == 0:
                producer.poll(max(0.0, began_s + count / per_s - time.monotonic()))
        producer.poll(0)
    producer.flush()
    print(count)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
