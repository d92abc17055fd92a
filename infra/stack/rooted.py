"""Commands that run inside the servers' root folder, with one data folder mounted at /mnt."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from infra.stack.errors import StackError

SCRIPT = Path(__file__).with_name("in_root.sh")
DATA = "/mnt"


def command(root: Path, data: Path, owner: str, args: Sequence[str]) -> list[str]:
    """`args` as `owner` (uid:gid) in `root`, where `data` is /mnt."""
    inside = ["sh", "-e", str(SCRIPT), str(root), str(data), owner, *args]
    return ["unshare", "--mount", "--propagation", "private", *inside]


def parse_account(passwd: str, name: str) -> tuple[int, int] | None:
    """(uid, gid) of an account in the text of a passwd file."""
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) > 3 and fields[0] == name:
            return int(fields[2]), int(fields[3])
    return None


def account(root: Path, name: str) -> tuple[int, int]:
    """The account as the root folder knows it, which need not be the host's number."""
    found = parse_account((root / "etc/passwd").read_text(encoding="utf-8"), name)
    if found is None:
        raise StackError(f"{root} has no account {name}: remove that folder and run `make up` to install it again")
    return found


def own_folder(path: Path, uid: int, gid: int) -> None:
    """A folder that only this account may enter."""
    path.mkdir(parents=True, exist_ok=True)
    os.chown(path, uid, gid)
    path.chmod(0o700)
