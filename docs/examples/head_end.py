"""Orders a campaign, follows it to its end: head_end.py HOST PORT GATEWAY ORDER.json CA.pem CERT.pem KEY.pem

ORDER.json has the arguments of campaign.submit. For paho-mqtt 1.6 and 2. Exit status 0: all meters were updated."""

import json
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paho.mqtt.client as mqtt

host, port, gateway, order, *tls = sys.argv[1:]
args, now, base = json.loads(Path(order).read_bytes()), datetime.now(UTC), f"mgw/v1/{gateway}"
issued, expires = (f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in (now, now + timedelta(days=1)))
command = {"v": 1, "cmd_id": str(uuid.uuid4()), "issued": issued, "expires": expires, "args": args}
campaign, answer, seen = f"{base}/campaign/{args['campaign_id']}", {}, {}


def on_connect(client, _userdata, _flags, reason, *_):  # after each loss again
    if reason != 0:
        sys.exit(f"the broker does not let us in: {reason}")
    client.subscribe([(topic, 1) for topic in (f"{base}/rsp", campaign, f"{campaign}/job/+")])
    client.publish(f"{base}/cmd/campaign.submit", json.dumps(command), qos=1)  # same id: done once


def on_message(client, _userdata, message):
    told = json.loads(message.payload or "{}")
    if told.get("cmd_id") == command["cmd_id"]:
        answer.update(told)
        print("order:", told["status"], told.get("code") or "", told.get("message") or "")
    elif told.get("rev", 0) > seen.get(message.topic, {}).get("rev", 0):  # an older one changes nothing
        seen[message.topic] = told
        print(message.topic.removeprefix(f"{base}/"), told["state"], told["code"] or "", told["message"])
    ended = seen.get(campaign, {}).get("finished_at")
    if answer.get("status") == "rejected" or (answer and ended):
        client.disconnect()


version = [mqtt.CallbackAPIVersion.VERSION2] if hasattr(mqtt, "CallbackAPIVersion") else []
client = mqtt.Client(*version, protocol=mqtt.MQTTv5)
client.on_connect, client.on_message = on_connect, on_message
if tls:
    client.tls_set(*tls)
client.connect(host, int(port))
client.loop_forever()
sys.exit(answer["status"] == "rejected" or seen[campaign]["state"] != "succeeded")
