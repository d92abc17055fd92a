"""The local stack's secrets: made once, readable by their owner only."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from infra.settings import PREFIX

ADMIN_PASSWORD = f"{PREFIX}POSTGRES_ADMIN_PASSWORD"


def made_secrets() -> dict[str, str]:
    """A fresh set. The administrator's password stays with the stack, the others go to our processes."""
    return {
        f"{PREFIX}JWT_SECRET": secrets.token_hex(32),
        f"{PREFIX}VENUE_API_KEY": secrets.token_hex(16),
        f"{PREFIX}WEBHOOK_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
        ADMIN_PASSWORD: secrets.token_hex(16),
    }


def parse(text: str) -> dict[str, str]:
    """NAME=value lines; blank lines and comments are skipped, values are taken as they are."""
    pairs = (line.partition("=") for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def ensured(path: Path) -> dict[str, str]:
    """The secrets in `path`, made where they are missing; existing ones never change."""
    found = parse(path.read_text(encoding="utf-8")) if path.exists() else {}
    missing = {name: value for name, value in made_secrets().items() if not found.get(name)}
    if not missing:
        return found
    merged = found | missing
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in merged.items())
    fresh.replace(path)
    return merged


def for_services(all_secrets: Mapping[str, str]) -> dict[str, str]:
    """What our processes may know."""
    return {name: value for name, value in all_secrets.items() if name != ADMIN_PASSWORD}
