"""The configuration of a stock Debezium connector, as it is filled in for the local stack."""

from __future__ import annotations

import re
from pathlib import Path

from infra.contracts import EVENT_ID, IDEMPOTENCY_KEY, SCHEMA, TRACEPARENT
from infra.outbox import PUBLICATION
from infra.settings import Infra
from infra.stack.connect import filled
from infra.stack.layout import Layout
from infra.stack.settings import StackSettings


def properties(folder: Path, name: str) -> dict[str, str]:
    settings = StackSettings(infra=Infra(run_dir=folder))
    text = filled(name, Layout(folder), settings, rest_port=1).read_text(encoding="utf-8")
    assert not re.search(r"\$\{[A-Z_]+\}", text), "something is not filled in"
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def test_the_connector_makes_our_record_of_a_row(tmp_path: Path) -> None:
    found = properties(tmp_path, "connector.properties")
    assert found["publication.name"] == PUBLICATION
    assert found["transforms.outbox.route.topic.replacement"] == "${routedByValue}"
    placed = [
        field.rpartition(":")[2] for field in found["transforms.outbox.table.fields.additional.placement"].split(",")
    ]
    assert placed == [EVENT_ID, IDEMPOTENCY_KEY, TRACEPARENT, SCHEMA]


def test_only_the_owner_may_read_the_password(tmp_path: Path) -> None:
    assert properties(tmp_path, "worker.properties")["listeners"] == "http://127.0.0.1:1"
    properties(tmp_path, "connector.properties")
    assert (tmp_path / "connect-connector.properties").stat().st_mode & 0o077 == 0
