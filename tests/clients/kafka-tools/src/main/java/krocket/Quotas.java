package krocket;

import static krocket.Check.has;
import static krocket.Check.hasNot;

import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Client quotas by kafka-configs.sh, and a Java producer that is held to one. */
final class Quotas {
    private static final String CONFIGS = "kafka.admin.ConfigCommand";

    private Quotas() { }

    static void configs(String name) throws Exception {
        String[] both = {"--entity-type", "users", "--entity-name", name, "--entity-type", "clients", "--entity-name", "app"};
        String[] client = {"--entity-type", "clients", "--entity-name", name};
        String[] address = {"--entity-type", "ips", "--entity-name", "192.0.2.7"};
        has(Tool.run(CONFIGS, Driver.with(both, "--alter", "--add-config", "producer_byte_rate=1048576,request_percentage=150.5")),
            "Completed updating config for");
        Tool.run(CONFIGS, Driver.with(client, "--alter", "--add-config", "consumer_byte_rate=2048,controller_mutation_rate=0.5"));
        Tool.run(CONFIGS, Driver.with(address, "--alter", "--add-config", "connection_creation_rate=100"));
        has(Tool.run(CONFIGS, Driver.with(both, "--describe")), "Quota configs for user-principal '" + name + "', client-id 'app'",
            "producer_byte_rate=1048576.0", "request_percentage=150.5");
        has(Tool.run(CONFIGS, Driver.with(client, "--describe")), "consumer_byte_rate=2048.0", "controller_mutation_rate=0.5");
        has(Tool.run(CONFIGS, "--entity-type", "ips", "--describe"), "connection_creation_rate=100.0");
        Tool.run(CONFIGS, Driver.with(both, "--alter", "--delete-config", "producer_byte_rate"));
        String left = Tool.run(CONFIGS, Driver.with(both, "--describe"));
        has(left, "request_percentage=150.5");
        hasNot(left, "producer_byte_rate");
        Tool.run(CONFIGS, Driver.with(both, "--alter", "--delete-config", "request_percentage"));
        Tool.run(CONFIGS, Driver.with(client, "--alter", "--delete-config", "consumer_byte_rate,controller_mutation_rate"));
        Tool.run(CONFIGS, Driver.with(address, "--alter", "--delete-config", "connection_creation_rate"));
        hasNot(Tool.run(CONFIGS, Driver.with(client, "--describe")), "consumer_byte_rate");
        try {
            Tool.run(CONFIGS, Driver.with(client, "--alter", "--add-config", "producer_byte_rate=0.5"));
        } catch (AssertionError | java.util.concurrent.ExecutionException refused) {
            return;
        }
        throw new AssertionError("half a byte was not refused");
    }

    /** Eleven seconds' worth may be sent at once; what is more takes its time, and the client knows why. */
    static void producer(String topic, String name) throws Exception {
        String bootstrap = System.getenv("KROCKET_BOOTSTRAP");
        String[] client = {"--entity-type", "clients", "--entity-name", name};
        Tool.run(CONFIGS, Driver.with(client, "--alter", "--add-config", "producer_byte_rate=200000"));
        List<String> args = new ArrayList<>(List.of("--topic", topic, "--num-records", "3000", "--record-size", "1000",
            "--throughput", "-1", "--print-metrics"));
        if (Driver.propertyFlag("new", "old").equals("new")) {
            args.addAll(List.of("--bootstrap-server", bootstrap, "--command-property", "client.id=" + name));
        } else {
            args.addAll(List.of("--producer-props", "bootstrap.servers=" + bootstrap, "client.id=" + name));
        }
        long begun = System.nanoTime();
        String printed = Tool.main("ProducerPerformance", "", args);
        double seconds = (System.nanoTime() - begun) / 1e9;
        Tool.run(CONFIGS, Driver.with(client, "--alter", "--delete-config", "producer_byte_rate"));
        Matcher throttled = Pattern.compile("produce-throttle-time-max:\\{[^}]*}\\s*:\\s*([0-9.]+)").matcher(printed);
        Check.that(throttled.find() && Double.parseDouble(throttled.group(1)) > 0, "the client was never told to wait");
        Check.that(seconds > 3, "three megabytes took only " + seconds + " seconds");
    }
}
