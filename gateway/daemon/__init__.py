"""The process: threads over `step()`, signals, systemd.

Files: `process` (what the gateway is made of, how it starts, reloads and ends), `actors` (the one loop over step()),
`lines` (the threads of the ports, which a reload changes), `reload` (what is said of one), `rounds` (what is looked at
now and then: clock, disk, certificates), `clocksync` (is the time of day to be trusted?), `certificates` (how long they
hold), `machine` (which one this is), `sources` (of images), `logs`, `notify` (systemd).
"""
