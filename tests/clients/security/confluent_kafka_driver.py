"""librdkafka through confluent-kafka: produces and consumes with the credentials of the command line."""
import sys
import time

from confluent_kafka import Consumer, KafkaError, Producer

bootstrap, mechanism, user, secret, ca, pem, topic, count = sys.argv[1:]
refusals = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL)


def refused(error):
    if error.code() in refusals or "ssl" in error.str().lower():
        print(f"refused: {error}")
        sys.stdout.flush()
        import os
        os._exit(3)


config = {"bootstrap.servers": bootstrap, "ssl.ca.location": ca, "error_cb": refused}
if mechanism == "mTLS":
    config |= {"security.protocol": "SSL", "ssl.certificate.location": pem, "ssl.key.location": pem}
else:
    config |= {"security.protocol": "SASL_SSL", "sasl.mechanisms": mechanism}
    if mechanism == "OAUTHBEARER":
        config["oauth_cb"] = lambda _: (secret, time.time() + 3600)
    else:
        config |= {"sasl.username": user, "sasl.password": secret}

producer = Producer(config)
values = [f"record-{i}" for i in range(int(count))]
for value in values:
    producer.produce(topic, value)
assert producer.flush(20) == 0, "not delivered"
consumer = Consumer({**config, "group.id": topic, "auto.offset.reset": "earliest"})
consumer.subscribe([topic])
got, deadline = [], time.monotonic() + 30
while len(got) < len(values) and time.monotonic() < deadline:
    message = consumer.poll(1)
    if message is not None and message.error() is None:
        got.append(message.value().decode())
consumer.close()
assert got == values, got
