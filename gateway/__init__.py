"""meter-gateway: puts firmware into electricity meters with DLMS/COSEM Image Transfer, from a substation gateway.

The meter owns the position. The Store owns the intent. The outbox owns the telling.

Rooms, by floor; imports go strictly down or stay within a room (tests/test_floors.py):

    top  daemon/     the process: threads over step(), watchdog, signals    cli/      what a person types
     4   worker/     one port: the next exchange with the next meter        uplink/   the only room that knows paho
         supplier.py fetches the images that campaigns wait for             simulator/ virtual meters, virtual lines
         conductor.py holds campaigns to their windows, turns and approvals
         page/      the local status page, and its figures for Prometheus
     3   link/       lines, and one association with one meter              control/  verbs, schemas, the socket
         schedule.py the only place that knows APScheduler
     2   wire/       PURE: octets <-> meaning (HDLC, wrapper, mode E, A-XDR, APDUs, ciphering, class 18)
         transfer/   PURE: what next? next_step(goal, seen) -> Step
         plan/       PURE: when, and who? windows, gates, turns, ends
         config/     TOML -> the model, every mistake at once              store/    SQLite: one method, one transaction
         supply/     fetch over HTTP or MQTT, images kept by their digest, manifests and who signed them
     1   errors.py   one tree, stable codes, advice                         model/     the nouns
         clock.py    time, as it is given                                   board.py  latest values and bells
         states.py   which state leads to which                             durable.py files that outlast a power cut
         signing/    PURE: DSSE envelopes, keys                             strict_json.py JSON from outside
         identifiers.py image identifiers as people write them              tls.py    whom we believe, who we are
         urls.py    URLs as they may be told, loopback                  words.py   moments and durations in words

The way of one command, down: MQTT message -> uplink -> control (schema, id, expiry) -> one Store transaction (campaign,
jobs, the "accepted" reply) -> PUBACK -> bell -> supplier fetches the image -> bell -> Worker.step() takes the job ->
Session (SNRM/UA, AARQ/AARE, HLS) -> survey -> transfer.next_step -> apdu -> security -> hdlc -> Port.write.
Up: the same call stack returns: octets -> frame -> APDU -> MeterView; at checkpoints and changes of state one Store
transaction (job, event, snapshot in the outbox) -> uplink publishes, and deletes a row when the broker has it.

ARCHITECTURE.md has the invariants and the reasons.
"""
