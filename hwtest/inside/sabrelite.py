"""``python -m hwtest.inside.sabrelite PORT devices|writing``: what the SABRE Lite does."""

import sys

from hwtest.inside import checks

if __name__ == "__main__":
    port = checks.ResultPort(sys.argv[1])
    if sys.argv[2] == "devices":
        from hwtest.inside import fram_checks, nameplate_checks, rtc_checks

        checks.run(port, (*fram_checks.CHECKS, *nameplate_checks.CHECKS, *rtc_checks.CHECKS))
    else:
        from hwtest.inside.writing import write_until_the_power_fails

        write_until_the_power_fails(port)
