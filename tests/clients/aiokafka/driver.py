"""aiokafka, the asyncio client; its loop runs in a thread of its own."""
import asyncio
import threading
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import for_code

import scenario
from scenario import Client, Record, Skip, TopicExists

BASE = {"bootstrap_servers": scenario.BOOTSTRAP, "client_id": scenario.CLIENT}

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def wait(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


async def started(kind, *args, **kwargs):
    client = kind(*args, **kwargs)
    await client.start()
    return client



class Transactional:
    def __init__(self, transactional_id):
        self.producer = wait(started(AIOKafkaProducer, **BASE, transactional_id=transactional_id))

    def begin(self):
        wait(self.call(self.producer.begin_transaction))

    def produce(self, topic, records):
        for r in records:
            wait(self.producer.send_and_wait(topic, r.value, r.key, r.partition))

    def offset(self, group, topic, partition, offset):
        offsets = {TopicPartition(topic, partition): offset}
        wait(self.call(self.producer.send_offsets_to_transaction, offsets, group))

    def end(self, commit):
        wait(self.call(self.producer.commit_transaction if commit else self.producer.abort_transaction))

    @staticmethod
    async def call(method, *args):
        """In the loop, where some methods make futures before they are awaited."""
        await method(*args)


class AioKafka(Client):
    unsendable = [(None, None)]

    def __init__(self):
        self.admin = wait(started(AIOKafkaAdminClient, **BASE))
        self.group_config = scenario.load()["group"]
        self.producers = {}
        self.probe = wait(started(AIOKafkaConsumer, **BASE))

    def create_topic(self, topic, partitions, configs):
        response = wait(self.admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)]))
        for name, code, *_ in response.topic_errors:
            if code == 36:
                raise TopicExists
            if code:
                raise for_code(code)(name)

    def topics(self):
        described = wait(self.admin.describe_topics())
        return {t["topic"]: len(t["partitions"]) for t in described if not t["error_code"]}

    def configs(self, topic):
        responses = wait(self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        return {entry[0]: entry[1] for resource in responses[0].resources for entry in resource[4]}

    def add_partitions(self, topic, total):
        wait(self.admin.create_partitions({topic: NewPartitions(total)}))

    def delete_topic(self, topic):
        for name, code in wait(self.admin.delete_topics([topic])).topic_error_codes:
            if code:
                raise for_code(code)(name)

    def delete_records(self, topic, partition, before):
        tp = TopicPartition(topic, partition)
        return wait(self.admin.delete_records({tp: RecordsToDelete(before)}))[tp]

    def produce(self, topic, records, codec="none", idempotent=False):
        return wait(self.send(topic, records, codec, idempotent))

    async def send(self, topic, records, codec, idempotent):
        producer = self.producers.get((codec, idempotent))
        if producer is None:
            producer = self.producers[(codec, idempotent)] = await started(
                AIOKafkaProducer, **BASE, acks="all", compression_type=None if codec == "none" else codec,
                enable_idempotence=idempotent, linger_ms=5)
        futures = [await producer.send(topic, r.value, r.key, r.partition, r.timestamp, r.headers) for r in records]
        return [(await future).offset for future in futures]

    def watermarks(self, topic, partition):
        tp = TopicPartition(topic, partition)
        return wait(self.probe.beginning_offsets([tp]))[tp], wait(self.probe.end_offsets([tp]))[tp]

    def offset_for_time(self, topic, partition, timestamp):
        tp = TopicPartition(topic, partition)
        found = wait(self.probe.offsets_for_times({tp: timestamp}))[tp]
        return found.offset if found else None

    @staticmethod
    def records(polled):
        return [Record(m.key, m.value, list(m.headers), m.partition, m.timestamp, m.offset)
                for messages in polled.values() for m in messages]

    def read(self, topic, partition, offset, enough, seconds=30):
        async def run():
            tp = TopicPartition(topic, partition)
            consumer = await started(AIOKafkaConsumer, **BASE, auto_offset_reset="none", enable_auto_commit=False)
            consumer.assign([tp])
            consumer.seek(tp, offset)
            records, deadline = [], time.monotonic() + seconds
            while not (records and enough(records)) and time.monotonic() < deadline:
                records += self.records(await consumer.getmany(timeout_ms=200))
            await consumer.stop()
            return records

        return wait(run())

    def consumer(self, group):
        return AIOKafkaConsumer(
            **BASE, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest",
            session_timeout_ms=self.group_config["session_timeout_ms"],
            heartbeat_interval_ms=self.group_config["heartbeat_ms"],
            partition_assignment_strategy=[RangePartitionAssignor])

    def member(self, group, topic, protocol, received, stop):
        if protocol != "classic":
            raise Skip("no cooperative assignor" if protocol == "cooperative" else "no KIP-848 protocol")

        async def run():
            consumer = self.consumer(group)
            # A rebalance runs beside the application: it waits here until the batch in hand is committed.
            busy = asyncio.Lock()

            class Revoked(ConsumerRebalanceListener):
                async def on_partitions_revoked(self, revoked):
                    async with busy:
                        pass

                async def on_partitions_assigned(self, assigned):
                    pass

            await consumer.start()
            consumer.subscribe([topic], listener=Revoked())
            while not stop.is_set():
                records = self.records(await consumer.getmany(timeout_ms=100, max_records=50))
                if records:
                    async with busy:
                        received(records)
                        await consumer.commit()
            await consumer.stop()

        wait(run())

    def group_read(self, group, topic, count, protocol="classic"):
        async def run():
            consumer = self.consumer(group)
            consumer.subscribe([topic])
            await consumer.start()
            records, deadline = [], time.monotonic() + 40
            while len(records) < count and time.monotonic() < deadline:
                records += self.records(await consumer.getmany(timeout_ms=200, max_records=count - len(records)))
            if records:
                await consumer.commit({TopicPartition(topic, records[-1].partition): records[-1].offset + 1})
            await consumer.stop()
            return records

        return wait(run())

    def transactional(self, transactional_id):
        return Transactional(transactional_id)

    def read_committed(self, topic, partition, count):
        async def run():
            options = {"isolation_level": "read_committed", "auto_offset_reset": "earliest"}
            reader = await started(AIOKafkaConsumer, **BASE, **options)
            reader.assign([TopicPartition(topic, partition)])
            records, deadline = [], time.monotonic() + 30
            while len(records) < count and time.monotonic() < deadline:
                records += self.records(await reader.getmany(timeout_ms=200))
            await reader.stop()
            return records

        return wait(run())

    def committed(self, group, topic, partition):
        async def run():
            consumer = await started(AIOKafkaConsumer, **BASE, group_id=group, enable_auto_commit=False)
            offset = await consumer.committed(TopicPartition(topic, partition))
            await consumer.stop()
            return offset or 0

        return wait(run())


scenario.main(AioKafka())
