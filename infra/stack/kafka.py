"""Kafka of the local stack: one KRaft node, broker and controller in one process."""

from __future__ import annotations

import base64
import hashlib
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from infra.contracts import DLQ_SUFFIX, TOPICS, Topic
from infra.stack.errors import StackError
from infra.stack.layout import Layout
from infra.stack.settings import StackSettings

LOG_CONF = Path(__file__).with_name("kafka-log4j2.properties")
HEAP = "-Xmx512m"


def properties(log_dir: Path, port: int, controller_port: int) -> str:
    """server.properties. Topics come from the declared list only; one node can hold one replica."""
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(log_dir),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "4",
        "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _properties(layout: Layout, settings: StackSettings) -> str:
    return properties(layout.data_of("kafka"), settings.infra.kafka_port, settings.kafka_controller_port)


def command(java: Path, jars: Path, layout: Layout, settings: StackSettings) -> list[str]:
    # The digest makes a changed configuration a changed command, which the supervisor notices.
    digest = hashlib.sha256(_properties(layout, settings).encode()).hexdigest()[:12]
    switches = [HEAP, "-Xms128m", "-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={LOG_CONF}"]
    main = ["kafka.Kafka", str(layout.kafka_conf)]
    return [str(java), *switches, f"-Dxgw.configuration={digest}", "-cp", f"{jars}/*", *main]


def prepare(java: Path, jars: Path, layout: Layout, settings: StackSettings) -> None:
    """Write the configuration; format the storage once, all or nothing."""
    layout.kafka_conf.write_text(_properties(layout, settings), encoding="utf-8")
    data = layout.data_of("kafka")
    if (data / "meta.properties").exists():
        return
    fresh = data.with_name(data.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    conf = layout.kafka_conf.with_suffix(".format")
    text = properties(fresh, settings.infra.kafka_port, settings.kafka_controller_port)
    conf.write_text(text, encoding="utf-8")
    tool = [str(java), "-Xmx128m", "-cp", f"{jars}/*", "kafka.tools.StorageTool", "format"]
    args = [*tool, "--cluster-id", cluster_id(secrets.token_bytes(16)), "--config", str(conf)]
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    conf.unlink()
    if done.returncode != 0:
        raise StackError(f"Kafka's storage could not be formatted in {fresh}:\n{done.stdout}{done.stderr}".strip())
    shutil.rmtree(data, ignore_errors=True)
    fresh.rename(data)


def cluster_id(random: bytes) -> str:
    """Sixteen bytes in Kafka's spelling; a leading dash would read as an option."""
    text = base64.urlsafe_b64encode(random).decode().rstrip("=")
    return "A" + text[1:] if text.startswith("-") else text


def admin(bootstrap: str) -> Any:
    return AdminClient({"bootstrap.servers": bootstrap, "socket.timeout.ms": 5000, "log_level": 0})


def trouble(bootstrap: str, timeout_s: float) -> str | None:
    """Why it is not healthy; None when it answers for its cluster."""
    try:
        brokers = admin(bootstrap).list_topics(timeout=timeout_s).brokers
    except KafkaException as error:
        return str(error.args[0].str())
    return None if brokers else "no broker has registered yet"


DEAD_LETTER_BYTES_MAX = 2 << 20


def topic_config(topic: Topic) -> dict[str, str]:
    if topic.cleanup == "compact":
        return {"cleanup.policy": "compact"}
    config = {"cleanup.policy": "delete", "retention.ms": str(topic.retention_ms)}
    if topic.name.endswith(DLQ_SUFFIX):
        # The largest message of the source and the headers that say why it is here.
        config["max.message.bytes"] = str(DEAD_LETTER_BYTES_MAX)
    return config


def create_topics(bootstrap: str, topics: tuple[Topic, ...] = TOPICS, timeout_s: float = 30) -> list[str]:
    """Create what is missing of the declared list and return its names; existing topics are left alone."""
    client = admin(bootstrap)
    existing = client.list_topics(timeout=timeout_s).topics
    missing = [t for t in topics if t.name not in existing]
    if not missing:
        return []
    wanted = [NewTopic(t.name, t.partitions, 1, config=topic_config(t)) for t in missing]
    for name, done in client.create_topics(wanted, operation_timeout=timeout_s).items():
        try:
            done.result(timeout_s)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise StackError(f"Kafka topic {name} could not be created: {error}") from error
    return [t.name for t in missing]
