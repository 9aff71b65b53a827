"""Why a meter serves nobody, and that whoever listens hears when that changes."""

from pathlib import Path

from fuzz.swap_room import HOME, room
from fuzz.virtual_time import in_virtual_time
from meter_runtime import config as cfg
from meter_runtime import report
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.diagnosis import DiagnosisChanged, Expected, Message, NotServed
from meter_runtime.broute.status import REWRITE_GRACE_S
from meter_runtime.storage.stores import open_file_stores

SWAP_S = 2.0
CUSTOMER = BRouteCredentials(HOME)


@in_virtual_time
async def test_service_and_its_absence_are_told_from_the_first_password_to_the_end(
    tmp_path: Path,
) -> None:
    async with room(tmp_path, broute=cfg.BRoute()) as here:
        await here.lives(SWAP_S)
        crew = here.meter.crew
        heard: list[tuple[Message, bool]] = []
        here.meter.bus.subscribe(
            DiagnosisChanged,
            lambda change: heard.append((change.verdict.message, change.verdict.alarm)),
        )

        def shown() -> str:
            found: str = report.status(here.meter)["broute"]["why_not"]["code"]
            return found

        assert shown() == "no_credentials"
        assert crew.diagnosis() == (0, 0)

        await here.meter.provision(CUSTOMER)
        await here.lives(SWAP_S)
        assert report.status(here.meter)["broute"]["expected_because"] == "rewritten"
        assert heard[-1] == (Message.HEMS_UNCONNECTED, False)
        assert crew.diagnosis()[0] == 3

        await here.body.unplug("metering")
        await here.lives(SWAP_S)
        assert report.status(here.meter)["broute"]["why_not"]["findings"] == ["U-01"]
        assert heard[-1] == (Message.NOT_IN_SERVICE, True)
        assert crew.diagnosis() == (0, 0)

        await here.body.plug("metering")
        await here.lives(SWAP_S)
        assert heard[-1] == (Message.HEMS_UNCONNECTED, False)

        await here.meter.provisioning.revoke(1)
        assert shown() == "revoked"
        assert heard[-1] == (Message.NOT_IN_SERVICE, False)


@in_virtual_time
async def test_a_rewrite_while_the_unit_is_out_is_remembered_for_the_one_that_is_put_in(
    tmp_path: Path,
) -> None:
    async with room(tmp_path) as here:
        await here.lives(SWAP_S)
        assert here.meter.broute is not None
        now = here.clock.monotonic()
        assert here.meter.broute.link.verdict(now).expected is Expected.REJOINING
        await here.body.unplug("communication")
        await here.lives(SWAP_S)
        await here.meter.provision(CUSTOMER)
        await here.lives(SWAP_S)
        await here.body.swap("communication")
        await here.lives(SWAP_S)
        broute = here.meter.broute
        assert broute is not None
        assert broute.link.verdict(here.clock.monotonic()).expected is Expected.REWRITTEN
        assert broute.link.verdict(here.clock.monotonic() + REWRITE_GRACE_S).alarm


@in_virtual_time
async def test_a_vault_that_is_damaged_is_told_as_an_alarm(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        await here.lives(SWAP_S)
    stores = open_file_stores(tmp_path, fine=False)
    stores.vault.write(0, b"\xa5" * stores.vault.size)
    stores.vault.flush()
    stores.close()
    async with room(tmp_path) as here:
        await here.lives(SWAP_S)
        shown = report.status(here.meter)["broute"]
        assert shown["why_not"]["code"] == NotServed.CREDENTIALS_LOST
        assert shown["alarm"]
