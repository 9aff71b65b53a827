"""``python -m hwtest.inside.pc PORT``: the checks of the PC."""

import sys

from hwtest.inside import (
    checks,
    clock_checks,
    gpio_checks,
    relay_checks,
    s0_checks,
    stub_checks,
)

CHECKS = (
    *gpio_checks.CHECKS,
    *s0_checks.CHECKS,
    *relay_checks.CHECKS,
    *stub_checks.CHECKS,
    *clock_checks.CHECKS,
)

if __name__ == "__main__":
    checks.run(checks.ResultPort(sys.argv[1]), CHECKS)
