"""The page about the A-route says what the meter obeys and tells."""

from pathlib import Path

from meter_runtime.aroute.document import page

PAGE = Path(__file__).parents[2] / "docs" / "aroute.md"


def test_the_page_of_messages_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "write it anew: python -m meter_runtime.aroute.document > docs/aroute.md"
    )
