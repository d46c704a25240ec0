"""The process: threads over `step()`, signals, systemd.

Files: `process` (what the gateway is made of, how it starts and ends), `actors` (the one loop over step()), `clocksync`
(is the time of day to be trusted?), `logs`, `notify` (systemd).
"""
