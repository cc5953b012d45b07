package krocket;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.errors.TopicExistsException;

/** The cases of the scenario; see README.md. */
final class Cases {
    private final Client client;
    private final JsonNode scenario;
    private final String prefix;
    private int compactedTotal;

    Cases(Client client, JsonNode scenario, String prefix) {
        this.client = client;
        this.scenario = scenario;
        this.prefix = prefix;
    }

    static void check(boolean condition, String message) {
        if (!condition) {
            throw new AssertionError(message);
        }
    }

    static void same(Object got, Object wanted, String what) {
        check(Objects.equals(got, wanted), what + ": got " + brief(got) + ", wanted " + brief(wanted));
    }

    private static String brief(Object value) {
        String text = String.valueOf(value);
        return text.length() < 160 ? text : text.substring(0, 160) + "...";
    }

    /** Waits for a state that the broker reaches in its own time. */
    static void until(int seconds, String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + seconds * 1_000_000_000L;
        while (!condition.call()) {
            check(System.nanoTime() < deadline, "not within " + seconds + " s: " + what);
            Thread.sleep(50);
        }
    }

    private static Map<String, String> configs(JsonNode node) {
        Map<String, String> configs = new HashMap<>();
        node.path("configs").properties().forEach(e -> configs.put(e.getKey(), e.getValue().asText()));
        return configs;
    }

    String newTopic(String name, int partitions, Map<String, String> configs) throws Exception {
        String topic = prefix + "." + name;
        client.createTopic(topic, partitions, configs);
        until(15, topic + " in the metadata", () -> client.partitions(topic) == partitions);
        // A leader that isn't ready yet would make producers without idempotence retry, which may change the order.
        for (int partition = 0; partition < partitions; partition++) {
            client.watermarks(topic, partition);
        }
        return topic;
    }

    String name(String name) {
        return prefix + "." + name;
    }

    private List<Rec> readAll(String topic, int partition, int count) {
        return client.read(topic, partition, 0, records -> records.size() >= count);
    }

    private static List<Long> range(long from, long to) {
        List<Long> list = new ArrayList<>();
        for (long n = from; n < to; n++) {
            list.add(n);
        }
        return list;
    }

    private static List<Long> offsets(List<Rec> records) {
        return records.stream().map(Rec::offset).toList();
    }

    private void roundTrip(String name, List<Rec> records, String codec) throws Exception {
        String topic = newTopic(name, 1, Map.of());
        same(client.produce(topic, records, codec, false), range(0, records.size()), "offsets of the acknowledgements");
        List<Rec> got = readAll(topic, 0, records.size());
        same(offsets(got), range(0, records.size()), "offsets");
        for (int i = 0; i < records.size(); i++) {
            same(got.get(i).content(), records.get(i).content(), "record " + i);
        }
    }

    void topics() throws Exception {
        JsonNode p = scenario.get("topics");
        int partitions = p.get("partitions").asInt();
        int more = p.get("more_partitions").asInt();
        String topic = newTopic("topics", partitions, configs(p));
        try {
            client.createTopic(topic, partitions, Map.of());
            check(false, "creating a topic twice was not refused");
        } catch (TopicExistsException e) {
            // as it has to be
        }
        Map<String, String> described = client.configs(topic);
        configs(p).forEach((k, v) -> same(described.get(k), v, k));
        client.addPartitions(topic, more);
        until(15, "the added partitions", () -> client.partitions(topic) == more);
    }

    void compression(String codec) throws Exception {
        List<Rec> records = new ArrayList<>();
        for (int i = 0; i < scenario.get("compression").get("records").asInt(); i++) {
            records.add(Rec.payload(i));
        }
        roundTrip("compression-" + codec, records, codec);
    }

    void headerDuplicates() throws Exception {
        byte[] one = Rec.bytes(1);
        Rec record = Rec.of("k", "v").with(Rec.header("a", one), Rec.header("b", Rec.bytes(2)),
            Rec.header("a", Rec.bytes(3)), Rec.header("a", one), Rec.header("", Rec.bytes("no name")), Rec.header("null", null));
        roundTrip("header-duplicates", List.of(record, Rec.of("k", "v")), "none");
    }

    void headerBinaryValues() throws Exception {
        byte[] bytes = new byte[256];
        for (int i = 0; i < 256; i++) {
            bytes[i] = (byte) i;
        }
        Rec record = Rec.of("k", "v").with(Rec.header("bytes", bytes), Rec.header("ü", new byte[] {(byte) 0xc3, 0x28}));
        roundTrip("header-binary-values", List.of(record), "none");
    }

    void headerBinaryKeys() {
        throw new Skip("header keys are strings");
    }

    void nulls() throws Exception {
        List<Rec> records = new ArrayList<>();
        for (String key : Arrays.asList(null, "", "k")) {
            for (String value : Arrays.asList(null, "", "v")) {
                records.add(Rec.of(key, value));
            }
        }
        roundTrip("nulls", records, "none");
    }

    void idempotence() throws Exception {
        JsonNode p = scenario.get("idempotence");
        int partitions = p.get("partitions").asInt();
        inOrder("idempotence", partitions, p.get("records").asInt() / partitions, true);
    }

    void order() throws Exception {
        JsonNode p = scenario.get("order");
        inOrder("order", p.get("partitions").asInt(), p.get("records_per_partition").asInt(), false);
    }

    private void inOrder(String name, int partitions, int perPartition, boolean idempotent) throws Exception {
        String topic = newTopic(name, partitions, Map.of());
        List<Rec> records = new ArrayList<>();
        for (int i = 0; i < partitions * perPartition; i++) {
            records.add(Rec.of(null, i).in(i % partitions));
        }
        client.produce(topic, records, "none", idempotent);
        for (int partition = 0; partition < partitions; partition++) {
            List<Rec> got = readAll(topic, partition, perPartition);
            same(offsets(got), range(0, perPartition), "offsets of partition " + partition);
            for (int n = 0; n < perPartition; n++) {
                same(got.get(n).text(), "" + (n * partitions + partition), "record " + n + " of partition " + partition);
            }
            same(client.watermarks(topic, partition), List.of(0L, (long) perPartition), "watermarks of " + partition);
        }
    }

    void timestamps() throws Exception {
        JsonNode p = scenario.get("timestamps");
        int n = p.get("records").asInt();
        int half = n / 2;
        long base = System.currentTimeMillis() - 3_600_000;
        String topic = newTopic("timestamps", 1, Map.of());
        List<Rec> records = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            records.add(Rec.of("k", i).at(base + (long) i * p.get("step_ms").asInt()));
        }
        client.produce(topic, records, "none", false);
        List<Rec> got = readAll(topic, 0, n);
        same(got.stream().map(Rec::timestamp).toList(), records.stream().map(Rec::timestamp).toList(), "timestamps");
        long at = got.get(half).timestamp();
        same(client.offsetForTime(topic, 0, at - 5), (long) half, "offset for a time between two records");
        same(client.offsetForTime(topic, 0, base - 5), 0L, "offset for a time before the first");
        same(client.offsetForTime(topic, 0, got.get(n - 1).timestamp() + 5), null, "offset for a time after the last");
        same(client.offsetOfMaxTimestamp(topic, 0), (long) n - 1, "offset of the latest timestamp");
        List<Rec> sought = client.read(topic, 0, half, r -> r.size() >= n - half);
        same(List.of(sought.get(0).offset(), sought.get(0).timestamp()), List.of((long) half, at), "first record after the seek");
    }

    void deleteRecords() throws Exception {
        JsonNode p = scenario.get("delete-records");
        int n = p.get("records").asInt();
        long before = p.get("before").asInt();
        String topic = newTopic("delete-records", 1, Map.of());
        client.produce(topic, Collections.nCopies(n, Rec.of(null, "x")), "none", false);
        same(client.deleteRecords(topic, 0, before), before, "low watermark");
        same(client.watermarks(topic, 0), List.of(before, (long) n), "watermarks");
        same(offsets(client.read(topic, 0, before, r -> r.size() >= n - before)), range(before, n), "offsets left");
    }

    void deleteTopic() throws Exception {
        String topic = newTopic("delete-topic", 1, Map.of());
        client.produce(topic, Collections.nCopies(3, Rec.of(null, "old")), "none", false);
        client.deleteTopic(topic);
        until(15, "the topic is gone", () -> !client.exists(topic));
        until(15, "the topic can be created again", () -> {
            try {
                client.createTopic(topic, 1, Map.of());
                return true;
            } catch (TopicExistsException e) { // the deletion may still be under way
                return false;
            }
        });
        until(15, "the new topic in the metadata", () -> client.partitions(topic) == 1);
        same(client.watermarks(topic, 0), List.of(0L, 0L), "watermarks of the new topic");
        same(client.produce(topic, List.of(Rec.of(null, "new")), "none", false), List.of(0L), "first offset in the new topic");
    }

    /** Written first, so that the broker can compact while the other cases run. */
    void prepareCompacted() throws Exception {
        JsonNode p = scenario.get("compacted");
        String topic = newTopic("compacted", 1, configs(p));
        int keys = p.get("keys").asInt();
        List<Rec> records = new ArrayList<>();
        for (int i = 0; i < keys * p.get("rounds").asInt(); i++) {
            records.add(Rec.of("k" + i % keys, i));
        }
        client.produce(topic, records, "none", false);
        for (int i = 1; i <= 2; i++) {
            Thread.sleep(500); // longer than segment.ms: the next batch rolls the segment
            client.produce(topic, List.of(Rec.of("last", i)), "none", false);
        }
        compactedTotal = records.size() + 2;
    }

    private List<Rec> readCompacted(long offset) {
        return client.read(name("compacted"), 0, offset, r -> r.get(r.size() - 1).offset() == compactedTotal - 1);
    }

    void compacted() throws Exception {
        JsonNode p = scenario.get("compacted");
        int keys = p.get("keys").asInt();
        until(60, "the topic is compacted", () -> readCompacted(0).size() <= keys + 2);
        List<Rec> got = readCompacted(0);
        same(offsets(got), offsets(got).stream().sorted().distinct().toList(), "ascending offsets");
        Map<String, String> latest = new HashMap<>();
        got.forEach(r -> latest.put(new String(r.key()), r.text()));
        for (int k = 0; k < keys; k++) {
            same(latest.get("k" + k), "" + (keys * (p.get("rounds").asInt() - 1) + k), "last value of k" + k);
        }
        long first = got.get(0).offset();
        same(readCompacted(first / 2).get(0).offset(), first, "first record after an offset in a gap");
        same(client.watermarks(name("compacted"), 0).get(1), (long) compactedTotal, "end of the log");
    }

    void group(String protocol) throws Exception {
        JsonNode p = scenario.get("group");
        String topic = newTopic("group-" + protocol, p.get("partitions").asInt(), Map.of());
        new GroupCase(client, topic, protocol, p).run();
    }

    void commit() throws Exception {
        JsonNode p = scenario.get("restart");
        String topic = newTopic("restart", 1, Map.of());
        List<Rec> records = new ArrayList<>();
        for (int i = 0; i < p.get("records").asInt(); i++) {
            records.add(Rec.payload(i));
        }
        client.produce(topic, records, "none", true);
        resume(0, p.get("first").asInt());
    }

    private void resume(int start, int count) throws Exception {
        String topic = name("restart");
        if (start > 0) {
            until(15, "the committed offset is " + start, () -> {
                OffsetAndMetadata committed = client.committed(topic, topic, 0);
                return committed != null && committed.offset() == start;
            });
            same(client.committed(topic, topic, 0).metadata(), "up to " + start, "metadata of the commit");
        }
        List<Rec> got = client.groupRead(topic, topic, count, "up to " + (start + count));
        same(offsets(got), range(start, start + count), "offsets");
        for (int i = 0; i < count; i++) {
            same(got.get(i).content(), Rec.payload(start + i).content(), "record " + (start + i));
        }
        same(client.committed(topic, topic, 0).offset(), (long) start + count, "committed offset");
    }

    void restart(String how) throws Exception {
        JsonNode p = scenario.get("restart");
        int first = p.get("first").asInt();
        int second = p.get("second").asInt();
        if (how.equals("term")) {
            resume(first, second);
        } else {
            resume(first + second, p.get("records").asInt() - first - second);
        }
    }
}
