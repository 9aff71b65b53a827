"""The page about properties says what the meter serves."""

from pathlib import Path

from meter_runtime.broute.echonet.document import page

PAGE = Path(__file__).parents[2] / "docs" / "echonet-properties.md"


def test_the_page_of_properties_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "write it anew: python -m meter_runtime.broute.echonet.document > docs/…"
    )
