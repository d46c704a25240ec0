"""`python -m gateway`: the command `meter-gateway`."""

from gateway.cli import main

raise SystemExit(main())
