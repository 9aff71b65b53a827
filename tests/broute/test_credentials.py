"""Credentials survive storage unchanged, and a stale configuration never brings old ones back."""

import logging
import traceback
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.broute.credential_store import CredentialStore
from meter_runtime.broute.credentials import NO_MARK, BRouteCredentials, Provisioned
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import MeterError
from meter_runtime.secret import Secret
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.vault import MAX_CONTENT, Vault

KEY = bytes(range(32))
PASSWORD = "0123456789AB"
ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

credentials = st.builds(
    lambda route_b_id, password, day: BRouteCredentials(
        LinkCredentials(route_b_id, Secret(password)), day
    ),
    st.text("0123456789ABCDEF", min_size=32, max_size=32),
    st.text(ALPHANUMERIC, min_size=12, max_size=12),
    st.none() | st.dates(),
)
records = st.builds(
    Provisioned,
    st.none() | credentials,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**64 - 1),
)


def customer(password: str = PASSWORD, accepted_on: date | None = None) -> BRouteCredentials:
    return BRouteCredentials(
        LinkCredentials("00112233445566778899AABBCCDDEEFF", Secret(password)), accepted_on
    )


FIRST = customer("FIRST0000000")
SECOND = customer("SECOND000000")
REMOTE = customer("REMOTE000000", date(2026, 11, 1))


class Meter:
    """A meter that is started again and again on the same medium."""

    def __init__(self) -> None:
        self.media = MemoryMedia(Vault.size_for(1), "vault.bin")

    def store(self) -> CredentialStore:
        return CredentialStore.open(Vault.open(self.media, KEY), KEY)

    def start(self, configured: BRouteCredentials | None) -> BRouteCredentials | None:
        provisioned = self.store().seed(configured)
        return None if provisioned is None else provisioned.credentials

    def rewrite(self, configured: BRouteCredentials | None, to: BRouteCredentials | None) -> None:
        store = self.store()
        store.seed(configured)
        store.rewrite(to, 17)


@given(records)
def test_a_record_is_decoded_as_it_was_encoded(record: Provisioned) -> None:
    encoded = record.encode()
    assert len(encoded) == 58
    assert len(encoded) <= MAX_CONTENT
    assert Provisioned.decode(encoded) == record


def test_the_layout_is_fixed() -> None:
    record = Provisioned(customer(accepted_on=date(1, 1, 2)), bytes(range(16)), 258)
    assert record.encode() == (
        bytes((1, 1))
        + bytes(range(16))
        + bytes((0, 0, 0, 0, 0, 0, 1, 2))
        + bytes((0, 0, 0, 2))
        + bytes.fromhex("00112233445566778899AABBCCDDEEFF")
        + b"0123456789AB"
    )
    assert Provisioned(None, bytes(range(16)), 1).encode()[1] == 2


@given(records, st.binary(max_size=70))
def test_any_other_length_is_refused(record: Provisioned, other: bytes) -> None:
    for wrong in (other[:57], record.encode()[:-1], record.encode() + b"\0"):
        if len(wrong) != 58:
            with pytest.raises(MeterError):
                Provisioned.decode(wrong)


@given(st.binary(min_size=58, max_size=58))
def test_whatever_is_decoded_encodes_to_the_same_bytes(content: bytes) -> None:
    for raw in (content, b"\x01\x01" + content[2:], b"\x01\x02" + content[2:]):
        try:
            record = Provisioned.decode(raw)
        except MeterError:
            continue
        assert record.encode() == raw


def test_a_newer_record_is_refused_by_its_version() -> None:
    raw = b"\x02" + Provisioned(customer()).encode()[1:]
    with pytest.raises(MeterError, match=r"newer meter-runtime \(record 2, this one reads 1\)"):
        Provisioned.decode(raw)
    meter = Meter()
    Vault.open(meter.media, KEY).store(raw)
    with pytest.raises(MeterError, match=r"^vault\.bin: .*install that version, or move the file"):
        meter.store()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: b"\0" + raw[1:],
        lambda raw: raw[:1] + b"\x03" + raw[2:],
        lambda raw: raw[:1] + b"\x02" + raw[2:],
        lambda raw: raw[:26] + b"\xff\xff\xff\xff" + raw[30:],
        lambda raw: raw[:-1] + b"\xff",
        lambda raw: raw[:-1] + b" ",
        lambda raw: b"",
    ],
)
def test_nonsense_is_refused_without_being_quoted(spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(MeterError, match="make no sense") as failed:
        Provisioned.decode(spoil(Provisioned(customer()).encode()))
    assert PASSWORD[:8] not in "".join(traceback.format_exception(failed.value))
    assert not isinstance(failed.value.__context__, UnicodeError)  # it would carry the password


@pytest.mark.parametrize(("mark", "counter"), [(b"", 0), (NO_MARK, -1), (NO_MARK, 2**64)])
def test_numbers_out_of_range_are_not_encoded(mark: bytes, counter: int) -> None:
    with pytest.raises(ValueError, match="16 bytes and a counter 64 bits"):
        Provisioned(None, mark, counter).encode()


def test_no_text_shows_the_password() -> None:
    meter = Meter()
    meter.start(customer())
    store = meter.store()
    shown = f"{store!r} {store.current()!r} {vars(store)!r}"
    assert PASSWORD not in shown
    assert PASSWORD.encode() not in meter.media.read(0, meter.media.size)


def test_the_first_configuration_is_taken_over() -> None:
    meter = Meter()
    assert meter.start(None) is None
    assert meter.start(FIRST) == FIRST
    assert meter.store().version == 1


def test_what_was_taken_over_once_is_not_stored_again() -> None:
    meter = Meter()
    for _ in range(3):
        assert meter.start(FIRST) == FIRST
    assert meter.store().version == 1


def test_what_is_stored_stands_without_a_configuration() -> None:
    meter = Meter()
    meter.start(FIRST)
    assert meter.start(None) == FIRST


def test_an_edited_configuration_wins_once() -> None:
    meter = Meter()
    meter.start(FIRST)
    assert meter.start(SECOND) == SECOND
    meter.rewrite(SECOND, REMOTE)
    assert meter.start(SECOND) == REMOTE


def test_an_edited_acceptance_day_is_an_edited_configuration() -> None:
    meter = Meter()
    meter.start(FIRST)
    moved = replace(FIRST, accepted_on=date(2026, 4, 1))
    assert meter.start(moved) == moved


def test_a_stale_configuration_never_reverts_a_remote_rewrite() -> None:
    meter = Meter()
    meter.rewrite(FIRST, REMOTE)
    assert meter.start(FIRST) == REMOTE
    assert meter.start(None) == REMOTE
    assert meter.start(FIRST) == REMOTE


def test_a_stale_configuration_never_reverts_a_revocation() -> None:
    meter = Meter()
    meter.rewrite(FIRST, None)
    record = meter.store().seed(FIRST)
    assert record is not None
    assert record.credentials is None
    assert record.counter == 17


def test_a_meter_provisioned_remotely_needs_no_configuration_and_takes_a_later_one() -> None:
    meter = Meter()
    meter.rewrite(None, REMOTE)
    assert meter.start(None) == REMOTE
    assert meter.start(FIRST) == FIRST


def test_a_commands_counter_outlives_an_edited_configuration() -> None:
    meter = Meter()
    meter.rewrite(FIRST, REMOTE)
    record = meter.store().seed(SECOND)
    assert record is not None
    assert (record.credentials, record.counter) == (SECOND, 17)


def test_a_record_is_stored_as_given() -> None:
    meter = Meter()
    record = Provisioned(REMOTE, b"m" * 16, 5)
    store = meter.store()
    store.store(record)
    assert store.current() == record
    assert meter.store().current() == record


def test_a_damaged_vault_takes_no_configuration_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    meter = Meter()
    meter.rewrite(FIRST, REMOTE)
    meter.media.write(0, b"\xff" * meter.media.size)
    assert meter.start(FIRST) is None
    assert "vault.bin: the credentials are lost; out of service until" in caplog.text
    meter.rewrite(FIRST, REMOTE)
    assert meter.start(FIRST) == REMOTE


def test_the_mark_depends_on_the_device_key() -> None:
    marks = set()
    for key in (KEY, bytes(32)):
        vault = Vault.open(MemoryMedia(Vault.size_for(1)), KEY)
        record = CredentialStore.open(vault, key).seed(FIRST)
        assert record is not None
        marks.add(record.seed_mark)
    assert len(marks) == 2
    assert NO_MARK not in marks
