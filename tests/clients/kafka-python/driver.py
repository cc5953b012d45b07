"""kafka-python, the pure Python client."""
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import IllegalGenerationError, RebalanceInProgressError, TopicAlreadyExistsError

import scenario
from scenario import Client, Record, Skip, TopicExists

BASE = {"bootstrap_servers": scenario.BOOTSTRAP, "client_id": scenario.CLIENT}



class Transactional:
    def __init__(self, transactional_id):
        self.producer = KafkaProducer(**BASE, transactional_id=transactional_id)
        self.producer.init_transactions()

    def begin(self):
        self.producer.begin_transaction()

    def produce(self, topic, records):
        futures = [self.producer.send(topic, r.value, r.key, partition=r.partition) for r in records]
        self.producer.flush(30)
        for future in futures:
            future.get(30)

    def offset(self, group, topic, partition, offset):
        offsets = {TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)}
        self.producer.send_offsets_to_transaction(offsets, group)

    def end(self, commit):
        if commit:
            self.producer.commit_transaction()
        else:
            self.producer.abort_transaction()


class KafkaPython(Client):
    null_headers = False
    unsendable = [(None, None)]

    def __init__(self):
        self.admin = KafkaAdminClient(**BASE)
        self.group_config = scenario.load()["group"]
        self.producers = {}
        self.probe = KafkaConsumer(**BASE)

    def create_topic(self, topic, partitions, configs):
        options = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
        try:
            self.admin.create_topics({topic: options})
        except TopicAlreadyExistsError as error:
            raise TopicExists from error

    def topics(self):
        return {t["name"]: len(t["partitions"]) for t in self.admin.describe_topics()}

    def configs(self, topic):
        described = self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
        return {k: v["value"] for k, v in described["topic"][topic].items()}

    def add_partitions(self, topic, total):
        self.admin.create_partitions({topic: total})

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])

    def delete_records(self, topic, partition, before):
        tp = TopicPartition(topic, partition)
        return self.admin.delete_records({tp: before})[tp]["low_watermark"]

    def produce(self, topic, records, codec="none", idempotent=False):
        producer = self.producers.get((codec, idempotent))
        if producer is None:
            producer = self.producers[(codec, idempotent)] = KafkaProducer(
                **BASE, acks="all", compression_type=None if codec == "none" else codec,
                enable_idempotence=idempotent, linger_ms=5)
        futures = [producer.send(topic, r.value, r.key, r.headers, r.partition, r.timestamp) for r in records]
        producer.flush(30)
        return [f.get(30).offset for f in futures]

    def watermarks(self, topic, partition):
        tp = TopicPartition(topic, partition)
        return self.probe.beginning_offsets([tp])[tp], self.probe.end_offsets([tp])[tp]

    def offset_for_time(self, topic, partition, timestamp):
        tp = TopicPartition(topic, partition)
        found = self.probe.offsets_for_times({tp: timestamp})[tp]
        return found.offset if found else None

    @staticmethod
    def records(polled):
        return [Record(m.key, m.value, list(m.headers), m.partition, m.timestamp, m.offset)
                for messages in polled.values() for m in messages]

    def read(self, topic, partition, offset, enough, seconds=30):
        tp = TopicPartition(topic, partition)
        consumer = KafkaConsumer(**BASE, auto_offset_reset="none", enable_auto_commit=False)
        consumer.assign([tp])
        consumer.seek(tp, offset)
        records, deadline = [], time.monotonic() + seconds
        while not (records and enough(records)) and time.monotonic() < deadline:
            records += self.records(consumer.poll(200))
        consumer.close()
        return records

    def consumer(self, group, protocol, **more):
        if protocol == "consumer":
            raise Skip("no KIP-848 protocol")
        assignor = CooperativeStickyAssignor if protocol == "cooperative" else RangePartitionAssignor
        return KafkaConsumer(
            **BASE, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest",
            session_timeout_ms=self.group_config["session_timeout_ms"],
            heartbeat_interval_ms=self.group_config["heartbeat_ms"],
            partition_assignment_strategy=[assignor], **more)

    def member(self, group, topic, protocol, received, stop):
        consumer = self.consumer(group, protocol, max_poll_records=50)
        pending = False

        def commit():
            nonlocal pending
            try:
                if pending:
                    consumer.commit()
                pending = False
            except (IllegalGenerationError, RebalanceInProgressError):
                pass  # cooperative members go on consuming while the group rebalances: commit again when it is over

        class Revoked(ConsumerRebalanceListener):
            def on_partitions_revoked(self, revoked):
                commit()

            def on_partitions_assigned(self, assigned):
                pass

        consumer.subscribe([topic], listener=Revoked())
        while not stop.is_set():
            records = self.records(consumer.poll(100))
            if records:
                received(records)
                pending = True
            commit()
        consumer.close()

    def group_read(self, group, topic, count, protocol="classic"):
        consumer = self.consumer(group, protocol)
        consumer.subscribe([topic])
        records, deadline = [], time.monotonic() + 40
        while len(records) < count and time.monotonic() < deadline:
            records += self.records(consumer.poll(200, max_records=count - len(records)))
        if records:
            last = records[-1]
            consumer.commit({TopicPartition(topic, last.partition): OffsetAndMetadata(last.offset + 1, "", -1)})
        consumer.close()
        return records

    def transactional(self, transactional_id):
        return Transactional(transactional_id)

    def read_committed(self, topic, partition, count):
        reader = KafkaConsumer(**BASE, isolation_level="read_committed", auto_offset_reset="earliest")
        reader.assign([TopicPartition(topic, partition)])
        records, deadline = [], time.monotonic() + 30
        while len(records) < count and time.monotonic() < deadline:
            records += self.records(reader.poll(200))
        reader.close()
        return records

    def committed(self, group, topic, partition):
        consumer = KafkaConsumer(**BASE, group_id=group, enable_auto_commit=False)
        offset = consumer.committed(TopicPartition(topic, partition))
        consumer.close()
        return offset or 0


scenario.main(KafkaPython())
