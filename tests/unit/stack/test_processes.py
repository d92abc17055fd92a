"""The list of processes, the supervisor's file made from it, and the servers' command lines."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import pytest

from infra.contracts import TOPICS
from infra.stack import docker, kafka, postgres, processes, rooted, supervision
from infra.stack.layout import Layout
from infra.stack.processes import Programs
from infra.stack.settings import load_stack

SETTINGS = load_stack({"XGW_SERVERS": "local"})
LAYOUT = Layout(Path("/srv/a run"))


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\npostgres:x:101:103:::\nredis:x:100:102:::\n")
    return Programs(root=tmp_path, java=Path("/usr/bin/java"), kafka_jars=Path("/jars"))


def test_servers_start_first_and_no_port_is_used_twice() -> None:
    listed = processes.listed(SETTINGS)
    assert [p.name for p in listed] == [*processes.SERVERS, *processes.SERVICES]
    assert max(p.order for p in listed if p.is_server) < min(p.order for p in listed if not p.is_server)
    numbers = [port.number for p in listed for port in p.ports]
    assert len(numbers) == len(set(numbers))


def test_every_port_names_the_setting_that_moves_it() -> None:
    for process in processes.listed(SETTINGS):
        for port in process.ports:
            moved = processes.listed(load_stack({port.variable: "12345"}))
            assert 12345 in [p.number for m in moved if m.name == process.name for p in m.ports]


def test_the_supervisor_reads_every_command_as_it_was_meant(programs: Programs) -> None:
    commands = processes.commands(SETTINGS, LAYOUT, programs, Path("/srv/a run/variables.env"))
    described = processes.with_commands(processes.listed(SETTINGS), commands)
    text = supervision.configuration(LAYOUT, described, 1024)
    # As supervisor reads it: `;` and `#` after a blank begin a comment, %% is %.
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(text)
    for process in described:
        section = parser[f"program:{process.name}"]
        assert shlex.split(section["command"].replace("%%", "%")) == list(process.command)
        assert section["autostart"] == "false"
        assert section["autorestart"] == "true"


def test_with_servers_in_containers_only_our_processes_are_supervised() -> None:
    commands = processes.commands(SETTINGS, LAYOUT, None, Path("/v.env"))
    described = processes.with_commands(processes.listed(SETTINGS), commands)
    assert [p.name for p in described] == list(processes.SERVICES)


def test_a_servers_account_is_looked_up_in_its_own_root(programs: Programs) -> None:
    assert rooted.account(programs.root, "postgres") == (101, 103)
    assert rooted.parse_account("postgres:x:101\n", "postgres") is None


def test_compose_gives_postgres_the_same_settings() -> None:
    text = docker.COMPOSE_FILE.read_text(encoding="utf-8")
    found = dict(re.findall(r'^ {6}- "?-c([a-z_.]+)=(.*?)"?$', text, re.MULTILINE))
    assert found == postgres.SERVER_SETTINGS


def test_compose_gives_kafka_the_same_settings_and_publishes_on_loopback_only() -> None:
    text = docker.COMPOSE_FILE.read_text(encoding="utf-8")
    ours = dict(line.split("=", 1) for line in kafka.properties(Path("/d"), 1, 2).splitlines())
    plain = {"offsets.", "transaction.", "share.", "group.", "auto."}
    for name, value in ours.items():
        if any(name.startswith(prefix) for prefix in plain):
            assert f'KAFKA_{name.upper().replace(".", "_")}: "{value}"' in text
    published = re.findall(r'ports: \["(.*?)"\]', text)
    assert len(published) == 3
    assert all(p.startswith("127.0.0.1:") for p in published)


def test_compose_states_are_told_in_the_supervisors_words() -> None:
    lines = '{"Service": "postgres", "State": "running"}\n{"Service": "kafka", "State": "exited"}\n'
    states = docker.parsed_states(lines)
    assert {name: s["statename"] for name, s in states.items()} == {"postgres": "RUNNING", "kafka": "STOPPED"}
    assert docker.parsed_states('[{"Service": "redis", "State": "running"}]')["redis"]["statename"] == "RUNNING"
    assert docker.parsed_states("") == {}


def test_kafka_listens_on_loopback_and_makes_no_topics_by_itself() -> None:
    text = kafka.properties(Path("/data"), 19092, 19093)
    assert "auto.create.topics.enable=false" in text
    assert not re.search(r"://(?!127\.0\.0\.1:)", text)


def test_a_changed_kafka_configuration_is_a_changed_command() -> None:
    moved = load_stack({"XGW_KAFKA_PORT": "12345"})
    commands = [kafka.command(Path("/java"), Path("/jars"), LAYOUT, s) for s in (SETTINGS, moved)]
    assert commands[0] != commands[1]


def test_a_cluster_id_never_reads_as_an_option() -> None:
    for first in range(256):
        made = kafka.cluster_id(bytes([first]) + bytes(15))
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", made)


def test_retention_is_for_topics_that_delete() -> None:
    for topic in TOPICS:
        assert ("retention.ms" in kafka.topic_config(topic)) is (topic.cleanup == "delete")
