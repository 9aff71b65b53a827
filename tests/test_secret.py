"""A secret does not leak by any of the ways a value usually becomes text."""

import copy
import json
import logging
import pickle
import traceback
from dataclasses import dataclass

import pytest

from meter_runtime.secret import MASK, Secret

CLEAR = "0123456789AB"


@dataclass(frozen=True)
class Holder:
    password: Secret


def test_no_text_of_it_shows_the_value(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(CLEAR)
    logging.getLogger("test").warning("joined with %s and %r", secret, secret)
    texts = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret:>20}",
        f"{secret!r}",
        "%s" % secret,  # noqa: UP031 - the old way leaks as easily as the new
        repr([secret]),
        repr(Holder(secret)),
        caplog.text,
    ]
    assert not [text for text in texts if CLEAR in text]
    assert all(MASK in text for text in texts)


def test_a_traceback_does_not_show_it() -> None:
    with pytest.raises(ValueError, match=MASK) as failed:
        raise ValueError(Secret(CLEAR))
    assert CLEAR not in "".join(traceback.format_exception(failed.value))


def test_it_is_not_serialised() -> None:
    with pytest.raises(TypeError, match="not serialised"):
        pickle.dumps(Secret(CLEAR))
    with pytest.raises(TypeError, match="not serialised"):
        copy.copy(Secret(CLEAR))
    with pytest.raises(TypeError):
        json.dumps(Secret(CLEAR))


def test_it_has_no_attributes_to_list() -> None:
    assert not hasattr(Secret(CLEAR), "__dict__")


def test_equal_secrets_are_equal_and_a_bare_string_is_not() -> None:
    assert Secret(CLEAR) == Secret(CLEAR)
    assert Secret(CLEAR) != Secret("パスワード")
    assert Secret(CLEAR) != CLEAR
    assert {Secret(CLEAR)} == {Secret(CLEAR)}


def test_the_place_of_use_gets_the_value() -> None:
    assert Secret(CLEAR).reveal() == CLEAR
    assert len(Secret(CLEAR)) == 12
