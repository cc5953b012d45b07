"""kafka-python: produces and consumes with the credentials of the command line."""
import io
import logging
import sys

from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError, SaslAuthenticationFailedError
from kafka.net.sasl.oauth import AbstractTokenProvider

bootstrap, mechanism, user, secret, ca, pem, topic, count = sys.argv[1:]


class Token(AbstractTokenProvider):
    def token(self):
        return secret


config = {"bootstrap_servers": bootstrap, "ssl_cafile": ca}
if mechanism == "mTLS":
    config |= {"security_protocol": "SSL", "ssl_certfile": pem, "ssl_keyfile": pem}
else:
    config |= {"security_protocol": "SASL_SSL", "sasl_mechanism": mechanism}
    if mechanism == "OAUTHBEARER":
        config["sasl_oauth_token_provider"] = Token()
    else:
        config |= {"sasl_plain_username": user, "sasl_plain_password": secret}

# It tries again and again, and only its log says why.
log = io.StringIO()
logging.basicConfig(stream=log, level=logging.WARNING)
values = [f"record-{i}".encode() for i in range(int(count))]
try:
    producer = KafkaProducer(**config)
    for value in values:
        producer.send(topic, value).get(20)
    producer.close()
except SaslAuthenticationFailedError as error:
    print(f"refused: {error}")
    sys.exit(3)
except KafkaError as error:
    print(f"{error}\n{log.getvalue()[-1000:]}")
    # It does not always read the answer that comes with the connection's end; a certificate gets none at all.
    ends = ("SaslAuthenticationFailedError", "socket disconnected")
    sys.exit(3 if mechanism == "mTLS" or any(end in log.getvalue() for end in ends) else 1)
consumer = KafkaConsumer(topic, **config, auto_offset_reset="earliest", consumer_timeout_ms=15000)
got = []
for message in consumer:
    got.append(message.value)
    if len(got) == len(values):
        break
consumer.close()
assert got == values, got
