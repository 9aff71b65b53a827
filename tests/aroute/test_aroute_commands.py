"""What a command's arguments must be, and that a wrong or a right one gives no secret away."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.aroute.commands import (
    COMMANDS,
    BadArgumentsError,
    RewritePassword,
    SetCredentials,
    parse_arguments,
    plain_arguments,
)

PASSWORD = "Q7XK2M9RTB4C"
PROOF_KEY = b"proof key of 16b"
REWRITE = {"password": PASSWORD, "proof_key": PROOF_KEY}
SET = REWRITE | {"id": "0123456789ABCDEF" * 2, "accepted_on": "2026-11-07"}


@pytest.mark.parametrize(
    ("name", "given"), [("broute.rewrite_password", REWRITE), ("broute.set_credentials", SET)]
)
def test_credentials_are_parsed_and_sealed_again_alike(name: str, given: dict[str, Any]) -> None:
    arguments = parse_arguments(COMMANDS[name], given)
    assert isinstance(arguments, SetCredentials | RewritePassword)
    assert arguments.password.reveal() == PASSWORD
    plain = plain_arguments(arguments)
    assert parse_arguments(COMMANDS[name], plain) == arguments
    assert {key: plain[key] for key in given} == given


def test_arguments_are_printed_without_their_secrets() -> None:
    printed = repr(parse_arguments(COMMANDS["broute.set_credentials"], SET))
    assert "0123456789ABCDEF" in printed
    assert PASSWORD not in printed
    assert repr(PROOF_KEY) not in printed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("password", "Q7XK2M9RTB4"),
        ("password", "Q7XK2M9RTB4CC"),
        ("password", "Q7XK2M9RTB4\n"),
        ("password", "Q7XK2M9RTB4C\n"),
        ("password", "Q7XK2M9-TB4C"),
        ("password", "Q7XK2M9RTB4Ｃ"),
        ("password", PASSWORD.encode()),
        ("password", None),
        ("proof_key", bytes(15)),
        ("proof_key", base64.b64encode(PROOF_KEY).decode()),
        ("id", "0123456789abcdef" * 2),
        ("id", "0123456789ABCDEF" * 2 + "\n"),
        ("accepted_on", "7 November"),
        ("more", 1),
    ],
)
def test_wrong_credentials_are_refused_without_quoting_them(name: str, value: Any) -> None:
    with pytest.raises(BadArgumentsError, match="set_credentials") as refused:
        parse_arguments(COMMANDS["broute.set_credentials"], SET | {name: value})
    told = str(refused.value)
    assert refused.value.__suppress_context__
    assert "Q7XK2M9" not in told
    assert base64.b64encode(PROOF_KEY).decode() not in told


@given(
    st.dictionaries(
        st.sampled_from(["password", "id", "proof_key", "first", "last", "limit_a", "wall"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    )
)
def test_any_other_map_is_refused_in_form(given: dict[str, Any]) -> None:
    for spec in COMMANDS.values():
        try:
            parse_arguments(spec, given)
        except BadArgumentsError as refused:
            assert str(refused).startswith(spec.name)  # noqa: PT017 - most are refused, some fit
