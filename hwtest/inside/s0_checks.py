"""The S0 driver, :mod:`meter_runtime.units.metering.s0`, as a Pi 4's profile wires it."""

import asyncio

from hwtest.inside.pi_header import Header, header
from hwtest.inside.pulse_source import PulseSource, Shape, pulse_source
from meter_runtime.units.metering import s0

PULSES_PER_KWH = 1000
MWH_PER_PULSE = 1000
OPTIONS = {"pulses_per_kwh": PULSES_PER_KWH, "serial": "HWTEST", "two_way": True}


async def pulse(
    source: PulseSource,
    slot: Header,
    role: str,
    pulses: int,
    half_ms: float,
    *,
    shape: Shape = "clean",
) -> float:
    """Pulses of an open collector, which pulls the line down; how long each took, in seconds."""
    began, ended = await source.pulse(pulses, half_ms, slot.pull_file(role), shape, idle="up")
    return (ended - began) / 1e9 / pulses


async def s0_counts_every_pulse_of_the_standards_fastest() -> str:
    forward, reverse = 100, 40
    with header("metering") as slot:
        unit = await s0.build(slot.context(OPTIONS))
        async with pulse_source() as source:
            pulsing = asyncio.create_task(pulse(source, slot, s0.FORWARD, forward, 30))
            while not pulsing.done():
                sample = await unit.read()
                await asyncio.sleep(0.5)
            period_s = pulsing.result()
            ended = await unit.read()
            await pulse(source, slot, s0.REVERSE, reverse, 30)
            both = await unit.read()
        findings = await unit.self_test()
        await unit.close()
    assert (ended.forward_mwh, ended.reverse_mwh) == (forward * MWH_PER_PULSE, 0), ended
    assert (both.forward_mwh, both.reverse_mwh) == (
        forward * MWH_PER_PULSE,
        reverse * MWH_PER_PULSE,
    ), both
    assert not findings, findings
    flowing_w = 3_600_000 / PULSES_PER_KWH / period_s
    assert abs(sample.power_w - flowing_w) < 0.1 * flowing_w, (sample.power_w, flowing_w)
    return (
        f"{forward} pulses of {period_s * 1000:.0f} ms forward and {reverse} reverse:"
        f" {both.forward_mwh} and {both.reverse_mwh} mWh; {sample.power_w} W where"
        f" {flowing_w:.0f} W flow"
    )


async def s0_counts_what_it_could_not_read_in_time() -> str:
    pulses = 1500
    with header("metering") as slot:
        unit = await s0.build(slot.context(OPTIONS | {"debounce_ms": 0}))
        async with pulse_source() as source:
            period_s = await pulse(source, slot, s0.FORWARD, pulses, 1.0)
        sample = await unit.read()
        findings = await unit.self_test()
        await unit.close()
    assert sample.forward_mwh == pulses * MWH_PER_PULSE, sample
    assert any("counted by their numbers" in finding for finding in findings), findings
    return (
        f"{pulses} pulses at {1 / period_s:.0f} Hz, read once at the end: {sample.forward_mwh} mWh"
    )


async def s0_ignores_bouncing_contacts() -> str:
    pulses = 20
    with header("metering") as slot:
        unit = await s0.build(slot.context(OPTIONS))
        async with pulse_source() as source:
            await pulse(source, slot, s0.FORWARD, pulses, 40.0, shape="bouncing")
        sample = await unit.read()
        await unit.close()
    assert sample.forward_mwh == pulses * MWH_PER_PULSE, sample
    return f"{pulses} pulses whose edges bounce three times: {sample.forward_mwh} mWh"


CHECKS = (
    s0_counts_every_pulse_of_the_standards_fastest,
    s0_counts_what_it_could_not_read_in_time,
    s0_ignores_bouncing_contacts,
)
