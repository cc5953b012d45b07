package krocket;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;
import java.util.function.Predicate;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Java's kafka-clients, as the cases use them. */
final class Client {
    private final String bootstrap;
    private final Admin admin;
    private final int sessionTimeout;
    private final int heartbeat;
    private final Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();

    Client(String bootstrap, int sessionTimeout, int heartbeat) {
        this.bootstrap = bootstrap;
        this.sessionTimeout = sessionTimeout;
        this.heartbeat = heartbeat;
        admin = Admin.create(base());
    }

    Properties base() {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        return p;
    }

    /** A future's result, or its cause. */
    static <T> T get(Future<T> future) throws Exception {
        try {
            return future.get();
        } catch (ExecutionException e) {
            throw e.getCause() instanceof Exception cause ? cause : e;
        }
    }

    void createTopic(String topic, int partitions, Map<String, String> configs) throws Exception {
        get(admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all());
    }

    boolean exists(String topic) throws Exception {
        return get(admin.listTopics().names()).contains(topic);
    }

    int partitions(String topic) throws Exception {
        if (!exists(topic)) {
            return 0;
        }
        TopicDescription described = get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic);
        return (int) described.partitions().stream().filter(p -> p.leader() != null).count();
    }

    Map<String, String> configs(String topic) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Map<String, String> configs = new HashMap<>();
        get(admin.describeConfigs(List.of(resource)).all()).get(resource).entries()
            .forEach(e -> configs.put(e.name(), e.value()));
        return configs;
    }

    /** Sets a group's configs and waits until they hold. */
    void groupConfigs(String group, Map<String, String> values) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.forId((byte) 32), group); // GROUP, which 3.9 has no name for
        List<AlterConfigOp> changes = new ArrayList<>();
        values.forEach((k, v) -> changes.add(new AlterConfigOp(new ConfigEntry(k, v), AlterConfigOp.OpType.SET)));
        get(admin.incrementalAlterConfigs(Map.of(resource, changes)).all());
        Cases.until(20, "the configs of " + group, () -> {
            var described = get(admin.describeConfigs(List.of(resource)).all()).get(resource);
            return values.entrySet().stream().allMatch(e -> {
                ConfigEntry entry = described.get(e.getKey());
                return entry != null && e.getValue().equals(entry.value());
            });
        });
    }

    void addPartitions(String topic, int total) throws Exception {
        get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(total))).all());
    }

    void deleteTopic(String topic) throws Exception {
        get(admin.deleteTopics(List.of(topic)).all());
    }

    long deleteRecords(String topic, int partition, long before) throws Exception {
        TopicPartition tp = new TopicPartition(topic, partition);
        var result = admin.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(before)));
        return get(result.lowWatermarks().get(tp)).lowWatermark();
    }

    List<Long> watermarks(String topic, int partition) throws Exception {
        TopicPartition tp = new TopicPartition(topic, partition);
        return List.of(
            get(admin.listOffsets(Map.of(tp, OffsetSpec.earliest())).partitionResult(tp)).offset(),
            get(admin.listOffsets(Map.of(tp, OffsetSpec.latest())).partitionResult(tp)).offset());
    }

    long offsetOfMaxTimestamp(String topic, int partition) throws Exception {
        TopicPartition tp = new TopicPartition(topic, partition);
        return get(admin.listOffsets(Map.of(tp, OffsetSpec.maxTimestamp())).partitionResult(tp)).offset();
    }

    synchronized List<Long> produce(String topic, List<Rec> records, String codec, boolean idempotent) throws Exception {
        KafkaProducer<byte[], byte[]> producer = producers.computeIfAbsent(codec + idempotent, k -> {
            Properties p = base();
            p.put("acks", "all");
            p.put("compression.type", codec);
            p.put("enable.idempotence", Boolean.toString(idempotent));
            return new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
        });
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (Rec r : records) {
            sent.add(producer.send(r.toProduce(topic)));
        }
        producer.flush();
        List<Long> offsets = new ArrayList<>();
        for (Future<RecordMetadata> f : sent) {
            offsets.add(get(f).offset());
        }
        return offsets;
    }

    private KafkaConsumer<byte[], byte[]> consumer(Properties more) {
        Properties p = base();
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "none");
        p.putAll(more);
        return new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    Long offsetForTime(String topic, int partition, long timestamp) {
        TopicPartition tp = new TopicPartition(topic, partition);
        try (var consumer = consumer(new Properties())) {
            OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(tp, timestamp)).get(tp);
            return found == null ? null : found.offset();
        }
    }

    /** A producer that has yet to take its transactional id. */
    KafkaProducer<byte[], byte[]> transactional(String id) {
        Properties p = base();
        p.put("transactional.id", id);
        return new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
    }

    List<Rec> readCommitted(String topic, int partition, int count) {
        Properties p = new Properties();
        p.put("isolation.level", "read_committed");
        return read(p, topic, partition, 0, records -> records.size() >= count);
    }

    List<Rec> read(String topic, int partition, long offset, Predicate<List<Rec>> enough) {
        return read(new Properties(), topic, partition, offset, enough);
    }

    private List<Rec> read(Properties p, String topic, int partition, long offset, Predicate<List<Rec>> enough) {
        TopicPartition tp = new TopicPartition(topic, partition);
        List<Rec> records = new ArrayList<>();
        try (var consumer = consumer(p)) {
            consumer.assign(List.of(tp));
            consumer.seek(tp, offset);
            long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
            while ((records.isEmpty() || !enough.test(records)) && System.nanoTime() < deadline) {
                consumer.poll(Duration.ofMillis(200)).forEach(r -> records.add(Rec.of(r)));
            }
        }
        return records;
    }

    private KafkaConsumer<byte[], byte[]> groupConsumer(String group, String protocol, int maxPoll) {
        Properties p = new Properties();
        p.put("group.id", group);
        p.put("auto.offset.reset", "earliest");
        p.put("max.poll.records", maxPoll);
        if (protocol.equals("consumer")) {
            p.put("group.protocol", "consumer");
        } else {
            p.put("session.timeout.ms", sessionTimeout);
            p.put("heartbeat.interval.ms", heartbeat);
            String assignor = protocol.equals("cooperative") ? "CooperativeSticky" : "Range";
            p.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor + "Assignor");
        }
        return consumer(p);
    }

    /** One member of a group: hands batches on, commits each, leaves when told to. */
    void member(String group, String topic, String protocol, Consumer<List<Rec>> received, AtomicBoolean stop) {
        try (var consumer = groupConsumer(group, protocol, 50)) {
            Map<TopicPartition, OffsetAndMetadata> pending = new HashMap<>();
            Runnable commit = () -> {
                try {
                    if (!pending.isEmpty()) {
                        consumer.commitSync(pending);
                    }
                    pending.clear();
                } catch (RebalanceInProgressException e) {
                    // Cooperative members go on consuming while the group rebalances: commit again when it is over.
                }
            };
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    commit.run();
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) { }
            });
            while (!stop.get()) {
                List<Rec> records = new ArrayList<>();
                consumer.poll(Duration.ofMillis(100)).forEach(r -> {
                    records.add(Rec.of(r));
                    pending.put(new TopicPartition(topic, r.partition()), new OffsetAndMetadata(r.offset() + 1));
                });
                if (!records.isEmpty()) {
                    received.accept(records);
                }
                commit.run();
            }
        }
    }

    /** Joins, takes exactly count records of partition 0, commits the position after them with a note, leaves. */
    List<Rec> groupRead(String group, String topic, int count, String note) {
        List<Rec> records = new ArrayList<>();
        try (var consumer = groupConsumer(group, "classic", 1)) {
            consumer.subscribe(List.of(topic));
            long deadline = System.nanoTime() + Duration.ofSeconds(40).toNanos();
            while (records.size() < count && System.nanoTime() < deadline) {
                consumer.poll(Duration.ofMillis(200)).forEach(r -> records.add(Rec.of(r)));
            }
            if (!records.isEmpty()) {
                long next = records.get(records.size() - 1).offset() + 1;
                consumer.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(next, note)));
            }
        }
        return records;
    }

    OffsetAndMetadata committed(String group, String topic, int partition) throws Exception {
        var offsets = get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        return offsets.get(new TopicPartition(topic, partition));
    }
}
