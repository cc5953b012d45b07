package krocket;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.util.List;

/** Runs the cases named by its arguments; see README.md for the environment and the output. */
public final class Driver {
    private Driver() { }

    interface Case {
        void run() throws Exception;
    }

    /** Runs one case and prints its line; false when it failed. */
    static boolean report(String name, Case work) {
        String what = System.getenv("KROCKET_CLIENT") + " " + name;
        try {
            work.run();
            System.out.println("PASS " + what);
        } catch (Skip e) {
            System.out.println("SKIP " + what + ": " + e.getMessage());
        } catch (Throwable e) {
            e.printStackTrace();
            String text = e instanceof AssertionError ? e.getMessage() : e.toString();
            System.out.println("FAIL " + what + ": " + text.lines().findFirst().orElse(""));
            return false;
        }
        return true;
    }

    private static Features features(Cases cases, Client client) {
        return new Features(cases, client, System.getenv("KROCKET_PREFIX"));
    }

    /** Share consumers came after the oldest client here, which is built without this class. */
    private static void share(Cases cases, Client client, boolean renew) throws Exception {
        Class<?> story;
        try {
            story = Class.forName("krocket.Share");
        } catch (ClassNotFoundException e) {
            throw new Skip("share groups came with kafka-clients 4.0");
        }
        ((Case) story.getDeclaredConstructor(Cases.class, Client.class, boolean.class)
            .newInstance(cases, client, renew)).run();
    }

    private static Case find(Cases cases, Client client, String name) {
        if (name.startsWith("compression-")) {
            return () -> cases.compression(name.substring("compression-".length()));
        }
        if (name.startsWith("group-")) {
            return () -> cases.group(name.substring("group-".length()));
        }
        if (name.startsWith("restart-")) {
            return () -> cases.restart(name.substring("restart-".length()));
        }
        return switch (name) {
            case "topics" -> cases::topics;
            case "header-duplicates" -> cases::headerDuplicates;
            case "header-binary-values" -> cases::headerBinaryValues;
            case "header-binary-keys" -> cases::headerBinaryKeys;
            case "nulls" -> cases::nulls;
            case "idempotence" -> cases::idempotence;
            case "order" -> cases::order;
            case "timestamps" -> cases::timestamps;
            case "delete-records" -> cases::deleteRecords;
            case "delete-topic" -> cases::deleteTopic;
            case "compacted" -> cases::compacted;
            case "commit" -> cases::commit;
            case "view-group" -> () -> features(cases, client).viewGroup();
            case "delay-cancel" -> () -> features(cases, client).delayCancel();
            case "retry-dead-redrive" -> () -> features(cases, client).retryDeadRedrive();
            case "half-check" -> () -> features(cases, client).halfCheck();
            case "transactions" -> () -> new Transactions(cases, client, System.getenv("KROCKET_PREFIX")).run();
            case "share" -> () -> share(cases, client, false);
            case "share-renew" -> () -> share(cases, client, true);
            default -> () -> {
                throw new AssertionError("no such case");
            };
        };
    }

    public static void main(String[] names) throws Exception {
        JsonNode scenario = new ObjectMapper().readTree(new File(System.getenv("KROCKET_SCENARIO")));
        JsonNode group = scenario.get("group");
        Client client = new Client(System.getenv("KROCKET_BOOTSTRAP"), group.get("session_timeout_ms").asInt(),
            group.get("heartbeat_ms").asInt());
        Cases cases = new Cases(client, scenario, System.getenv("KROCKET_PREFIX"));
        Throwable prepared = null;
        if (List.of(names).contains("compacted")) {
            try {
                cases.prepareCompacted();
            } catch (Throwable e) {
                prepared = e;
            }
        }
        Throwable problem = prepared;
        boolean passed = true;
        for (String name : names) {
            Case work = name.equals("compacted") && problem != null
                ? () -> { throw new Exception(problem); } : find(cases, client, name);
            passed &= report(name, work);
        }
        System.out.flush();
        Runtime.getRuntime().halt(passed ? 0 : 1); // a member that hangs must not keep the process
    }
}
