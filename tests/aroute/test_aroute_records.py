"""What the gate writes into the journal is read again as it was, and nothing else is believed."""

from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.aroute import records
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.records import Begun, Ended
from meter_runtime.aroute.results import MAX_RESULT_BYTES
from meter_runtime.storage.journal import MAX_PAYLOAD, Entry, State

COUNTERS = st.integers(0, 2**64 - 1)
MARKS = st.binary(min_size=16, max_size=16)
NAMES = st.text(min_size=1, max_size=16)
BEGUN = st.builds(
    Begun,
    issuer=NAMES,
    counter=COUNTERS,
    mark=MARKS,
    answer_to=MARKS,
    name=st.text(max_size=32),
    before=st.integers(0, 2**32 - 1),
    refused=st.none() | st.sampled_from(Code),
    rotates_to=st.none() | st.binary(min_size=32, max_size=32),
)
ENDED = st.builds(Ended, issuer=NAMES, counter=COUNTERS, mark=MARKS, result=st.binary(max_size=99))


def entry(record: Begun | Ended) -> Entry:
    state = State.PENDING if isinstance(record, Begun) else State.DONE
    return Entry(bytes(16), state, 1, records.encode(record))


@given(BEGUN | ENDED)
def test_a_record_is_read_as_it_was_written(record: Begun | Ended) -> None:
    assert records.decode(entry(record)) == record


@given(BEGUN | ENDED)
def test_a_record_cut_short_is_none(record: Begun | Ended) -> None:
    whole = entry(record)
    for size in range(len(whole.payload)):
        assert records.decode(Entry(bytes(16), whole.state, 1, whole.payload[:size])) is None


@given(st.binary(max_size=80), st.sampled_from(State))
def test_other_bytes_are_read_as_a_record_or_none(payload: bytes, state: State) -> None:
    record = records.decode(Entry(bytes(16), state, 1, payload))
    assert record is None or isinstance(record, Begun if state is State.PENDING else Ended)


def test_the_longest_result_fits_an_entry() -> None:
    longest = Ended("x" * 16, 2**64 - 1, bytes(16), bytes(MAX_RESULT_BYTES))
    assert len(records.encode(longest)) <= MAX_PAYLOAD
