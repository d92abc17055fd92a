"""`python -m api.auth.issue` prints a token that the api takes, and nothing else."""

from __future__ import annotations

import pytest

from api.auth import issue
from api.auth.tokens import key_of, verify
from infra.clock import NS_PER_S, SystemClock
from infra.principal import Principal
from infra.settings import SettingsError
from tests.unit.api.doors import SECRET

ENVIRON = {"XGW_JWT_SECRET": SECRET}


def principal(text: str, later_s: int = 0) -> Principal:
    key = key_of(SECRET)
    return verify({key.kid: key}, text, SystemClock().now_ns() / NS_PER_S + later_s)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--role", "investor"], Principal("investor-1", "investor", 1)),
        (["--role", "investor", "--account", "3"], Principal("investor-3", "investor", 3)),
        (["--role", "back_office"], Principal("back_office", "back_office")),
        (["--role", "operator", "--account", "3"], Principal("operator", "operator")),
        (["--role", "operator", "--subject", "eve"], Principal("eve", "operator")),
    ],
)
def test_only_the_token_is_printed(argv: list[str], expected: Principal, capsys: pytest.CaptureFixture[str]) -> None:
    assert issue.main(argv, ENVIRON) == 0
    printed = capsys.readouterr()
    assert principal(printed.out.removesuffix("\n")) == expected
    assert printed.err == ""


def test_its_life_is_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert issue.main(["--role", "operator", "--ttl-s", "100"], ENVIRON) == 0
    text = capsys.readouterr().out.strip()
    assert principal(text, 90).role == "operator"
    with pytest.raises(Exception, match="token_expired"):
        principal(text, 101)


@pytest.mark.parametrize("environ", [{}, {"XGW_JWT_SECRET": ""}, {"XGW_JWT_SECRET": "short"}])
def test_without_a_good_secret_it_says_so(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert issue.main(["--role", "operator"], environ) == issue.EXIT_SETTINGS
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "secret" in printed.err.lower()
    assert "make up" in printed.err


@pytest.mark.parametrize("argv", [[], ["--role", "system"], ["--role", "investor", "--account", "0"]])
def test_other_arguments_are_refused(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        issue.main(argv, ENVIRON)
    assert ended.value.code == 2


def test_the_secret_alone_is_read() -> None:
    with pytest.raises(SettingsError, match="XGW_JWT_SECRET"):
        issue.token(issue.parser().parse_args(["--role", "operator"]), {}, SystemClock())
