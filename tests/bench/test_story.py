"""The long story over good and bad lines, and that a seed tells it again to the letter."""

import pytest
from story import Transport, World

from meter_runtime.bench.air import FAST, REAL, AirPace

TRANSPORTS = {
    "normal": Transport(),
    "one byte at a time": Transport(chunk=1),
    "lossy air": Transport(loss=0.2),
    "delayed": Transport(latency_s=0.15, air_delay_s=0.1),
    "all of it": Transport(chunk=7, latency_s=0.05, loss=0.1, air_delay_s=0.05),
}


@pytest.mark.parametrize("name", TRANSPORTS)
@pytest.mark.parametrize("hems", ["bp35a1", "bp35c2:echo=0"])
def test_a_meter_and_a_hems_live_together(name: str, hems: str) -> None:
    world = World(TRANSPORTS[name], seed=1, hems=hems)
    world.live()
    assert world.hems is not None
    assert world.hems.done
    told = world.trace
    assert told.count("meter LinkStarted") == 1
    assert told.count("meter AuthOk") >= 4  # join, re-authentication, two more joins
    assert told.count("meter Received") >= 8
    assert told.count("meter SessionExpired") == 1
    assert told.count("meter PeerLeft") >= 1
    assert told.count("EVENT 29") == 2
    assert told.count("meter UnitFault") == 0
    if not world.transport.loss:
        assert told.count("EVENT 24") == 0
        assert told.count("waited in vain") == 0
        assert told.count("meter AuthOk") == 4
        assert told.count("meter Received") == 8


@pytest.mark.parametrize("name", ["normal", "lossy air"])
@pytest.mark.parametrize("pace", [REAL, FAST], ids=["real", "fast"])
def test_the_same_seed_tells_the_same_story_to_the_letter(name: str, pace: AirPace) -> None:
    def story(seed: int) -> str:
        world = World(TRANSPORTS[name], seed, pace)
        world.live()
        return "\n".join(world.trace.lines)

    first = story(1)
    assert first == story(1)
    assert first != story(2)
    assert len(first) > 50_000


@pytest.mark.parametrize("seed", range(2, 8))
def test_a_fifth_of_all_frames_lost_delays_the_story_but_never_ends_it(seed: int) -> None:
    world = World(TRANSPORTS["lossy air"], seed)
    world.live()
    assert world.hems is not None
    assert world.hems.done
