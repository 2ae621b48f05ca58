"""Kamailio: the SIP proxy that others put in front, as a process with a config made for the test.

It stays in the dialogs that it passes on (record-route), and sends everything else to its targets: to one of them as a
proxy, to several by its module ``dispatcher``, which asks each once a second by OPTIONS whether it is there.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from tests.interop.peers import report
from tests.interop.peers.programs import Program, free_udp_block

HOST = "127.0.0.1"

_CONFIG = """\
#!KAMAILIO
debug=2
log_stderror=yes
fork=yes
children=2
tcp_children=2
tcp_connection_lifetime=60
auto_aliases=no
listen=udp:{host}:{port}
listen=tcp:{host}:{port}
alias="{host}:{port}"
{tls_listen}
mpath="{modules}"
loadmodule "ctl.so"
modparam("ctl", "binrpc", "unix:{folder}/ctl")
loadmodule "kex.so"
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "dispatcher.so"
{tls_module}
modparam("rr", "enable_full_lr", 0)
modparam("tm", "fr_timer", 2000)
modparam("tm", "fr_inv_timer", 30000)
modparam("dispatcher", "list_file", "{folder}/dispatcher.list")
modparam("dispatcher", "flags", 2)
modparam("dispatcher", "xavp_dst", "_dsdst_")
modparam("dispatcher", "ds_ping_method", "OPTIONS")
modparam("dispatcher", "ds_ping_from", "sip:balancer@{host}:{port}")
modparam("dispatcher", "ds_ping_interval", 1)
modparam("dispatcher", "ds_probing_threshold", 1)
modparam("dispatcher", "ds_inactive_threshold", 1)
modparam("dispatcher", "ds_probing_mode", 1)
modparam("dispatcher", "ds_ping_reply_codes", "class=2")
event_route[core:worker-one-init] {{ xlog("L_ERR", "the first worker is there\n"); }}
request_route {{
  if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
  if (has_totag()) {{
    if (loose_route()) {{
      xlog("L_ERR", "in dialog: $rm from $si:$sp by $proto to $ru $du\\n");
      t_relay();
      exit;
    }}
    if (is_method("ACK")) {{ if (t_check_trans()) {{ t_relay(); }} exit; }}
    sl_send_reply("404", "Not here");
    exit;
  }}
  if (is_method("CANCEL")) {{ if (t_check_trans()) {{ t_relay(); }} exit; }}
  t_check_trans();
  if (is_method("INVITE")) {{ record_route(); }}
  if (!ds_select_dst("1", "4")) {{ sl_send_reply("503", "No destination"); exit; }}
  xlog("L_ERR", "begins: $rm to $du\\n");
  t_on_failure("NEXT");
  t_relay();
}}
failure_route[NEXT] {{
  if (t_is_canceled()) {{ exit; }}
  if (t_check_status("503") || (t_branch_timeout() && !t_branch_replied())) {{
    if (ds_next_dst()) {{ t_on_failure("NEXT"); t_relay(); exit; }}
  }}
}}
"""

_TLS = """\
[server:default]
method = TLSv1.2+
certificate = {certificate}
private_key = {key}
[client:default]
method = TLSv1.2+
verify_certificate = yes
require_certificate = yes
ca_list = {authority}
certificate = {certificate}
private_key = {key}
"""


@attrs.frozen
class Secured:
    """What TLS needs: our certificate with its key, and the authority that the others' are believed by (PEM files)."""

    certificate: Path
    key: Path
    authority: Path


class Kamailio:
    """One running Kamailio.

    :ivar port: where it takes SIP over UDP and TCP.
    """

    def __init__(self, program: Program, folder: Path, port: int) -> None:
        self.program = program
        self.port = port
        self._folder = folder

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def uri(self, user: str) -> str:
        return f"sip:{user}@{self.address}"

    def flags(self) -> dict[str, str]:
        """Each target and what its dispatcher thinks of it: AP is up and asked again, IP is down and asked again."""
        shown = subprocess.run(
            ["kamcmd", "-s", f"unix:{self._folder}/ctl", "dispatcher.list"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
        return dict(re.findall(r"URI: (\S+)\s+FLAGS: (\S+)", shown))

    def wait_for_flags(self, wanted: dict[str, str], *, within_s: float = 10.0) -> float:
        """Until the dispatcher thinks so; returns how many seconds that took."""
        began, pause = time.monotonic(), threading.Event()
        while (found := self.flags()) != wanted:
            pause.wait(0.1)
            if time.monotonic() - began > within_s:
                pytest.fail(f"Kamailio's dispatcher says {found} and not {wanted} after {within_s:g} s")
        return time.monotonic() - began

    def count(self, calls: int = 1) -> None:
        """So many calls through it did what they should."""
        report.calls_completed("Kamailio", report.version_of("kamailio"), calls)


@contextmanager
def kamailio(folder: Path, targets: Sequence[str], secured: Secured | None = None) -> Iterator[Kamailio]:
    """Run it before these targets, ``sip:`` URIs with an address."""
    folder.mkdir(parents=True)
    port = free_udp_block(4)
    modules = next(Path("/usr/lib").glob("*/kamailio/modules"))
    tls_listen = tls_module = ""
    if secured is not None:
        tls_listen = f"enable_tls=yes\nlisten=tls:{HOST}:{port + 1}"
        tls_module = f'loadmodule "tls.so"\nmodparam("tls", "config", "{folder}/tls.cfg")'
        (folder / "tls.cfg").write_text(
            _TLS.format(certificate=secured.certificate, key=secured.key, authority=secured.authority)
        )
    (folder / "dispatcher.list").write_text("".join(f"1 {target} 0 0\n" for target in targets))
    config = folder / "kamailio.cfg"
    config.write_text(
        _CONFIG.format(
            host=HOST, port=port, modules=f"{modules}/", folder=folder, tls_listen=tls_listen, tls_module=tls_module
        )
    )
    arguments = ["kamailio", "-f", config, "-DD", "-E", "-P", folder / "pid", "-Y", folder, "-w", folder]
    with Program("kamailio", arguments, cwd=folder) as program:
        running = Kamailio(program, folder, port)
        for said in ("the first worker is there", "io_listen_loop"):  # what takes calls, and what answers kamcmd
            program.wait_for(said)
        yield running
