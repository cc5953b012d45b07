package krocket;

import static krocket.Cases.check;
import static krocket.Cases.same;
import static krocket.Cases.until;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.BooleanSupplier;

/** A group of two grows to three and shrinks again while records flow: none may be lost or come twice. */
final class GroupCase {
    private record Seen(String member, int partition, String value) { }

    private final Client client;
    private final String topic;
    private final String protocol;
    private final int partitions;
    private final int each;
    private final int interval;
    private final List<Seen> seen = new ArrayList<>();
    private final Set<String> produced = new HashSet<>();
    private final Map<String, AtomicBoolean> stops = new HashMap<>();
    private final Map<String, Thread> threads = new HashMap<>();
    private final AtomicBoolean full = new AtomicBoolean();
    private volatile Throwable error;

    GroupCase(Client client, String topic, String protocol, JsonNode p) {
        this.client = client;
        this.topic = topic;
        this.protocol = protocol;
        partitions = p.get("partitions").asInt();
        each = p.get("records_each").asInt();
        interval = p.get("interval_ms").asInt();
    }

    private interface Work {
        void run() throws Exception;
    }

    private Thread thread(Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (Throwable e) {
                error = e;
            }
        });
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    private void start(String name) {
        AtomicBoolean stop = new AtomicBoolean();
        stops.put(name, stop);
        threads.put(name, thread(() -> client.member(topic, topic, protocol, records -> {
            synchronized (seen) {
                records.forEach(r -> seen.add(new Seen(name, r.partition(), r.text())));
            }
        }, stop)));
    }

    private void feed() throws Exception {
        for (int n = 0; !full.get(); ) {
            List<Rec> batch = new ArrayList<>();
            for (int i = 0; i < 12; i++, n++) {
                batch.add(Rec.of(null, n).in(n % partitions));
            }
            client.produce(topic, batch, "none", true);
            batch.forEach(r -> produced.add(r.text()));
            Thread.sleep(interval * 12L);
        }
    }

    private long count(String name, int since) {
        return seen.stream().skip(since).filter(s -> s.member.equals(name)).count();
    }

    private void await(String what, BooleanSupplier condition) throws Exception {
        until(40, what, () -> {
            if (error != null) {
                throw new Exception(error);
            }
            synchronized (seen) {
                return condition.getAsBoolean();
            }
        });
    }

    void run() throws Exception {
        try {
            start("a");
            start("b");
            Thread feeder = thread(this::feed);
            await("two members both get records", () -> Math.min(count("a", 0), count("b", 0)) >= each);
            start("c");
            await("the third member gets records", () -> count("c", 0) >= each);
            stops.get("a").set(true);
            threads.get("a").join(30_000);
            int mark;
            synchronized (seen) {
                mark = seen.size();
            }
            await("the other two take over", () ->
                seen.stream().skip(mark).map(Seen::partition).distinct().count() == partitions
                    && Math.min(count("b", mark), count("c", mark)) > 0);
            full.set(true);
            feeder.join(30_000);
            await("every record is consumed", () -> seen.stream().map(Seen::value).distinct().count() >= produced.size());
        } finally {
            full.set(true);
            stops.values().forEach(stop -> stop.set(true));
            for (Thread thread : threads.values()) {
                thread.join(30_000);
            }
        }
        if (error != null) {
            throw new Exception(error);
        }
        Set<String> distinct = new HashSet<>();
        seen.forEach(s -> distinct.add(s.value));
        check(distinct.equals(produced), (produced.size() - distinct.size()) + " of " + produced.size() + " records lost");
        same(seen.size(), distinct.size(), "records delivered, with duplicates");
        long committed = 0;
        for (int n = 0; n < partitions; n++) {
            committed += client.committed(topic, topic, n).offset();
        }
        same(committed, (long) produced.size(), "sum of the committed offsets");
    }
}
