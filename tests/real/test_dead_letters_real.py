"""Operators' doors on PostgreSQL and Kafka: parked, indexed, sent back; a switch in one transaction with its news."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import asdict, dataclass
from functools import partial

import psycopg
import pytest

from api import app as api_app
from api.ops.doors import open_doors
from infra.bus import Message
from infra.bus_kafka import KafkaBus
from infra.clock import ManualClock, SystemClock
from infra.contracts import SWITCHES, TOPICS, Switch, decode
from infra.db import engine
from infra.dlq.index import index_part
from infra.dlq.letters_pg import PgLetters
from infra.dlq.park import Park, park
from infra.process import background
from infra.settings import Infra
from tests.flow.walking import eventually
from tests.unit.api.doors import client, settings, token

# One that nothing else in this session of tests writes to or reads.
TOPIC = next(topic.name for topic in TOPICS if topic.doc.startswith("Top ten levels"))
DEADLINE_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere(Infra):
    """The servers of this session, and the database of this test."""

    database: str = ""

    def dsn(self, database: str) -> str:
        return self.database


@pytest.mark.real
async def test_an_operator_sends_back_what_was_parked_and_sets_a_switch(servers: Infra, orders_db: str) -> None:
    infra, stop = Elsewhere(**asdict(servers), database=orders_db), asyncio.Event()
    bus, source = KafkaBus(infra.bootstrap, "test"), engine(orders_db, "test")
    key, producer = str(uuid.uuid4()), bus.producer()
    message = Message(TOPIC, 3, 7, key.encode(), b"\x00\xff", (("event-id", b"e"), ("event-id", b"\xfe")), 1)
    openers = {"ops": partial(open_doors, infra, [])}
    async with (
        background(index_part(bus, PgLetters(source, SystemClock()))),
        api_app.opened(settings(), openers, stop, ("ops",), ManualClock()) as service,  # type: ignore[arg-type]
        client(service.app, token("operator")) as http,
    ):
        await park(producer, "exchange-gateway", [Park(message, "malformed", "not a book")])

        async def indexed() -> bool:
            return bool((await http.get(f"/ops/dlq?orderId={key}")).json()["letters"])

        await eventually("the letter is in the index", indexed, DEADLINE_S)
        (letter,) = (await http.get(f"/ops/dlq?orderId={key}")).json()["letters"]
        assert (letter["topic"], letter["partition"], letter["offset"], letter["code"]) == (TOPIC, 3, 7, "malformed")
        replayed = await http.post("/ops/dlq/replays", json={"ids": [letter["id"]], "reason": "mended"})
        assert replayed.json()["results"] == [{"id": letter["id"], "outcome": "replayed", "state": "replayed"}]
        again = await sent_again(bus, key.encode())
        assert (again.value, again.headers[:2]) == (message.value, message.headers)
        assert again.header("replayed-from") == letter["id"].encode()

        put = await http.put("/ops/switches/symbol:AAPL", json={"mode": "cancel_only", "reason": "bad prints"})
        assert put.status_code == 200
        assert (await http.get("/ops/switches")).json() == {"switches": [put.json()]}
    async with await psycopg.AsyncConnection.connect(orders_db) as connection:
        rows = await (await connection.execute("SELECT aggregatetype, aggregateid, payload FROM outbox")).fetchall()
    ((topic, scope, payload),) = rows
    said: Switch = decode(Switch, payload.encode())
    assert (topic, scope, said.mode, said.by) == (SWITCHES, "symbol:AAPL", "cancel_only", "test-operator")
    await producer.close()
    await source.dispose()


async def sent_again(bus: KafkaBus, key: bytes) -> Message:
    reader = await bus.read([TOPIC], "earliest")
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for message in await reader.batch(100, 0.5):
                    if message.key == key:
                        return message
    finally:
        await reader.close()
