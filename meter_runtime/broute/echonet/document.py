"""The page `docs/echonet-properties.md`, written from the tables the node serves by.

``python -m meter_runtime.broute.echonet.document > docs/echonet-properties.md``
"""

import sys
from typing import TypeVar

from meter_runtime.broute.echonet import meter_class, node_profile
from meter_runtime.broute.echonet.data import PROFILES
from meter_runtime.broute.echonet.definition import PropertyDefinition, PropertyMaps, maps_of
from meter_runtime.broute.echonet.meter_class import served_rows
from meter_runtime.markdown import markdown_table

S = TypeVar("S")

_INTRODUCTION = """\
# ECHONET Lite properties

What the home can ask the meter for. This page is generated from the tables the meter answers by:
`python -m meter_runtime.broute.echonet.document > docs/echonet-properties.md`.

Numbers are hexadecimal codes and big-endian data. Access: G = Get, S = Set, I = in the
announcement map. A register's energy is count × D3 × E1 in kWh.
"""


def page() -> str:
    """The whole page, in Markdown."""
    parts = [
        _INTRODUCTION,
        "## Low-voltage smart meter, object 028801\n",
        markdown_table(
            ("EPC", "property", "日本語", "bytes", "access", "content", *PROFILES),
            (
                (*_columns(row), *(_served(row, profile) for profile in PROFILES))
                for row in meter_class.TABLE
            ),
        ),
        "● served, ◐ served by two-way meters only.\n",
        "### Property maps\n",
        markdown_table(
            ("profile", "meter", "properties", "9D", "9E", "9F"),
            (
                (profile, ways, *_maps(maps_of(served_rows(profile, two_way=two_way))))
                for profile in PROFILES
                for two_way, ways in ((False, "one-way"), (True, "two-way"))
            ),
        ),
        "## Node profile, object 0EF001\n",
        markdown_table(
            ("EPC", "property", "日本語", "bytes", "access", "content"),
            (_columns(row) for row in node_profile.TABLE),
        ),
    ]
    return "\n".join(parts)


def _columns(row: PropertyDefinition[S]) -> tuple[str, ...]:
    return (f"{row.epc:02X}", row.name, row.name_ja, row.size, _access(row), row.content)


def _access(row: PropertyDefinition[S]) -> str:
    rules = (("G", row.gettable), ("S", row.write is not None), ("I", row.announced))
    return " ".join(letter for letter, holds in rules if holds)


def _served(row: PropertyDefinition[S], profile: str) -> str:
    if profile not in row.profiles:
        return ""
    return "◐" if row.two_way_only else "●"


def _maps(maps: PropertyMaps) -> tuple[str, ...]:
    written = (
        f"`{edt.hex(' ').upper()}`" for edt in (maps.announced, maps.settable, maps.gettable)
    )
    return (str(maps.gettable[0]), *written)


def main() -> None:
    """Write the page to standard output, in UTF-8 whatever the terminal speaks."""
    sys.stdout.buffer.write(page().encode())


if __name__ == "__main__":
    main()
