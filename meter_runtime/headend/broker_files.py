"""What Mosquitto is told: TLS for everyone, and who may say and hear what.

A client is who its certificate's common name says; there are no passwords. The access list is
small because a meter's rights follow from its name.
"""

import os
import pwd
from pathlib import Path

from meter_runtime.aroute.messages import Topics


def mosquitto_conf(folder: Path, ca: Path, port: int, host: str | None) -> str:
    """``mosquitto.conf`` for the files in ``folder``; listens on ``host``, or everywhere.

    Started by root it becomes the folder's owner, who alone can read the keys.
    """
    owner = pwd.getpwuid(os.geteuid()).pw_name
    return f"""\
# Start it with: mosquitto -c {folder / "mosquitto.conf"}
user {owner}
per_listener_settings false

listener {port}{f" {host}" if host else ""}
cafile {ca}
certfile {folder / "broker.pem"}
keyfile {folder / "broker.key"}
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {folder / "acl"}

persistence true
persistence_location {folder}/
autosave_interval 60
persistent_client_expiration 14d
max_queued_messages 1000
max_packet_size 131072
set_tcp_nodelay true
log_dest stderr
"""


def access_list(utility: str) -> str:
    """The access list; ``%u`` is the common name of a client's certificate."""
    own, every = Topics(utility, "%u"), Topics(utility, "+")
    up = ("birth", "lwt", "readings", "history", "event", "broute_status", "results")

    def lines(keyword: str, access: str, topics: Topics, names: tuple[str, ...]) -> list[str]:
        return [f"{keyword} {access} {getattr(topics, name)}" for name in names]

    return "\n".join(
        [
            "# A meter, under its own id.",
            *lines("pattern", "write", own, up),
            *lines("pattern", "read", own, ("commands", "mark")),
            "",
            "# The collectors.",
            "user mdms",
            *lines("topic", "read", every, ("readings", "history", "birth", "lwt", "event")),
            *lines("topic", "write", every, ("mark",)),
            "",
            "# The Supervisory Control System.",
            "user scs",
            *lines("topic", "write", every, ("commands",)),
            *lines("topic", "read", every, ("results", "broute_status", "event", "birth", "lwt")),
            "",
        ]
    )
