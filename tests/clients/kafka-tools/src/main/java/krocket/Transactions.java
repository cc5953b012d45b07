package krocket;

import static krocket.Check.has;
import static krocket.Check.hasNot;
import static krocket.Check.that;

import java.io.BufferedReader;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** TransactionalMessageCopier, killed and started again; kafka-transactions.sh at every state of a transaction. */
final class Transactions {
    private static final int RECORDS = 10_000;
    private static final Pattern PROCESSED = Pattern.compile("\"totalProcessed\":(\\d+)");
    private static final Pattern OPEN_SINCE = Pattern.compile("\\s(\\d+)\\s*$");

    private final String bootstrap;
    private final String prefix;

    Transactions(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
    }

    /** Each record of the input is in the output once, though both copiers abort at random and are killed. */
    void copier(String input, String output) throws Exception {
        // With keys, for otherwise one partition may get everything.
        Tool.run("VerifiableProducer", "--topic", input, "--max-messages", "" + RECORDS, "--acks", "-1",
            "--repeating-keys", "100");
        Driver.awaitEnd(input, RECORDS);
        List<Copier> copiers = new ArrayList<>();
        try {
            for (int n = 0; n < 2; n++) {
                copiers.add(new Copier(input, output, n));
            }
            for (int n = 0; n < 2; n++) {
                copiers.get(n).await(RECORDS / 10);
                copiers.get(n).kill();
                copiers.set(n, new Copier(input, output, n));
            }
            List<String> copied = read(output, RECORDS, "read_committed");
            List<Integer> wanted = IntStream.range(0, RECORDS).boxed().toList();
            List<Integer> values = copied.stream().map(Integer::valueOf).sorted().toList();
            that(values.equals(wanted), "not each record once: " + values.size() + " records, "
                + values.stream().distinct().count() + " different ones");
        } finally {
            copiers.forEach(Copier::kill);
        }
        has(tool("list", "--transactional-id-pattern", Pattern.quote(prefix) + ".*"), prefix + ".copier-0", prefix + ".copier-1");
    }

    /** A process of its own, so that it can be killed. */
    private final class Copier {
        private final Process process;
        private final AtomicLong processed = new AtomicLong();

        Copier(String input, String output, int number) throws Exception {
            String java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
            process = new ProcessBuilder(java, "-Xmx128M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", System.getProperty("java.class.path"),
                "org.apache.kafka.tools.TransactionalMessageCopier", "--broker-list", bootstrap,
                "--transactional-id", prefix + ".copier-" + number, "--consumer-group", prefix + ".copiers",
                "--input-topic", input, "--input-partition", "" + number, "--output-topic", output,
                // What a killed one left open holds its group's offsets back, and its successor asks for them first.
                "--transaction-timeout", "5000", "--transaction-size", "100", "--enable-random-aborts", "--use-group-metadata")
                .redirectError(ProcessBuilder.Redirect.INHERIT).start();
            Thread reader = new Thread(() -> {
                try (BufferedReader lines = process.inputReader()) {
                    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                        Matcher found = PROCESSED.matcher(line);
                        if (found.find()) {
                            processed.set(Long.parseLong(found.group(1)));
                        }
                    }
                } catch (java.io.IOException ended) {
                    // It was killed.
                }
            });
            reader.setDaemon(true);
            reader.start();
        }

        void await(long records) throws Exception {
            for (int n = 0; n < 3000 && processed.get() < records; n++) {
                that(process.isAlive(), "the copier ended after " + processed + " records");
                Thread.sleep(10);
            }
            that(processed.get() >= records, "the copier has copied only " + processed);
        }

        /** SIGKILL. */
        void kill() {
            process.destroyForcibly().onExit().join();
        }
    }

    /** So many records, and whatever follows them within two seconds. */
    private List<String> read(String topic, int records, String isolation) {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "isolation.level", isolation);
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> all = consumer.partitionsFor(topic).stream()
                .map(info -> new TopicPartition(topic, info.partition())).toList();
            consumer.assign(all);
            consumer.seekToBeginning(all);
            List<String> values = new ArrayList<>();
            long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
            while (values.size() < records && System.nanoTime() < deadline) {
                consumer.poll(Duration.ofMillis(200)).forEach(record -> values.add(record.value()));
            }
            deadline = System.nanoTime() + Duration.ofSeconds(2).toNanos();
            while (System.nanoTime() < deadline) {
                consumer.poll(Duration.ofMillis(200)).forEach(record -> values.add(record.value()));
            }
            return values;
        }
    }

    /** What kafka-transactions.sh says of a transaction from its first to its last state. */
    void states(String topic) throws Exception {
        String id = prefix + ".states";
        try (var producer = producer(id)) {
            producer.initTransactions();
            has(describe(id), id, " Empty ");
            begin(producer, topic, "a");
            has(describe(id), " Ongoing ", topic + "-0");
            has(tool("list"), id, " Ongoing");
            has(tool("list", "--duration-filter", "0"), id);
            hasNot(tool("list", "--duration-filter", "3600000"), id);
            hasNot(tool("list", "--transactional-id-pattern", "no-such-.*"), id);
            that(openSince(topic) == 0, "it is open since offset 0: " + producers(topic));
            producer.commitTransaction();
            ends(id, "CompleteCommit");
            that(openSince(topic) == -1, "it is still open: " + producers(topic));
            begin(producer, topic, "b");
            producer.abortTransaction();
            ends(id, "CompleteAbort");
            that(openSince(topic) == -1, "it is still open: " + producers(topic));
        }
        that(read(topic, 1, "read_committed").equals(List.of("a")), "what is committed is not what is read");
    }

    /** A producer that went away in the middle: it is found, holds readers back, and is aborted by hand. */
    void abandoned(String topic) throws Exception {
        String id = prefix + ".abandoned";
        KafkaProducer<String, String> gone = producer(id);
        gone.initTransactions();
        begin(gone, topic, "never");
        try (var other = producer(prefix + ".other")) {
            other.initTransactions();
            begin(other, topic, "behind");
            other.commitTransaction();
        }
        that(read(topic, 0, "read_committed").isEmpty(), "records behind an open transaction are read");
        // Its coordinator knows it, so it does not hang.
        hasNot(tool("find-hanging", "--topic", topic, "--partition", "0", "--max-transaction-timeout", "0"), id);
        hasNot(tool("find-hanging", "--broker-id", broker(), "--max-transaction-timeout", "0"), id);
        long since = openSince(topic);
        that(since == 0, "it is open since offset 0: " + producers(topic));
        tool("abort", "--topic", topic, "--partition", "0", "--start-offset", "" + since);
        that(openSince(topic) == -1, "it is still open: " + producers(topic));
        that(read(topic, 1, "read_committed").equals(List.of("behind")), "the aborted one still holds readers back");
        tool("forceTerminateTransaction", "--transactionalId", id);
        ends(id, "Empty");
        try {
            gone.send(new ProducerRecord<>(topic, 0, null, "late"));
            gone.commitTransaction();
            throw new IllegalStateException("a producer that was terminated could commit");
        } catch (org.apache.kafka.common.KafkaException fenced) {
            gone.close(Duration.ZERO);
        }
        that(read(topic, 1, "read_committed").equals(List.of("behind")), "the late one is read");
    }

    private KafkaProducer<String, String> producer(String id) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "transactional.id", id));
        return new KafkaProducer<>(config, new StringSerializer(), new StringSerializer());
    }

    private static void begin(KafkaProducer<String, String> producer, String topic, String value) {
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(topic, 0, null, value));
        producer.flush();
    }

    private String tool(String... args) throws Exception {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", bootstrap));
        all.addAll(List.of(args));
        return Tool.main("TransactionsCommand", "", all);
    }

    private String describe(String id) throws Exception {
        return tool("describe", "--transactional-id", id);
    }

    private String producers(String topic) throws Exception {
        return tool("describe-producers", "--topic", topic, "--partition", "0");
    }

    /** An end is answered before its markers are everywhere: PrepareCommit and PrepareAbort pass. */
    private void ends(String id, String state) throws Exception {
        String said = describe(id);
        for (int n = 0; n < 100 && said.contains(" Prepare"); n++) {
            Thread.sleep(50);
            said = describe(id);
        }
        has(said, " " + state + " ");
        has(tool("list"), id);
    }

    /** Where the first open transaction begins; -1 where none is open. */
    private long openSince(String topic) throws Exception {
        return producers(topic).lines().skip(1).map(OPEN_SINCE::matcher).filter(Matcher::find)
            .mapToLong(found -> Long.parseLong(found.group(1))).min().orElse(-1);
    }

    private static String broker() throws Exception {
        return Tool.run("BrokerApiVersionsCommand").replaceAll("(?s).*\\(id: (\\d+) .*", "$1");
    }
}
