"""A HEMS for tests of the laboratory's records: it visits the meter and is gone."""

import asyncio

from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.scripted_hems import Hems, arguments


async def visit(bench: Bench, *options: str, password: str | None = None) -> int:
    """Join, read, leave, as the options of the scripted HEMS say; its exit status."""
    given = [bench.tty, bench.route_b_id, "--every", "0.05", *options]
    hems = Hems(arguments(given), bench.password if password is None else password)
    return await asyncio.to_thread(hems.live)
