package krocket;

import static krocket.Check.has;
import static krocket.Check.hasNot;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Kafka's command-line tools, by the classes that its shell scripts start. Arguments are the names of cases. */
public final class Driver {
    private static final String BOOTSTRAP = System.getenv("KROCKET_BOOTSTRAP");
    private static final String PREFIX = System.getenv("KROCKET_PREFIX");
    private static final String GROUPS = "consumer.group.ConsumerGroupCommand";
    private static final String CONFIGS = "kafka.admin.ConfigCommand";

    private interface Case {
        void run() throws Exception;
    }

    private final Map<String, Case> cases = new TreeMap<>();

    private Driver() {
        cases.put("topics", this::topics);
        cases.put("configs", this::configs);
        cases.put("group-configs", this::groupConfigs);
        cases.put("broker", this::broker);
        cases.put("console", this::console);
        cases.put("performance", this::performance);
        cases.put("verifiable", this::verifiable);
        cases.put("consumer-groups", () -> consumerGroups("classic"));
        cases.put("consumer-groups-848", () -> consumerGroups("consumer"));
        cases.put("offsets", this::offsets);
        cases.put("log-dirs", this::logDirs);
        cases.put("producers", this::producers);
        cases.put("quota-configs", () -> Quotas.configs(PREFIX + ".quotas"));
        cases.put("quota-producer", () -> Quotas.producer(topic("quota", 1), PREFIX + ".limited"));
        Transactions transactions = new Transactions(BOOTSTRAP, PREFIX);
        cases.put("copier", () -> transactions.copier(topic("copied", 2), topic("copy", 2)));
        cases.put("transaction-states", () -> transactions.states(topic("states", 1)));
        cases.put("transaction-abandoned", () -> transactions.abandoned(topic("abandoned", 1)));
        cases.put("verifiable-share", () -> Share.verifiable(filled("verifiable-share"), PREFIX + ".verifiable-share"));
        cases.put("share-groups", () -> Share.groups(filled("share-groups"), PREFIX + ".share-groups"));
    }

    private static String topic(String name, int partitions) throws Exception {
        String topic = PREFIX + "." + name;
        Tool.run("TopicCommand", "--create", "--topic", topic, "--partitions", "" + partitions, "--replication-factor", "1");
        for (int n = 0; n < 100 && !Tool.run("TopicCommand", "--list").contains(topic); n++) {
            Thread.sleep(50);
        }
        // An idempotent producer that meets a leader which isn't ready yet can get stuck, with Apache Kafka too.
        for (int n = 0; n < 100 && offsetLines(topic) < partitions; n++) {
            Thread.sleep(50);
        }
        return topic;
    }

    /** With 500 records in one partition. */
    private static String filled(String name) throws Exception {
        String topic = topic(name, 1);
        produce(topic, 500);
        return topic;
    }

    private static void produce(String topic, int records) throws Exception {
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < records; i++) {
            lines.append("k").append(i).append("\tv").append(i).append('\n');
        }
        Tool.main("ConsoleProducer", lines.toString(), List.of("--bootstrap-server", BOOTSTRAP, "--topic", topic,
            propertyFlag("--reader-property", "--property"), "parse.key=true"));
    }

    /** Some flags got new names in 4.2; the old ones print a warning. */
    static String propertyFlag(String now, String before) {
        String[] version = org.apache.kafka.common.utils.AppInfoParser.getVersion().split("\\.");
        boolean recent = Integer.parseInt(version[0]) > 4
            || Integer.parseInt(version[0]) == 4 && Integer.parseInt(version[1]) >= 2;
        return recent ? now : before;
    }

    private void topics() throws Exception {
        String topic = PREFIX + ".topics";
        has(Tool.run("TopicCommand", "--create", "--topic", topic, "--partitions", "3", "--config", "retention.ms=3600000"),
            "Created topic " + topic);
        Tool.run("TopicCommand", "--create", "--if-not-exists", "--topic", topic);
        try {
            Tool.run("TopicCommand", "--create", "--topic", topic);
            throw new IllegalStateException("creating a topic twice was not refused");
        } catch (AssertionError refused) {
            has(refused.getMessage(), "already exists");
        }
        has(Tool.run("TopicCommand", "--list"), topic);
        has(Tool.run("TopicCommand", "--describe", "--topic", topic),
            "PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=3600000", "Partition: 2 Leader: ");
        Tool.run("TopicCommand", "--alter", "--topic", topic, "--partitions", "5");
        has(Tool.run("TopicCommand", "--describe", "--topic", topic), "PartitionCount: 5");
        hasNot(Tool.run("TopicCommand", "--describe", "--unavailable-partitions"), topic);
        Tool.run("TopicCommand", "--delete", "--topic", topic);
        for (int n = 0; n < 100 && Tool.run("TopicCommand", "--list").contains(topic); n++) {
            Thread.sleep(50);
        }
        hasNot(Tool.run("TopicCommand", "--list"), topic);
    }

    private void configs() throws Exception {
        String topic = topic("configs", 1);
        String[] entity = {"--entity-type", "topics", "--entity-name", topic};
        Tool.run(CONFIGS, with(entity, "--alter", "--add-config", "retention.ms=1234567,cleanup.policy=[compact,delete]"));
        has(Tool.run(CONFIGS, with(entity, "--describe")), "retention.ms=1234567", "cleanup.policy=compact,delete");
        Tool.run(CONFIGS, with(entity, "--alter", "--delete-config", "cleanup.policy"));
        String left = Tool.run(CONFIGS, with(entity, "--describe"));
        has(left, "retention.ms=1234567");
        hasNot(left, "cleanup.policy");
        has(Tool.run(CONFIGS, with(entity, "--describe", "--all")), "cleanup.policy=delete", "max.message.bytes=");
        try {
            Tool.run(CONFIGS, with(entity, "--alter", "--add-config", "no.such.config=1"));
        } catch (AssertionError | java.util.concurrent.ExecutionException refused) {
            return;
        }
        throw new AssertionError("an unknown config was not refused");
    }

    private void groupConfigs() throws Exception {
        String[] entity = {"--entity-type", "groups", "--entity-name", PREFIX + ".configured"};
        Tool.run(CONFIGS, with(entity, "--alter", "--add-config", "consumer.session.timeout.ms=50000"));
        has(Tool.run(CONFIGS, with(entity, "--describe")), "consumer.session.timeout.ms=50000");
        Tool.run(CONFIGS, with(entity, "--alter", "--delete-config", "consumer.session.timeout.ms"));
        hasNot(Tool.run(CONFIGS, with(entity, "--describe")), "consumer.session.timeout.ms=50000");
    }

    private void broker() throws Exception {
        String apis = Tool.run("BrokerApiVersionsCommand");
        has(apis, "Produce(0): 0 to ", "Fetch(1): ", "ConsumerGroupHeartbeat(68): ");
        has(Tool.main("ClusterTool", "", List.of("cluster-id", "--bootstrap-server", BOOTSTRAP)), "Cluster ID: ");
        has(Tool.main("FeatureCommand", "", List.of("--bootstrap-server", BOOTSTRAP, "describe")), "group.version");
        String id = apis.replaceAll("(?s).*\\(id: (\\d+) .*", "$1");
        has(Tool.run(CONFIGS, "--entity-type", "brokers", "--entity-name", id, "--describe", "--all"),
            "message.max.bytes=", "sensitive=false");
        Tool.run(CONFIGS, "--entity-type", "brokers", "--entity-default", "--describe");
    }

    private void console() throws Exception {
        String topic = topic("console", 1);
        Tool.main("ConsoleProducer", "h1:a,h1:b\tkey\tvalue\nh2:c\tNULL\tVALUE\n", List.of("--bootstrap-server", BOOTSTRAP,
            "--topic", topic, "--compression-codec", "zstd", propertyFlag("--reader-property", "--property"), "parse.key=true",
            propertyFlag("--reader-property", "--property"), "parse.headers=true",
            propertyFlag("--reader-property", "--property"), "null.marker=NULL"));
        List<String> args = new ArrayList<>(List.of("--topic", topic, "--from-beginning", "--max-messages", "2",
            "--timeout-ms", "20000"));
        for (String what : List.of("key", "headers", "offset", "partition", "timestamp")) {
            args.addAll(List.of(propertyFlag("--formatter-property", "--property"), "print." + what + "=true"));
        }
        has(Tool.run("consumer.ConsoleConsumer", args.toArray(String[]::new)),
            "CreateTime:", "Partition:0 Offset:0 h1:a,h1:b key value", "Offset:1 h2:c null VALUE");
    }

    private void performance() throws Exception {
        String topic = topic("performance", 2);
        List<String> produce = new ArrayList<>(List.of("--topic", topic, "--num-records", "20000", "--record-size", "100",
            "--throughput", "-1"));
        if (propertyFlag("new", "old").equals("new")) {
            produce.addAll(List.of("--bootstrap-server", BOOTSTRAP));
        } else {
            produce.addAll(List.of("--producer-props", "bootstrap.servers=" + BOOTSTRAP));
        }
        has(Tool.main("ProducerPerformance", "", produce), "20000 records sent");
        String consumed = Tool.run("ConsumerPerformance", "--topic", topic,
            propertyFlag("--num-records", "--messages"), "20000", "--timeout", "20000");
        has(consumed, "MB.sec");
        if (!consumed.lines().anyMatch(line -> line.matches(".*, 20\\d{3}, .*"))) {
            throw new AssertionError("not 20000 records: " + consumed);
        }
    }

    private void verifiable() throws Exception {
        String topic = topic("verifiable", 2);
        Tool.run("VerifiableProducer", "--topic", topic, "--max-messages", "500", "--acks", "-1");
        awaitEnd(topic, 500);
        for (String protocol : List.of("classic", "consumer")) {
            has(Tool.run("VerifiableConsumer", "--topic", topic, "--group-id", PREFIX + ".verifiable-" + protocol,
                "--group-protocol", protocol, "--max-messages", "500", "--reset-policy", "earliest"),
                "partitions_assigned", "records_consumed", "offsets_committed", "shutdown_complete");
        }
    }

    private void consumerGroups(String protocol) throws Exception {
        String topic = topic("groups-" + protocol, 1);
        String group = PREFIX + ".groups-" + protocol;
        produce(topic, 10);
        Tool.run("consumer.ConsoleConsumer", "--topic", topic, "--group", group, "--from-beginning", "--max-messages", "10",
            "--timeout-ms", "20000", propertyFlag("--command-property", "--consumer-property"), "group.protocol=" + protocol);
        has(Tool.run(GROUPS, "--list"), group);
        has(Tool.run(GROUPS, "--list", "--state"), group);
        has(Tool.run("GroupsCommand", "--list"), group);
        has(Tool.run(GROUPS, "--describe", "--group", group), topic + " 0 10 10 0 ");
        has(Tool.run(GROUPS, "--describe", "--group", group, "--state"), "Empty", " 0");
        Tool.run(GROUPS, "--describe", "--group", group, "--members", "--verbose");
        Tool.run(GROUPS, "--describe", "--all-groups", "--offsets");
        reset(group, topic, 3, "--to-offset", "3");
        reset(group, topic, 5, "--shift-by", "2");
        reset(group, topic, 0, "--to-earliest");
        reset(group, topic, 10, "--to-latest");
        reset(group, topic, 0, "--by-duration", "PT1H");
        reset(group, topic, 10, "--to-datetime", Instant.now().plusSeconds(60).toString().substring(0, 19) + ".000");
        has(Tool.run(GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--dry-run"), topic + " 0 0");
        has(Tool.run(GROUPS, "--describe", "--group", group), topic + " 0 10 10 0 ");
        has(Tool.run(GROUPS, "--delete-offsets", "--group", group, "--topic", topic), "Successful");
        hasNot(Tool.run(GROUPS, "--describe", "--group", group), topic + " ");
        reset(group, topic, 1, "--to-offset", "1");
        has(Tool.run(GROUPS, "--delete", "--group", group), "was successful");
        hasNot(Tool.run(GROUPS, "--list"), group + "\n");
    }

    private static void reset(String group, String topic, int wanted, String... how) throws Exception {
        String[] base = {"--reset-offsets", "--group", group, "--topic", topic, "--execute"};
        has(Tool.run(GROUPS, with(base, how)), topic + " 0 " + wanted);
        has(Tool.run(GROUPS, "--describe", "--group", group), topic + " 0 " + wanted + " 10 " + (10 - wanted));
    }

    private void offsets() throws Exception {
        String topic = topic("offsets", 2);
        produce(topic, 10);
        Path file = Files.createTempFile("records", ".json");
        Files.writeString(file, "{\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":-1}],\"version\":1}");
        String ends = Tool.run("GetOffsetShell", "--topic", topic);
        if (end(topic) != 10) {
            throw new AssertionError("ends: " + ends);
        }
        String end = ends.lines().filter(line -> line.startsWith(topic + ":0:")).findFirst().orElseThrow();
        has(Tool.run("GetOffsetShell", "--topic", topic, "--time", "earliest"), topic + ":0:0", topic + ":1:0");
        has(Tool.run("GetOffsetShell", "--topic", topic, "--time", "1"), topic + ":");
        has(Tool.run("GetOffsetShell", "--topic", topic, "--time", "max-timestamp"), topic + ":");
        has(Tool.run("DeleteRecordsCommand", "--offset-json-file", file.toString()), "low_watermark: " + end.split(":")[2]);
        has(Tool.run("GetOffsetShell", "--topic", topic, "--time", "earliest"), end, topic + ":1:0");
        Files.delete(file);
    }

    private static long offsetLines(String topic) throws Exception {
        return Tool.run("GetOffsetShell", "--topic", topic).lines().filter(line -> line.startsWith(topic + ":")).count();
    }

    /** The sum of the end offsets of a topic's partitions. */
    private static int end(String topic) throws Exception {
        return Tool.run("GetOffsetShell", "--topic", topic).lines().filter(line -> line.startsWith(topic + ":"))
            .mapToInt(line -> Integer.parseInt(line.split(":")[2])).sum();
    }

    /** VerifiableProducer flushes and reports in a hook of the process, which does not end here. */
    static void awaitEnd(String topic, int records) throws Exception {
        for (int n = 0; n < 200 && end(topic) < records; n++) {
            Thread.sleep(50);
        }
        Check.that(end(topic) == records, topic + " has " + end(topic) + " records");
    }

    private void logDirs() throws Exception {
        String topic = topic("log-dirs", 1);
        produce(topic, 10);
        String described = Tool.run("LogDirsCommand", "--describe", "--topic-list", topic);
        has(described, "\"partition\":\"" + topic + "-0\"", "\"size\":");
        hasNot(described, "\"size\":0");
    }

    private void producers() throws Exception {
        String topic = topic("producers", 1);
        produce(topic, 10); // the console producer is idempotent
        String table = Tool.main("TransactionsCommand", "", List.of("--bootstrap-server", BOOTSTRAP,
            "describe-producers", "--topic", topic, "--partition", "0"));
        has(table, "ProducerId", "LastSequence");
        if (table.lines().count() < 2 || !table.lines().skip(1).findFirst().orElse("").contains("9")) {
            throw new AssertionError("the producer with its sequence 9 is not listed: " + table);
        }
    }

    static String[] with(String[] base, String... more) {
        List<String> all = new ArrayList<>(List.of(base));
        all.addAll(List.of(more));
        return all.toArray(String[]::new);
    }

    public static void main(String[] names) {
        Tool.install();
        Driver driver = new Driver();
        boolean passed = true;
        for (String name : names) {
            String what = System.getenv("KROCKET_CLIENT") + " " + name;
            try {
                driver.cases.get(name).run();
                Tool.line("PASS " + what);
            } catch (Throwable e) {
                e.printStackTrace();
                passed = false;
                String text = e instanceof AssertionError ? e.getMessage() : e.toString();
                Tool.line("FAIL " + what + ": " + text.lines().findFirst().orElse(""));
            }
        }
        Runtime.getRuntime().halt(passed ? 0 : 1);
    }
}
