"""What meter-gateway costs, measured: `make bench` and `make endurance` (the long ones).

Each figure is one JSON object on a line of stdout: name, value, unit, what it stands against, and a detail that says
what was compared and how restless the machine was meanwhile. Nothing here judges: a figure that misses its target is
printed as it is.

`make bench` is meant to end within 15 minutes: about 6 for what is timed with nothing beside it, 3 for the package in
its containers where they can be run, 4 for what is counted or on virtual time, side by side. To the first run comes
what it installs: the libraries of each Debian and the containers.

    block       cpu_per_block_us     Session.send_block with prepared answers, beside `floor`, by library set
    dead_time   dead_time_us         the daemon as a process, a meter on a pty in another one
    transfer    transfer_cpu_s       the same over TCP, all CPU of the daemon, less that of an idle one
    line        line_efficiency_*, goodput_*: the daemon and one meter on a pty that takes its time
    ports       ports_in_parallel    the same on sixteen ptys
    interleave  interleave_gain      eight meters that verify and restart for long, on virtual time
    broadcast   broadcast_speedup    32 meters of one bus at once, on virtual time; broadcast_speedup_lossy as well
    fetch       fetch_overhead, fetch_memory_mib, fetch_cancel_s: 64 MiB over HTTP; fetch_waste: over a link that is cut
    idle        start_to_ready_s     the daemon, a bare process, with 100 meters; rss_mib as well
    log_volume  log_bytes_per_job    on virtual time; log_bytes_per_day_idle, idle_disk_writes_per_hour of a process
    mqtt_images mqtt_blocks_rate, fetch_memory_mqtt_mib, fetch_cancel_mqtt_s: the daemon, `image serve` and a mosquitto;
                fetch_waste_mqtt: octets that 50 cut connections cost
    command_latency command_latency_ms: campaign.submit to "accepted" through a mosquitto, real syncs
    outbox_drain outbox_drain_per_s: what waited on disk for the broker, QoS 1, in order
    fleet       fleet: 200 gateways, a process each, and one mosquitto take one campaign and bring it to its end
    simulation  sim_exchanges_per_s  the whole gateway on virtual time
    instructions start_instructions, block_instructions: counted, so that they say something of slower machines
    package     deb_size_kib         the Debian package in containers; install_to_ready_s, security_score as well, and
                                     service_start_to_ready_s and service_rss_mib: its service with 500 meters
    resume      resume_waste         blocks that power cuts cost (endurance)
    many_meters many_meters_rss_mib, many_meters_step_us: a thousand meters on sixteen ports, simulated (endurance)
    seeds       simulated_seeds      everything going wrong that can, from so many numbers (endurance)
    fuzz        fuzz_inputs          octets from outside, any at all (endurance)
    command_fuzz command_fuzz        100,000 messages beneath cmd/ that nobody means well with (endurance)
    kill9       kill9                the daemon as a process, killed at random moments (endurance)
    power_cuts  power_cut_states     what a power cut may leave of the disk, on virtual time (endurance)
    store_writes store_writes        syncs of a transfer of five minutes; its octets as store_write_bytes (endurance)

`figure` is what they have in common, `process` a gateway that runs as a process.
"""
