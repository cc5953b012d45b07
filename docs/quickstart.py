"""Produces one message to krocket and reads the topic in a consumer group until nothing more comes."""
import time

from confluent_kafka import Consumer, Producer

BROKER = "127.0.0.1:9092"

producer = Producer({"bootstrap.servers": BROKER, "acks": "all"})
producer.produce("greetings", key="en", value="hello from Python")
producer.flush()

consumer = Consumer({"bootstrap.servers": BROKER, "group.id": "readers", "auto.offset.reset": "earliest"})
consumer.subscribe(["greetings"])
quiet_after = time.monotonic() + 15  # for joining the group
while time.monotonic() < quiet_after:
    message = consumer.poll(0.5)
    if message is None:
        continue
    if message.error():
        raise SystemExit(message.error())
    print(f"{message.topic()}:{message.partition()}:{message.offset()} {message.value().decode()}")
    quiet_after = time.monotonic() + 2
consumer.close()
