"""What a person types: `meter-gateway`.

`run`, `check`, `state`, `support-bundle`, `simulate` and `demo` work by themselves; everything else asks the running
daemon over its control socket, or with `--gateway` a gateway far away over a broker. Exit status: 0 done; 1 the
operation failed (code and advice on stderr); 2 usage or configuration; 3 no daemon or broker was reached; 130
interrupted.

Files: `root` (the command itself, options, exit status), `groups` and `guide` (its help: arguments, examples),
`completion` (names at TAB), `client` (the control socket), `broker_client` and `broker_options` (a gateway far away),
`fleet` and `fleet_watch` (many of them), `service` (run, check, probe), `status`, `meters`, `ports`, `scan`,
`images`, `serve` and `signing` (image), `campaigns` (campaign, update), `order_options` (what an order says),
`windows`, `watch` (a campaign as it goes on) and `live` (the same, drawn on a terminal), `report` (what became of
it), `trace` and `pcapng` (a line as it goes on), `text` and `bars` (how things are shown), `state` and `state_file`
(the state as a whole), `support`, `support_bundle` and `redaction` (what a developer is handed), `simulate`, `demo`.
A command's modules are imported when it is used: `status` must answer at once.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point of `meter-gateway`; gives the exit status."""
    from gateway.cli.root import run

    return run(argv)
