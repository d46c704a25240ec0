"""The way to the head-end: commands in, outbox out, over MQTT 5 or 3.1.1. The only room that knows paho."""
