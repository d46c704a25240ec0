"""The way to the head-end: commands in, outbox out, over MQTT 5. The only room that knows paho."""
