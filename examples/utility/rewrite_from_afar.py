"""A customer has lost his B-route password: a utility rewrites it from afar, and posts a letter.

Every role is a process of its own, and between them are mutual TLS, a real Mosquitto and a relay:

    python examples/utility/rewrite_from_afar.py

It takes ``meter-runtime[bench,headend]`` and Mosquitto, and leaves a folder with everything that
the roles have kept. Who may see the password are the New System, which makes it, the meter, and the
letter; the script looks for it in all the rest.
"""

import argparse
import json
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

HEMS = Path(__file__).with_name("hems.py")
WITHIN_S = 60.0
JST = timezone(timedelta(hours=9))


def main() -> int:
    parser = argparse.ArgumentParser(description="Rewrite a B-route password from afar.")
    parser.add_argument("folder", nargs="?", type=Path, help="for everything (default: a new one)")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="utility-"))
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as running:
        play(Stage(folder, running))
    return 0


class Stage:
    """The folder, and the processes that run in it."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self.folder = folder
        self.lab = folder / "lab"
        self._running = running

    def say(self, text: str) -> None:
        print(f"\n== {text}", flush=True)

    def start(self, name: str, *command: str | Path) -> None:
        """A process that runs on, its output in a file."""
        self._running.enter_context(_process(self.folder / f"{name}.log", command))

    def run(self, *words: str | Path) -> str:
        """A command of ``meter-runtime`` that ends; what it prints."""
        command = ["meter-runtime", *map(str, words)]
        print(f"$ {shlex.join(command)}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "meter_runtime", *command[1:]],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{done.stderr.strip()}\n{done.stdout}")
        return done.stdout

    def headend(self, *words: str | Path) -> str:
        """An action of the utility's side."""
        return self.run("headend", *words, "--lab", self.lab)


def play(stage: Stage) -> None:
    stage.say("keys for every role, and a broker that knows them")
    broker_port, business_port, control_port = (str(free_port()) for _ in range(3))
    stage.run(
        *("keys", "init", stage.lab, "--broker-port", broker_port),
        *("--business-port", business_port, "--control-port", control_port),
    )
    mosquitto = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin") or "mosquitto"
    stage.start("mosquitto", mosquitto, "-c", stage.lab / "broker" / "mosquitto.conf")
    for role in ("relay", "scs", "mdms"):
        program = (sys.executable, "-m", "meter_runtime", "headend", role, "--lab", stage.lab)
        stage.start(role, *program)

    stage.say("a meter, and a HEMS that reads it")
    bench = start_bench(stage)
    meter = bench["meters"][0]
    tty, route_b_id = meter["hems_modules"][0]["tty"], meter["route_b_id"]
    assert read(tty, route_b_id, meter["password"]), "the HEMS cannot read"

    stage.say("the New System learns of staff, customer and meter")
    stage.headend("staff", "add", "Abe", "--role", "administrator")
    stage.headend("staff", "add", "Hara", "--role", "registrar", "--by", "Abe")
    stage.headend("staff", "add", "Mori", "--role", "broute", "--by", "Abe")
    address = "1-2-3 Nakanoshima, Osaka"
    stage.headend("supply-point", "add", "SP-1", "--address", address, "--by", "Hara")
    stage.headend(
        *("contract", "add", "C-1001", "--customer", "Sato Hana", "--supply-point", "SP-1"),
        *("--capacity", "40", "--accepted", time.strftime("%Y-%m-%d"), "--by", "Hara"),
    )
    stage.headend(
        *("meter", "add", meter["meter_id"], "--supply-point", "SP-1"),
        *("--route-b-id", route_b_id, "--by", "Hara"),
    )

    stage.say("the customer lost the letter: a new password goes to the meter")
    begun = time.monotonic()
    issued = stage.headend(
        *("issue", "broute.rewrite_password", "--meter", meter["meter_id"], "--by", "Mori"),
        *("--reason", "letter lost", "--wait", "60", "--json"),
    )
    request = json.loads(issued)
    print(f"the meter said {request['code']} {time.monotonic() - begun:.1f} s later")

    stage.say("only now is there a letter")
    letter = stage.folder / "letter.txt"
    stage.headend("letter", request["id"], "--out", letter, "--by", "Mori")
    password = password_in(letter)

    stage.say("the old password is worth nothing, the new one lets the HEMS in")
    assert not read(tty, route_b_id, meter["password"]), "the old password still works"
    assert read(tty, route_b_id, password), "the new password does not work"

    stage.say("half-hours reach the MDMS")
    yesterday = (datetime.now(JST) - timedelta(days=1)).date().isoformat()
    day = wait_for(lambda: whole_day(stage, yesterday), "the half-hours of yesterday")
    print(f"{yesterday}: {day:.1f} kWh from the grid")

    stage.say("nobody else has seen the password")
    found = [path for path in files_of(stage.folder) if password.encode() in path.read_bytes()]
    assert not found, f"the password is in {', '.join(map(str, found))}"
    print(f"everything is in {stage.folder}")


def start_bench(stage: Stage) -> dict[str, Any]:
    """The meter's laboratory, once it serves; the ready line is read and not kept."""
    ready = stage.folder / "ready.json"
    stage.start(
        "bench",
        *(sys.executable, "-m", "meter_runtime", "bench", "--no-ui", "--lab", stage.lab),
        *("--ready-file", ready, "--state", stage.folder / "state", "--history", "1"),
        *("--capture", stage.folder / "air.pcapng", "--trace", stage.folder / "trace.jsonl"),
    )
    document: dict[str, Any] = json.loads(
        wait_for(lambda: ready.read_text() if ready.exists() else None, "the bench")
    )
    return document


def read(tty: str, route_b_id: str, password: str) -> bool:
    """Whether a HEMS gets in; it says what it reads."""
    said = f"{tty} {route_b_id} {password}"
    hems = [sys.executable, str(HEMS)]
    done = subprocess.run(
        hems, input=said, capture_output=True, text=True, timeout=120, check=False
    )
    print(f"HEMS: {done.stdout.strip() or done.stderr.strip()}", flush=True)
    return done.returncode == 0


def whole_day(stage: Stage, day: str) -> float | None:
    """The kWh of a day, once the MDMS has all its half-hours."""
    stored = json.loads(stage.headend("readings", "--day", day, "--json"))
    used = [half_hour["used_wh"] for half_hour in stored[0]["half_hours"]] if stored else [None]
    return None if None in used else sum(used) / 1000


def password_in(letter: Path) -> str:
    """As the customer would type it."""
    lines = letter.read_text().splitlines()
    return "".join(next(line for line in lines if line.startswith("Password")).split()[1:])


def files_of(folder: Path) -> Iterator[Path]:
    """What the roles wrote: logs, databases, spool, queues, captures, traces, the meter's state."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def wait_for(look: Any, what: str) -> Any:
    """What ``look`` gives, as soon as it gives something."""
    deadline = time.monotonic() + WITHIN_S
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come within {WITHIN_S:g} s")
        time.sleep(0.2)
    return found


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def _process(log: Path, command: tuple[str | Path, ...]) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(list(map(str, command)), stdout=file, stderr=file)
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)


if __name__ == "__main__":
    sys.exit(main())
