package krocket;

import static krocket.Cases.check;
import static krocket.Cases.same;
import static krocket.Cases.until;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.common.header.Header;

/** krocket's own features, as any Kafka client meets them: record headers, topic names, nothing else. */
final class Features {
    private final Cases cases;
    private final Client client;
    private final String prefix;

    Features(Cases cases, Client client, String prefix) {
        if (System.getenv("KROCKET_HTTP") == null) {
            throw new Skip("only krocket has it");
        }
        this.cases = cases;
        this.client = client;
        this.prefix = prefix;
    }

    /** A record with key k, and headers given as name, value, name, value. */
    private static Rec rec(String value, String... headers) {
        List<Header> list = new ArrayList<>();
        for (int i = 0; i < headers.length; i += 2) {
            list.add(Rec.header(headers[i], Rec.bytes(headers[i + 1])));
        }
        return Rec.of("k", value).with(list.toArray(new Header[0]));
    }

    /** The same record without a timestamp, to be produced. */
    private static Rec fresh(Rec r, List<Header> headers) {
        return new Rec(r.key(), r.value(), headers, 0, null, -1);
    }

    private static List<Header> without(Rec r, String name) {
        return new ArrayList<>(r.headers().stream().filter(h -> !h.key().equals(name)).toList());
    }

    private static String header(Rec r, String name) {
        List<Header> found = r.headers().stream().filter(h -> h.key().equals(name)).toList();
        check(!found.isEmpty(), "no header " + name);
        return new String(found.get(found.size() - 1).value());
    }

    private static List<String> values(List<Rec> records) {
        return records.stream().map(Rec::text).toList();
    }

    private List<Long> produce(String topic, Rec... records) throws Exception {
        return client.produce(topic, Arrays.asList(records), "none", true);
    }

    private static void refused(String what, Callable<?> work) {
        try {
            work.call();
        } catch (Exception e) {
            return;
        }
        throw new AssertionError("accepted: " + what);
    }

    /** What an operator does; the features themselves need no HTTP. */
    private static void http(String path, String body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("KROCKET_HTTP") + path))
            .header("content-type", "application/json").POST(HttpRequest.BodyPublishers.ofString(body)).build();
        HttpResponse<String> response = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        check(response.statusCode() / 100 == 2, path + ": " + response.statusCode() + " " + response.body());
    }

    /** Two members share a view: each record that matches arrives once, no other, and nothing is left to read. */
    void viewGroup() throws Exception {
        int partitions = 4;
        String topic = cases.newTopic("view", partitions, Map.of());
        String view = topic + "--paid--refunded";
        String[] tags = {"new", "paid", "lost||refunded", null, "paid too"};
        List<Rec> records = new ArrayList<>();
        Set<String> wanted = new HashSet<>();
        for (int i = 0; i < 400; i++) {
            String tag = tags[i % 5];
            records.add((tag == null ? rec("" + i, "x", "y") : rec("" + i, "TAGS", tag)).in(i % partitions));
            if (i % 5 == 1 || i % 5 == 2) {
                wanted.add("" + i);
            }
        }
        client.produce(topic, records.subList(0, 100), "none", true);
        List<String> seen = new ArrayList<>();
        List<Thread> members = new ArrayList<>();
        AtomicBoolean stop = new AtomicBoolean();
        Throwable[] error = new Throwable[1];
        Runnable join = () -> {
            Thread thread = new Thread(() -> {
                try {
                    client.member(view, view, "classic", got -> {
                        synchronized (seen) {
                            seen.addAll(values(got));
                        }
                    }, stop);
                } catch (Throwable e) {
                    error[0] = e;
                }
            });
            thread.setDaemon(true);
            members.add(thread);
            thread.start();
        };
        try {
            join.run();
            until(30, "the first member gets what is there", () -> distinct(seen).size() == 40);
            join.run();
            client.produce(topic, records.subList(100, 250), "gzip", true);
            until(30, "records that come while the group rebalances", () -> distinct(seen).size() == 100);
            client.produce(topic, records.subList(250, 400), "zstd", true);
            until(30, "all records that match", () -> distinct(seen).size() >= wanted.size());
        } finally {
            stop.set(true);
            for (Thread member : members) {
                member.join(30_000);
            }
        }
        if (error[0] != null) {
            throw new Exception(error[0]);
        }
        same(distinct(seen), wanted, "records that match");
        same(seen.size(), wanted.size(), "records delivered");
        for (int p = 0; p < partitions; p++) {
            same(client.committed(view, view, p).offset(), client.watermarks(view, p).get(1), "committed offset and end of " + p);
        }
        refused("a record produced to a view", () -> produce(view, rec("x")));
    }

    private static Set<String> distinct(List<String> seen) {
        synchronized (seen) {
            return new HashSet<>(seen);
        }
    }

    /** A delayed record arrives when it is due and not before; a cancelled one never does. */
    void delayCancel() throws Exception {
        String topic = cases.newTopic("delay", 1, Map.of());
        long began = System.currentTimeMillis();
        List<Long> offsets = produce(topic, rec("late", "TIMER_DELAY_MS", "2000", "a", "b"), rec("now", "a", "b"),
            rec("cancelled", "TIMER_DELAY_SEC", "1", "UNIQ_KEY", "u-1"));
        same(offsets, List.of(0L, 1L, 2L), "offsets: a delayed record has its own");
        produce(topic, rec("x", "TIMER_DEL_UNIQKEY", "u-1"));
        same(client.watermarks(topic, 0), List.of(0L, 2L), "watermarks: up to the last record that can be read");
        List<Rec> got = client.read(topic, 0, 0, r -> r.size() >= 2);
        same(values(got), List.of("now", "late"), "records");
        long after = got.get(1).timestamp() - began;
        check(after >= 2000 && after < 4000, "delivered " + after + " ms after it was sent, due after 2000");
        same(header(got.get(1), "ORIGIN_MESSAGE_ID"), topic + ":0:0", "ORIGIN_MESSAGE_ID");
        same(header(got.get(1), "a"), "b", "the record's own header");
        refused("a cancel of nothing", () -> produce(topic, rec("x", "TIMER_DEL_UNIQKEY", "u-2")));
        refused("TIMER_DELAY_MS=soon", () -> produce(topic, rec("x", "TIMER_DELAY_MS", "soon")));
    }

    /** A consumer fails until the record is dead; an operator sends it back to where it came from. */
    void retryDeadRedrive() throws Exception {
        String group = prefix + ".billing";
        String topic = cases.newTopic("bills", 1, Map.of());
        String retry = "retry." + group;
        String dlq = "dlq." + group;
        produce(topic, rec("bill 7", "a", "b"));
        Rec one = client.groupRead(group, topic, 1, "").get(0);
        until(15, "the topics that come with the group", () -> client.exists(retry) && client.exists(dlq));
        Header origin = Rec.header("ORIGIN_MESSAGE_ID", Rec.bytes(topic + ":0:0"));
        long position = 0;
        for (int attempt = 1; attempt <= 2; attempt++) {
            List<Header> headers = new ArrayList<>(one.headers());
            headers.add(origin);
            headers.add(Rec.header("ERROR", Rec.bytes("no money")));
            if (attempt == 2) { // its id instead of the record itself
                headers.removeIf(h -> !Set.of("RECONSUME_TIMES", "ORIGIN_MESSAGE_ID", "ERROR").contains(h.key()));
            }
            produce(retry, attempt == 1 ? fresh(one, headers) : new Rec(null, null, headers, 0, null, -1));
            one = client.read(retry, 0, position, r -> !r.isEmpty()).get(0);
            position = one.offset() + 1;
            same(List.of(new String(one.key()), one.text()), List.of("k", "bill 7"), "record of attempt " + attempt);
            same(header(one, "RECONSUME_TIMES"), "" + attempt, "RECONSUME_TIMES");
            same(header(one, "ORIGIN_MESSAGE_ID"), topic + ":0:0", "ORIGIN_MESSAGE_ID");
            same(header(one, "REAL_TOPIC"), topic, "REAL_TOPIC");
            same(header(one, "a"), "b", "the record's own header");
        }
        List<Header> headers = without(one, "ERROR");
        headers.add(Rec.header("ERROR", Rec.bytes("still no money")));
        produce(retry, fresh(one, headers));
        Rec dead = client.read(dlq, 0, 0, r -> !r.isEmpty()).get(0);
        same(List.of(new String(dead.key()), dead.text()), List.of("k", "bill 7"), "the dead letter");
        same(header(dead, "__dlq.errors.topic"), topic, "__dlq.errors.topic");
        same(header(dead, "__dlq.errors.group"), group, "__dlq.errors.group");
        same(header(dead, "__dlq.errors.message"), "still no money", "__dlq.errors.message");
        refused("a record produced to a DLQ", () -> produce(dlq, rec("x")));
        http("/v1/dlq/" + group + "/redrive", "{\"all\": true}");
        Rec again = client.read(topic, 0, 1, r -> !r.isEmpty()).get(0);
        same(List.of(new String(again.key()), again.text()), List.of("k", "bill 7"), "the redriven record");
    }

    /** The producer dies between its half messages and their ends; another of its group is asked and answers. */
    void halfCheck() throws Exception {
        String producers = prefix + ".shop";
        String topic = cases.newTopic("half", 1, Map.of());
        List<Rec> halves = new ArrayList<>();
        for (Map.Entry<String, String> one : new java.util.TreeMap<>(Map.of(
                "h-1", "paid", "h-2", "not paid", "h-3", "ended in time")).entrySet()) {
            halves.add(rec(one.getValue(), "TRAN_MSG", "true", "PGROUP", producers, "CHECK_IMMUNITY_TIME_IN_SECONDS", "1",
                "UNIQ_KEY", one.getKey()));
        }
        client.produce(topic, halves, "none", true);
        same(client.watermarks(topic, 0), List.of(0L, 0L), "watermarks: half messages cannot be read");
        produce(topic, rec("x", "TRAN_END", "COMMIT", "UNIQ_KEY", "h-3"));
        same(values(client.read(topic, 0, 0, r -> !r.isEmpty())), List.of("ended in time"), "the committed one");
        String questions = "check." + producers;
        until(15, "the check topic", () -> client.exists(questions));
        Map<String, Rec> asked = new HashMap<>();
        client.groupRead(producers + ".checkers", questions, 2, "").forEach(r -> asked.put(r.text(), r));
        same(asked.keySet(), Set.of("paid", "not paid"), "half messages that are asked about");
        for (Rec question : asked.values()) {
            String verdict = question.text().equals("paid") ? "COMMIT" : "ROLLBACK";
            produce(topic, rec("x", "TRAN_END", verdict, "ORIGIN_MESSAGE_ID", header(question, "ORIGIN_MESSAGE_ID")));
        }
        same(values(client.read(topic, 0, 0, r -> r.size() >= 2)), List.of("ended in time", "paid"), "what consumers see");
        refused("a commit after the rollback", () -> produce(topic, rec("x", "TRAN_END", "COMMIT", "UNIQ_KEY", "h-2")));
    }
}
