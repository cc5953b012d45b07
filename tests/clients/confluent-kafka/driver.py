"""librdkafka through confluent-kafka."""
import time

from confluent_kafka import AcknowledgeType, Consumer, KafkaException, Producer, ShareConsumer, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic,
                                   ResourceType)

import scenario
from scenario import Client, Record, Skip, TopicExists

BASE = {"bootstrap.servers": scenario.BOOTSTRAP, "client.id": scenario.CLIENT}



class Transactional:
    def __init__(self, transactional_id):
        self.producer = Producer({**BASE, "transactional.id": transactional_id})
        self.producer.init_transactions(30)

    def begin(self):
        self.producer.begin_transaction()

    def produce(self, topic, records):
        for r in records:
            self.producer.produce(topic, value=r.value, key=r.key, partition=r.partition)
        self.producer.flush(30)

    def offset(self, group, topic, partition, offset):
        member = Consumer({**BASE, "group.id": group})
        metadata = member.consumer_group_metadata()
        self.producer.send_offsets_to_transaction([TopicPartition(topic, partition, offset)], metadata, 30)
        member.close()

    def end(self, commit):
        if commit:
            self.producer.commit_transaction(30)
        else:
            self.producer.abort_transaction(30)


class Confluent(Client):
    def __init__(self):
        self.admin = AdminClient(BASE)
        self.group_config = scenario.load()["group"]
        self.producers = {}
        self.probe = Consumer({**BASE, "group.id": "unused"})

    def create_topic(self, topic, partitions, configs):
        future = self.admin.create_topics([NewTopic(topic, partitions, 1, config=configs)])[topic]
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].name() == "TOPIC_ALREADY_EXISTS":
                raise TopicExists from error
            raise

    def topics(self):
        return {t.topic: len(t.partitions) for t in self.admin.list_topics(timeout=10).topics.values()}

    def configs(self, topic):
        resource = ConfigResource(ResourceType.TOPIC, topic)
        return {k: v.value for k, v in self.admin.describe_configs([resource])[resource].result().items()}

    def add_partitions(self, topic, total):
        self.admin.create_partitions([NewPartitions(topic, total)])[topic].result()

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])[topic].result()

    def delete_records(self, topic, partition, before):
        tp = TopicPartition(topic, partition, before)
        return self.admin.delete_records([tp])[tp].result().low_watermark

    def produce(self, topic, records, codec="none", idempotent=False):
        producer = self.producers.get((codec, idempotent))
        if producer is None:
            config = {**BASE, "acks": "all", "compression.type": codec, "enable.idempotence": idempotent,
                      "linger.ms": 5, "batch.num.messages": 100}
            producer = self.producers[(codec, idempotent)] = Producer(config)
        offsets, errors = [None] * len(records), []

        def delivered(i):
            def callback(error, message):
                if error:
                    errors.append(error)
                else:
                    offsets[i] = message.offset()
            return callback

        for i, r in enumerate(records):
            producer.produce(topic, value=r.value, key=r.key, partition=r.partition, headers=r.headers,
                             timestamp=r.timestamp or 0, on_delivery=delivered(i))
            producer.poll(0)
        left = producer.flush(30)
        if errors:
            raise KafkaException(errors[0])
        if left:
            raise AssertionError(f"{left} records not acknowledged in 30 s")
        return offsets

    def watermarks(self, topic, partition):
        return self.probe.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)

    def offset_for_time(self, topic, partition, timestamp):
        return self.probe.offsets_for_times([TopicPartition(topic, partition, timestamp)], timeout=10)[0].offset

    @staticmethod
    def record(message):
        if message.error():
            raise KafkaException(message.error())
        return Record(message.key(), message.value(), message.headers() or [], message.partition(),
                      message.timestamp()[1], message.offset())

    def read(self, topic, partition, offset, enough, seconds=30):
        consumer = Consumer({**BASE, "group.id": "unused", "enable.auto.commit": False,
                             "auto.offset.reset": "error"})
        consumer.assign([TopicPartition(topic, partition, offset)])
        records, deadline = [], time.monotonic() + seconds
        while not (records and enough(records)) and time.monotonic() < deadline:
            records += [self.record(m) for m in consumer.consume(500, 0.2)]
        consumer.close()
        return records

    def consumer(self, group, protocol):
        config = {**BASE, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        if protocol == "consumer":
            config["group.protocol"] = "consumer"
        else:
            config["session.timeout.ms"] = self.group_config["session_timeout_ms"]
            config["heartbeat.interval.ms"] = self.group_config["heartbeat_ms"]
            config["partition.assignment.strategy"] = \
                "cooperative-sticky" if protocol == "cooperative" else "range,roundrobin"
        return Consumer(config)

    def member(self, group, topic, protocol, received, stop):
        consumer = self.consumer(group, protocol)
        pending = False

        def commit():
            nonlocal pending
            try:
                if pending:
                    consumer.commit(asynchronous=False)
                pending = False
            except KafkaException as error:
                # Cooperative members go on consuming while the group rebalances: commit again when it is over.
                if error.args[0].name() not in ("ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS", "STALE_MEMBER_EPOCH"):
                    raise

        consumer.subscribe([topic], on_revoke=lambda *_: commit())
        while not stop.is_set():
            messages = consumer.consume(50, 0.1)
            if messages:
                received([self.record(m) for m in messages])
                pending = True
            commit()
        consumer.close()

    def transactional(self, transactional_id):
        return Transactional(transactional_id)

    def read_committed(self, topic, partition, count):
        reader = Consumer({**BASE, "group.id": "unused", "isolation.level": "read_committed"})
        reader.assign([TopicPartition(topic, partition, 0)])
        records, deadline = [], time.monotonic() + 30
        while len(records) < count and time.monotonic() < deadline:
            records += [self.record(m) for m in reader.consume(count, 0.2)]
        reader.close()
        return records

    def group_configs(self, group, values):
        changes = [ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in values.items()]
        resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=changes)
        self.admin.incremental_alter_configs([resource])[resource].result()

    def share_member(self, group, topic, take, stop):
        kinds = {"accept": AcknowledgeType.ACCEPT, "release": AcknowledgeType.RELEASE, "reject": AcknowledgeType.REJECT}
        member = ShareConsumer({**BASE, "group.id": group, "share.acknowledgement.mode": "explicit"})
        member.subscribe([topic])
        while not stop.is_set():
            messages = list(member.poll(0.2))
            records = [self.record(m) for m in messages]
            fates = take(records, [m.delivery_count() for m in messages])
            for message, fate in zip(messages, fates):
                member.acknowledge(message, kinds[fate])
            for partition, error in member.commit_sync(20.0).items() if messages else ():
                if error:
                    raise AssertionError(f"acknowledgements of {partition}: {error}")
        member.close()

    def group_read(self, group, topic, count, protocol="classic"):
        consumer = self.consumer(group, protocol)
        consumer.subscribe([topic])
        records, deadline = [], time.monotonic() + 40
        while len(records) < count and time.monotonic() < deadline:
            records += [self.record(m) for m in consumer.consume(count - len(records), 0.2)]
        if records:
            consumer.commit(offsets=[TopicPartition(topic, 0, records[-1].offset + 1)], asynchronous=False)
        consumer.close()
        return records

    def committed(self, group, topic, partition):
        consumer = Consumer({**BASE, "group.id": group})
        offset = consumer.committed([TopicPartition(topic, partition)], timeout=10)[0].offset
        consumer.close()
        return offset


scenario.main(Confluent())
