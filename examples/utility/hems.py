"""A HEMS in a few lines: joins with what stands on standard input, and reads the power.

Standard input: ``TTY ROUTE_B_ID PASSWORD``, so that they stand in no process list.
"""

import sys

import momonga


def main() -> int:
    tty, route_b_id, password = sys.stdin.read().split()
    hems = momonga.Momonga(route_b_id, password, tty)
    hems.internal_xmit_interval = 0  # seconds of rest between requests: this meter needs none
    try:
        with hems as meter:
            print(f"{meter.get_instantaneous_power():.0f} W")
    except momonga.MomongaSkJoinFailure:
        print("the meter does not let me in")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
