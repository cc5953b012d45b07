package krocket;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * What the frameworks are fed with and checked by.
 *
 * <pre>
 * create TOPIC PARTITIONS      produce TOPIC RATE     read TOPIC COUNT SECONDS
 * </pre>
 *
 * `produce` takes "key TAB timestamp TAB value" lines. `read` prints the committed records as JSON once there are COUNT.
 */
public final class Records {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String BOOTSTRAP = System.getenv("KROCKET_BOOTSTRAP");

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "create" -> create(args[1], Integer.parseInt(args[2]));
            case "produce" -> produce(args[1], Integer.parseInt(args[2]));
            case "read" -> read(args[1], Integer.parseInt(args[2]), Integer.parseInt(args[3]));
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    private static void create(String topics, int partitions) throws Exception {
        try (Admin admin = Admin.create(Map.<String, Object>of("bootstrap.servers", BOOTSTRAP))) {
            admin.createTopics(Arrays.stream(topics.split(","))
                .map(topic -> new NewTopic(topic, partitions, (short) 1)).toList()).all().get();
        }
    }

    /** Each record once, whatever happens to the broker meanwhile. */
    private static void produce(String topic, int perSecond) throws Exception {
        Map<String, Object> configs = Map.of("bootstrap.servers", BOOTSTRAP, "acks", "all", "enable.idempotence", "true",
            "delivery.timeout.ms", "120000", "linger.ms", "5");
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<>(configs, new StringSerializer(), new StringSerializer());
             var lines = new BufferedReader(new InputStreamReader(System.in))) {
            long began = System.nanoTime();
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                String[] words = line.split("\t", 3);
                Long timestamp = words[1].isEmpty() ? null : Long.valueOf(words[1]);
                sent.add(producer.send(new ProducerRecord<>(topic, null, timestamp, words[0], words[2])));
                long ahead = began + sent.size() * 1_000_000_000L / perSecond - System.nanoTime();
                if (ahead > 1_000_000) {
                    Thread.sleep(ahead / 1_000_000);
                }
            }
            for (Future<RecordMetadata> result : sent) {
                result.get();
            }
        }
        System.out.println(sent.size());
    }

    private static void read(String topic, int count, int seconds) throws Exception {
        Map<String, Object> configs = Map.of("bootstrap.servers", BOOTSTRAP, "isolation.level", "read_committed",
            "auto.offset.reset", "earliest", "enable.auto.commit", "false");
        try (var consumer = new KafkaConsumer<>(configs, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                .map(p -> new TopicPartition(topic, p.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            long deadline = System.nanoTime() + seconds * 1_000_000_000L;
            int seen = 0;
            while (System.nanoTime() < deadline && (seen < count || behind(consumer, partitions))) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    seen++;
                    print(record);
                }
            }
            System.out.flush();
            if (seen < count) {
                System.err.println(topic + ": " + seen + " of " + count + " records within " + seconds + " s");
            }
        }
    }

    private static boolean behind(KafkaConsumer<?, ?> consumer, List<TopicPartition> partitions) {
        Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
        return partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p));
    }

    private static void print(ConsumerRecord<String, String> record) throws Exception {
        Map<String, Object> fields = new LinkedHashMap<>();
        fields.put("partition", record.partition());
        fields.put("offset", record.offset());
        fields.put("key", record.key());
        fields.put("value", record.value());
        Map<String, String> headers = new TreeMap<>();
        record.headers().forEach(h -> headers.put(h.key(), h.value() == null ? null : new String(h.value())));
        fields.put("headers", headers);
        System.out.println(JSON.writeValueAsString(fields));
    }
}
