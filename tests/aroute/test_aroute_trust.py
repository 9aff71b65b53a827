"""Whom the meter obeys stands in one file, and each mistake in it is told in one line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.aroute.commands import COMMANDS
from meter_runtime.aroute.dispatch import Way
from meter_runtime.aroute.trust import PATTERNS, Issuer, Trust, load_trust
from meter_runtime.errors import MeterError, UsageError

KEY = bytes(range(32)).hex()
OTHER = bytes(range(1, 33)).hex()
GOOD = f"""
[[issuer]]
name = "new-system"
key = "{KEY}"
commands = ["broute.*", "keys.rotate"]

[[issuer]]
name = "scs"
key = "{OTHER}"
commands = ["register.read"]

[[carrier]]
name = "scs"
key = "{KEY.upper()}"
way = "control"

[[carrier]]
name = "handy-7"
key = "{OTHER}"
way = "terminal"
"""


def trust_in(folder: Path, text: str) -> Trust:
    path = folder / "trust.toml"
    path.write_text(text)
    return load_trust(path)


def test_issuers_and_carriers_are_found_by_name(tmp_path: Path) -> None:
    trust = trust_in(tmp_path, GOOD)
    issuer = trust.issuer("new-system")
    assert issuer is not None
    assert issuer.public_key.hex() == KEY
    assert trust.issuer("handy-7") is None
    carrier = trust.carrier("scs", Way.CONTROL)
    assert carrier is not None
    assert carrier.public_key.hex() == KEY
    assert trust.carrier("scs", Way.TERMINAL) is None
    assert trust.carrier("handy-7", Way.TERMINAL) is not None
    assert trust.carrier("new-system", Way.CONTROL) is None


def test_an_issuer_may_what_its_patterns_cover(tmp_path: Path) -> None:
    trust = trust_in(tmp_path, GOOD)
    may = {name for name in COMMANDS if trust.permits("new-system", name)}
    assert may == {
        "broute.set_credentials",
        "broute.rewrite_password",
        "broute.revoke",
        "broute.status",
        "keys.rotate",
    }
    assert {name for name in COMMANDS if trust.permits("scs", name)} == {"register.read"}
    assert not any(trust.permits("nobody", name) for name in COMMANDS)


def test_a_star_covers_everything_and_nothing_covers_nothing() -> None:
    assert all(Issuer("a", bytes(32), ("*",)).may(name) for name in COMMANDS)
    assert not any(Issuer("a", bytes(32), ()).may(name) for name in COMMANDS)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_covers_a_command(pattern: str) -> None:
    assert any(Issuer("a", bytes(32), (pattern,)).may(name) for name in COMMANDS)


def test_a_file_without_tables_trusts_nobody(tmp_path: Path) -> None:
    assert trust_in(tmp_path, "# nobody yet\n") == Trust()


def with_issuer(**changes: str) -> str:
    fields = {"name": '"a"', "key": f'"{KEY}"', "commands": '["*"]', **changes}
    lines = "".join(f"{key} = {value}\n" for key, value in fields.items() if value)
    return f"[[issuer]]\n{lines}"


def with_carrier(**changes: str) -> str:
    fields = {"name": '"a"', "key": f'"{KEY}"', "way": '"control"', **changes}
    lines = "".join(f"{key} = {value}\n" for key, value in fields.items() if value)
    return f"[[carrier]]\n{lines}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[isuer]]\n", r'unknown key "isuer"; did you mean "issuer"\?'),
        ("issuer = 3\n", r"issuer is not a list of tables; write \[\[issuer\]\]"),
        ("issuer = [3]\n", r"issuer is not a list of tables; write \[\[issuer\]\]"),
        ("[issuer]\n", r"issuer is not a list of tables; write \[\[issuer\]\]"),
        (with_issuer(nam='"b"'), r'\[\[issuer\]\] 1: unknown key "nam"; did you mean "name"\?'),
        (with_issuer(commands=""), r"\[\[issuer\]\] 1: commands is missing"),
        (with_issuer(key='"12"'), r"\[\[issuer\]\] 1: key is not 64 hex digits"),
        (with_issuer(key="12"), r"\[\[issuer\]\] 1: key is not 64 hex digits"),
        (with_issuer(key=f'"{KEY[:-1]}g"'), r"\[\[issuer\]\] 1: key is not 64 hex digits"),
        (with_issuer(key=f'"{"0" * 64}"'), r"\[\[issuer\]\] 1: key is all zeros"),
        (with_issuer(name='""'), r"\[\[issuer\]\] 1: name is not 1 to 16 of"),
        (with_issuer(name='"Capital"'), r"\[\[issuer\]\] 1: name is not 1 to 16 of"),
        (with_issuer(name='"seventeen-letters"'), r"\[\[issuer\]\] 1: name is not 1 to 16 of"),
        (with_issuer(name='"two\\nlines"'), r"\[\[issuer\]\] 1: name is not 1 to 16 of"),
        (with_issuer(name="7"), r"\[\[issuer\]\] 1: name is not 1 to 16 of"),
        (with_issuer(commands='"*"'), r"\[\[issuer\]\] 1: commands is not a list of names"),
        (with_issuer(commands="[1]"), r"\[\[issuer\]\] 1: commands is not a list of names"),
        (
            with_issuer(commands='["broute.rewrite"]'),
            r'unknown command "broute.rewrite"; did you mean "broute.rewrite_password"\?',
        ),
        (with_issuer(commands='["switch*"]'), r'"switch\*"; did you mean "switch.\*"\?'),
        (with_carrier(way='"contrl"'), r'\[\[carrier\]\] 1: .*; did you mean "control"\?'),
        (with_carrier(way="[]"), r"\[\[carrier\]\] 1: unknown way"),
        (with_carrier(commands="[]"), r'\[\[carrier\]\] 1: unknown key "commands"'),
        (
            with_issuer() + with_issuer(key=f'"{OTHER}"'),
            r'two tables \[\[issuer\]\] are called "a"; rename one',
        ),
        (
            with_carrier() + with_carrier(name='"b"'),
            r'\[\[carrier\]\] "b" has the key of another; each its own',
        ),
        (9 * with_issuer(), r"9 tables \[\[issuer\]\] are too many; at most 8"),
        (9 * with_carrier(), r"9 tables \[\[carrier\]\] are too many; at most 8"),
        ("[[issuer]", "not TOML"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=rf"^\S*trust\.toml: .*{told}") as wrong:
        trust_in(tmp_path, text)
    assert "\n" not in str(wrong.value)


def test_a_missing_file_is_told_with_the_option_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"trust\.toml: name the file .*\[aroute\] trust"):
        load_trust(tmp_path / "trust.toml")


def test_a_file_that_everyone_can_change_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    path.write_text(GOOD)
    path.chmod(0o666)
    with pytest.raises(UsageError, match="everyone can change whom the meter obeys; chmod o-w"):
        load_trust(path)


_VALUES = st.recursive(
    st.integers() | st.text("abc*.-", max_size=5) | st.booleans(),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)
_TABLES = st.dictionaries(st.sampled_from(["name", "key", "commands", "way", "x"]), _VALUES)


@given(st.sampled_from(["issuer", "carrier"]), st.lists(_TABLES, max_size=3))
def test_whatever_stands_there_is_understood_or_told(
    tmp_path_factory: pytest.TempPathFactory, kind: str, tables: list[dict[str, object]]
) -> None:
    text = "".join(
        f"[[{kind}]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
        for table in tables
    )
    told = ""
    try:
        trust_in(tmp_path_factory.getbasetemp(), text)
    except MeterError as wrong:
        told = str(wrong)
    assert "\n" not in told


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
