"""Fixtures of the relay's tests: a stage of their own, and a reader of its topic."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.bus_kafka import KafkaBus
from infra.settings import Infra
from tests.relay_scene import Reader, Scene


@pytest.fixture
def scene(servers: Infra, orders_db: str) -> Scene:
    topic, slot = f"relay-{uuid.uuid4().hex[:8]}", f"slot_{uuid.uuid4().hex[:12]}"
    admin = AdminClient({"bootstrap.servers": servers.bootstrap})
    admin.create_topics([NewTopic(topic, 4, 1)], operation_timeout=30)[topic].result(30)
    while topic not in admin.list_topics(timeout=30).topics:
        pass
    return Scene(servers, orders_db, topic, slot, KafkaBus(servers.bootstrap, "test"))


@pytest.fixture
async def reader(scene: Scene) -> AsyncIterator[Reader]:
    made = Reader(await scene.bus.read([scene.topic], "earliest"))
    yield made
    await made.subscription.close()
