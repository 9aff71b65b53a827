"""Which modules there are, and how one is asked for."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.bench.module.profiles import PROFILES, parse_module_option
from meter_runtime.comm.skstack.dialects import DSE, SE
from meter_runtime.errors import UsageError


def test_every_product_in_the_field_has_a_profile() -> None:
    assert {name: profile.dialect for name, profile in PROFILES.items()} == {
        "bp35a1": SE,
        "wsr35a1": SE,
        "rl7023-ips": SE,
        "bp35c2": DSE,
        "rs-wsuha-p": DSE,
        "rl7023-dss": DSE,
    }


def test_a_bare_profile_has_its_usual_state_and_ten_milliseconds_of_pace() -> None:
    options = parse_module_option("bp35a1")
    assert options.profile is PROFILES["bp35a1"]
    assert options.profile.echo
    assert options.pace_s == 0.010
    assert options.tty is None


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("echo", [0, 1])
@pytest.mark.parametrize("wopt", [0, 1])
def test_every_initial_state_can_be_chosen(profile: str, echo: int, wopt: int) -> None:
    options = parse_module_option(f"{profile}:echo={echo},wopt={wopt},pace=0ms,tty=/tmp/x")
    assert (options.profile.echo, options.profile.hex_data) == (bool(echo), bool(wopt))
    assert (options.pace_s, options.tty) == (0.0, "/tmp/x")


@pytest.mark.parametrize(("text", "seconds"), [("10ms", 0.01), ("1.5s", 1.5), ("0s", 0.0)])
def test_pace_is_a_time(text: str, seconds: float) -> None:
    assert parse_module_option(f"bp35c2:pace={text}").pace_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("bp35a", "did you mean 'bp35a1'?"),
        ("BP35C2", "did you mean 'bp35c2'?"),
        ("quux", "there are bp35a1"),
        ("bp35a1:ehco=1", "did you mean 'echo'?"),
        ("bp35a1:zzz=1", "there are echo"),
        ("bp35a1:echo=2", "write echo=0 or echo=1"),
        ("bp35a1:echo", "has no value"),
        ("bp35a1:tty=", "has no value"),
        ("bp35a1:echo=1,echo=0", "given twice"),
        ("bp35a1:pace=10", "as in pace=10ms"),
        ("bp35a1:pace=60s", "0 to 10 s"),
        ("bp35a1:scan=5", "scan=3 or scan=4"),
    ],
)
def test_a_wrong_option_names_the_nearest_right_one(option: str, hint: str) -> None:
    with pytest.raises(UsageError, match=r".") as caught:
        parse_module_option(option)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(alphabet="bp35ac12rlsuhd-:=,echowtyn 0", max_size=40))
def test_any_text_is_an_option_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_module_option(text).profile.name in PROFILES
