"""A pseudo-terminal tells when programs come and go."""

import os
import sys
from pathlib import Path

import pytest

from meter_runtime.comm.pty import PtyPort

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs inotify")


async def test_the_first_to_open_and_the_last_to_close_are_noticed(tmp_path: Path) -> None:
    link = tmp_path / "tty"
    port = PtyPort(str(link))
    told: list[bool] = []
    port.on_opened = told.append

    def opened() -> int:
        return os.open(link, os.O_RDWR | os.O_NOCTTY)

    def anybody() -> bool:
        return port.opened

    first = opened()
    assert anybody()
    second = opened()
    assert anybody()
    os.close(first)
    assert anybody()
    os.close(second)
    assert not anybody()
    os.close(opened())
    assert not anybody()
    assert told == [True, False, True, False]
    await port.close()
