"""The process: threads over `step()`, signals, systemd.

Files: `process` (what the gateway is made of, how it starts, reloads and ends), `actors` (the one loop over step()),
`lines` (the threads of the ports, which a reload changes), `reload` (what is said of one), `clocksync` (is the time of
day to be trusted?), `logs`, `notify` (systemd).
"""
