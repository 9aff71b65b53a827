"""The virtual modules explained to people: what tells one product from another."""

from meter_runtime.bench.module.profiles import PROFILES, Profile

_KEYS = """\
Each may be given as PROFILE:key=value,… where the state at power-up matters:
  echo=0|1    command echo (register SFE)
  wopt=0|1    ERXUDP payload raw or in hex (option byte WOPT)
  ropt=0|1    the commands WOPT, ROPT and SKAPPVER fail with ER04, or are known
  scan=3|4    the number of SKSCAN's arguments
  pace=TIME   what it takes before it answers: 10ms, 0s
  tty=PATH    a fixed path for its serial device

example:
  meter-runtime bench --hems-module bp35c2:echo=0,wopt=1,tty=/tmp/wisun
"""


def explain_modules() -> str:
    """Each profile in a few lines, then the keys that change it."""
    return "\n".join([*map(_explain, PROFILES.values()), _KEYS])


def _explain(profile: Profile) -> str:
    dual = profile.dialect.has_side
    firmware = "dual-stack (DSE)" if dual else "single-stack (SE)"
    side = "; EVENT, ERXUDP, SKSENDTO and SKPING carry a side" if dual else ""
    scan = "MODE MASK DURATION" + (" SIDE" if profile.scan_arguments == 4 else "")
    options = "WOPT, ROPT, SKAPPVER" if profile.has_options else "no WOPT, ROPT, SKAPPVER (ER04)"
    return (
        f"{profile.name}\n"
        f"  firmware  {firmware}, EVER {profile.stack_version},"
        f" EAPPVER {profile.application_version}{side}\n"
        f"  commands  SKSCAN {scan}; {options}\n"
        f"  power-up  echo {'on' if profile.echo else 'off'},"
        f" ERXUDP payload {'in hex' if profile.hex_data else 'raw'},"
        f" session life {profile.dialect.default_lifetime_s} s\n"
    )
