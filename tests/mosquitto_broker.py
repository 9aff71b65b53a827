"""A real Mosquitto of the test's own: on a free port, with what it keeps in the test's folder.

Plain by default; with a laboratory's folder it is that laboratory's broker: mutual TLS, and rights
by the name in the certificate. It can be stopped in order, killed, frozen and started again.
"""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from meter_runtime.headend.lab import Lab

PATIENCE_S = 10.0
"""It serves within 50 ms; a loaded machine is given more."""


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def mosquitto() -> str:
    """Where the program is; the test is skipped where it is not."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("mosquitto is missing; install it: sudo apt-get install mosquitto")
    return found


class MosquittoBroker:
    """In a ``with`` it runs; whatever state it is in, it is gone afterwards.

    ``settings`` are further lines of ``mosquitto.conf``; ``users`` maps names to passwords, and
    where there is one nobody gets in without. Sessions and what is queued are saved at each change.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lab: Lab | None = None,
        port: int | None = None,
        settings: str = "",
        users: dict[str, str] | None = None,
    ) -> None:
        self._program = mosquitto()
        self._folder = folder / "mosquitto"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self.log = self._folder / "mosquitto.log"
        self.host = "localhost" if lab else "127.0.0.1"
        if lab is None:
            self.port = port or free_port()
            self.url = f"mqtt://{self.host}:{self.port}"
            text = self._plain(users or {})
        else:
            self.url = lab.broker_url
            self.port = int(self.url.rpartition(":")[2])
            text = (lab.folder("broker") / "mosquitto.conf").read_text()
        text = text.replace("autosave_interval 60", "")
        text += f"autosave_interval 1\nautosave_on_changes true\nlog_type all\n{settings}\n"
        self._configuration = self._folder / "mosquitto.conf"
        self._configuration.write_text(text)

    def _plain(self, users: dict[str, str]) -> str:
        lines = [
            "user root",
            f"listener {self.port} {self.host}",
            f"allow_anonymous {'false' if users else 'true'}",
            "persistence true",
            f"persistence_location {self._folder}/",
            "max_queued_messages 5000",
            "log_dest stderr",
        ]
        if users:
            passwords = self._folder / "passwords"
            passwords.touch()
            passwords.chmod(0o600)
            for name, password in users.items():
                command = ["mosquitto_passwd", "-b", str(passwords), name, password]
                subprocess.run(command, check=True, capture_output=True)  # noqa: S603
            lines.append(f"password_file {passwords}")
        return "\n".join(lines) + "\n"

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        assert self._process is None, "it runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a program of the system
                [self._program, "-c", str(self._configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection((self.host, self.port), 1.0).close()
            except OSError:
                ended = self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    self.kill()
                    raise AssertionError(
                        f"mosquitto does not serve:\n{self.log.read_text()}"
                    ) from None
                time.sleep(0.01)
            else:
                return

    def stop(self) -> None:
        """End it in order: it saves what it holds."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Keep its connections open, and do not answer on them."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after :meth:`freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
