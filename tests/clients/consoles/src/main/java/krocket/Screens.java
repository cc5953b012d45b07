package krocket;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** What both consoles are given to look at, and what neither of them may show: something offline, empty or unknown. */
final class Screens implements AutoCloseable {
    /** Ten minutes ago: records older than a week may be gone before they are read. */
    static final long BASE = System.currentTimeMillis() - 600_000;

    final AdminClient admin;
    final String prefix;
    private final String bootstrap;

    Screens(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
        admin = AdminClient.create(Map.of("bootstrap.servers", bootstrap, "request.timeout.ms", 30000, "client.id", prefix));
    }

    @Override
    public void close() {
        admin.close();
    }

    static void that(boolean holds, String otherwise) {
        if (!holds) {
            throw new AssertionError(otherwise);
        }
    }

    /** The value, or the error as the consoles tell errors apart: without its wrapper. */
    static <T> T get(KafkaFuture<T> future) throws Exception {
        try {
            return future.get();
        } catch (ExecutionException e) {
            throw e.getCause() instanceof Exception cause ? cause : e;
        }
    }

    static void refused(Class<? extends Exception> with, KafkaFuture<?> future) throws Exception {
        try {
            get(future);
        } catch (Exception e) {
            that(with.isInstance(e), e + " is not a " + with.getSimpleName());
            return;
        }
        throw new AssertionError("no " + with.getSimpleName());
    }

    /** Made, and led: Apache Kafka answers before that. */
    String topic(String name, int partitions, Map<String, String> configs) throws Exception {
        String topic = prefix + "." + name;
        get(admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all());
        led(topic, partitions);
        return topic;
    }

    void led(String topic, int partitions) throws Exception {
        for (int n = 0; n < 200; n++) {
            try {
                TopicDescription described = get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic);
                if (described.partitions().size() == partitions
                        && described.partitions().stream().noneMatch(p -> p.leader() == null)) {
                    return;
                }
            } catch (org.apache.kafka.common.errors.UnknownTopicOrPartitionException e) {
                // not yet
            }
            Thread.sleep(50);
        }
        throw new AssertionError(topic + " is not there");
    }

    static List<TopicPartition> partitions(TopicDescription described) {
        return described.partitions().stream().map(p -> new TopicPartition(described.name(), p.partition())).toList();
    }

    /** One record a second from BASE on, round robin, with a header. */
    void fill(String topic, int partitions, int records) throws Exception {
        Map<String, Object> properties = Map.of("bootstrap.servers", bootstrap,
            "key.serializer", ByteArraySerializer.class, "value.serializer", ByteArraySerializer.class);
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties)) {
            for (int i = 0; i < records; i++) {
                var record = new ProducerRecord<>(topic, i % partitions, BASE + i * 1000L, bytes("k" + i), bytes("v" + i));
                record.headers().add("from", bytes("console"));
                producer.send(record);
            }
            producer.flush();
        }
    }

    KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> more) {
        Map<String, Object> properties = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "enable.auto.commit", "false",
            "key.deserializer", ByteArrayDeserializer.class, "value.deserializer", ByteArrayDeserializer.class));
        properties.putAll(more);
        return new KafkaConsumer<>(properties);
    }

    /** Polls until there are that many records. */
    static List<ConsumerRecord<byte[], byte[]>> poll(KafkaConsumer<byte[], byte[]> consumer, int records) {
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        for (int n = 0; n < 100 && found.size() < records; n++) {
            consumer.poll(Duration.ofMillis(200)).forEach(found::add);
        }
        that(found.size() == records, found.size() + " records instead of " + records);
        return found;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** No partition offline, none under-replicated. */
    static void online(Collection<TopicDescription> topics) {
        for (TopicDescription topic : topics) {
            that(!topic.partitions().isEmpty(), topic.name() + " has no partitions");
            for (TopicPartitionInfo partition : topic.partitions()) {
                String name = topic.name() + "-" + partition.partition();
                node(partition.leader(), "leader of " + name);
                that(!partition.replicas().isEmpty(), name + " has no replicas");
                that(Set.copyOf(partition.isr()).equals(Set.copyOf(partition.replicas())), name + ": not all in sync");
            }
        }
    }

    static void node(Node node, String what) {
        that(node != null && !node.isEmpty(), "no " + what);
        that(!node.host().isEmpty() && node.port() > 0, what + " has no address: " + node);
    }

    /** Every entry says where it is from and what it is. */
    static Map<String, ConfigEntry> configs(Config config, boolean documented) {
        Map<String, ConfigEntry> entries = new HashMap<>();
        for (ConfigEntry entry : config.entries()) {
            that(entry.source() != null && entry.source() != ConfigEntry.ConfigSource.UNKNOWN, entry.name() + ": no source");
            that(entry.type() != null && entry.type() != ConfigEntry.ConfigType.UNKNOWN, entry.name() + ": no type");
            that(!documented || entry.documentation() != null && !entry.documentation().isEmpty(), entry.name() + ": no text");
            entries.put(entry.name(), entry);
        }
        that(entries.size() > 10, "only " + entries.size() + " configs");
        return entries;
    }

    /** Every broker has a folder that is well, says how much room it has, and holds these partitions. */
    static void folders(Map<Integer, Map<String, LogDirDescription>> brokers, int nodes, Collection<TopicPartition> filled) {
        that(brokers.size() == nodes, brokers.size() + " brokers with folders");
        Map<TopicPartition, Long> sizes = new HashMap<>();
        brokers.values().forEach(folders -> {
            that(!folders.isEmpty(), "a broker without folders");
            folders.values().forEach(folder -> {
                that(folder.error() == null, "a folder with " + folder.error());
                that(folder.totalBytes().orElse(0) > 0 && folder.usableBytes().orElse(0) > 0, "a folder of unknown size");
                folder.replicaInfos().forEach((partition, replica) -> sizes.put(partition, replica.size()));
            });
        });
        filled.forEach(partition -> that(sizes.getOrDefault(partition, 0L) > 0, partition + " has no bytes"));
    }
}
