package krocket;

import static krocket.Cases.check;
import static krocket.Cases.same;
import static krocket.Cases.until;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Share groups (KIP-932): two members take a topic's records one by one, and each is held by one of them at a time. */
final class Share implements Driver.Case {
    private static final int RECORDS = 2000;
    private final Cases cases;
    private final Client client;
    private final boolean renew;
    private final String topic;
    private final String group;
    private final Map<String, String> holders = new ConcurrentHashMap<>();
    private final Map<String, Integer> deliveries = new ConcurrentHashMap<>();
    private final Set<String> done = ConcurrentHashMap.newKeySet();
    private final Set<String> takers = ConcurrentHashMap.newKeySet();
    private final AtomicBoolean stop = new AtomicBoolean();
    private final AtomicReference<Throwable> failure = new AtomicReference<>();

    Share(Cases cases, Client client, boolean renew) throws Exception {
        this.cases = cases;
        this.client = client;
        this.renew = renew;
        topic = cases.newTopic(renew ? "share-renew" : "share", renew ? 1 : 3, Map.of());
        group = topic + "-group";
    }

    @Override
    public void run() throws Exception {
        if (renew) {
            renew();
        } else {
            story();
        }
    }

    private KafkaShareConsumer<byte[], byte[]> member() {
        Properties p = client.base();
        p.put("group.id", group);
        p.put("share.acknowledgement.mode", "explicit");
        var member = new KafkaShareConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        member.subscribe(List.of(topic));
        return member;
    }

    private static String value(ConsumerRecord<byte[], byte[]> r) {
        return new String(r.value());
    }

    private static void commit(KafkaShareConsumer<byte[], byte[]> member) {
        member.commitSync().forEach((partition, error) ->
            check(error.isEmpty(), "acknowledgements of " + partition + ": " + error.orElse(null)));
    }

    /** A record's own fate: every 500th is refused, every 100th comes twice. */
    private static AcknowledgeType fate(int n, int delivery) {
        if (n % 500 == 250) {
            return AcknowledgeType.REJECT;
        }
        return n % 100 == 0 && delivery == 1 ? AcknowledgeType.RELEASE : AcknowledgeType.ACCEPT;
    }

    private void take(String name) {
        try (var member = member()) {
            while (!stop.get()) {
                List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
                member.poll(Duration.ofMillis(200)).forEach(got::add);
                for (var r : got) {
                    String other = holders.put(value(r), name);
                    check(other == null, "record " + value(r) + " is held by " + other + ", and came to " + name);
                    int delivery = deliveries.merge(value(r), 1, Integer::sum);
                    same(r.deliveryCount().map(Short::intValue).orElse(-1), delivery, "delivery count of " + value(r));
                    takers.add(name);
                }
                for (var r : got) {
                    AcknowledgeType fate = fate(Integer.parseInt(value(r)), deliveries.get(value(r)));
                    holders.remove(value(r)); // before the broker knows
                    member.acknowledge(r, fate);
                    if (fate != AcknowledgeType.RELEASE) {
                        check(done.add(value(r)), "record " + value(r) + " came again after it was done");
                    }
                }
                if (!got.isEmpty()) {
                    commit(member);
                }
            }
        } catch (Throwable e) {
            failure.compareAndSet(null, e);
        }
    }

    private void story() throws Exception {
        client.groupConfigs(group, Map.of("share.auto.offset.reset", "earliest"));
        List<Thread> threads = new ArrayList<>();
        for (String name : List.of("one", "two")) {
            threads.add(new Thread(() -> take(name)));
            threads.get(threads.size() - 1).start();
        }
        try {
            // In several goes, so that both members have joined before the last.
            for (int from = 0; from < RECORDS; from += RECORDS / 10) {
                List<Rec> records = new ArrayList<>();
                for (int n = from; n < from + RECORDS / 10; n++) {
                    records.add(Rec.of("k" + n, n).in(n % 3));
                }
                client.produce(topic, records, "none", false);
                int sent = from + RECORDS / 10;
                until(40, sent + " records done", () -> failure.get() != null || done.size() == sent);
            }
        } finally {
            stop.set(true);
            for (Thread thread : threads) {
                thread.join(20_000);
            }
        }
        if (failure.get() != null) {
            throw new Exception(failure.get());
        }
        same(done.size(), RECORDS, "records done");
        same(takers.size(), 2, "members that took records");
        for (int n = 0; n < RECORDS; n++) {
            same(deliveries.get("" + n), n % 100 == 0 ? 2 : 1, "deliveries of " + n);
        }
        if (System.getenv("KROCKET_HTTP") != null) { // Kafka 4.3 has no dead letters
            deadLetters();
        }
    }

    private void deadLetters() throws Exception {
        String dlq = "dlq." + group;
        until(20, dlq, () -> client.exists(dlq));
        int partitions = client.partitions(dlq);
        until(20, "four dead letters", () -> ends(dlq, partitions) == RECORDS / 500);
        Set<String> found = new HashSet<>();
        for (int p = 0; p < partitions; p++) {
            long end = client.watermarks(dlq, p).get(1);
            if (end == 0) {
                continue;
            }
            for (Rec r : client.read(dlq, p, 0, records -> records.size() >= end)) {
                found.add(r.text());
                int n = Integer.parseInt(r.text());
                same(header(r, "__dlq.errors.topic"), topic, "__dlq.errors.topic");
                same(header(r, "__dlq.errors.partition"), "" + n % 3, "__dlq.errors.partition");
                same(header(r, "__dlq.errors.offset"), "" + n / 3, "__dlq.errors.offset");
                same(header(r, "__dlq.errors.group"), group, "__dlq.errors.group");
                same(header(r, "__dlq.errors.delivery.count"), "1", "__dlq.errors.delivery.count");
            }
        }
        same(found, Set.of("250", "750", "1250", "1750"), "dead letters");
    }

    private long ends(String dlq, int partitions) throws Exception {
        long sum = 0;
        for (int p = 0; p < partitions; p++) {
            sum += client.watermarks(dlq, p).get(1);
        }
        return sum;
    }

    private static String header(Rec r, String name) {
        var found = r.headers().stream().filter(h -> h.key().equals(name)).toList();
        check(!found.isEmpty(), "no header " + name + " in " + r.headers());
        return new String(found.get(found.size() - 1).value());
    }

    /** A record that takes longer than its lock lasts stays with the member that renews the lock. */
    private void renew() throws Exception {
        client.groupConfigs(group, Map.of("share.auto.offset.reset", "earliest", "share.record.lock.duration.ms", "15000"));
        client.produce(topic, List.of(Rec.of("k", "1")), "none", false);
        try (var holder = member(); var other = member()) {
            var record = poll(holder, 30);
            check(record != null, "the record does not come");
            check(poll(other, 9) == null, "the record came to the other member while it was held");
            holder.acknowledge(record, AcknowledgeType.RENEW);
            commit(holder);
            record = poll(holder, 5);
            check(record != null, "a renewed record is not handed out again");
            check(poll(other, 9) == null, "the lock ended in spite of its renewal");
            holder.acknowledge(record, AcknowledgeType.ACCEPT);
            commit(holder);
            check(poll(other, 2) == null, "the record came again after it was accepted");
        }
    }

    /** The one record, or null when it does not come in time. */
    private static ConsumerRecord<byte[], byte[]> poll(KafkaShareConsumer<byte[], byte[]> member, int seconds) {
        long deadline = System.nanoTime() + Duration.ofSeconds(seconds).toNanos();
        while (System.nanoTime() < deadline) {
            for (var record : member.poll(Duration.ofMillis(200))) {
                return record;
            }
        }
        return null;
    }
}
