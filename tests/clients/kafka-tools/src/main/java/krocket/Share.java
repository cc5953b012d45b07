package krocket;

import static krocket.Check.has;
import static krocket.Check.hasNot;
import static krocket.Check.that;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** VerifiableShareConsumer and kafka-share-groups.sh. */
final class Share {
    private static final String GROUPS = "consumer.group.ShareGroupCommand";
    private static final int RECORDS = 500;
    private static final Pattern ACKNOWLEDGED =
        Pattern.compile("\"count\":(\\d+)[^\\n]*\"name\":\"offsets_acknowledged\"|\"name\":\"offsets_acknowledged\"[^\\n]*?\"count\":(\\d+)");

    private Share() { }

    /** Takes and acknowledges all records, in each of its ways. The topic holds 500. */
    static void verifiable(String topic, String group) throws Exception {
        for (String mode : new String[] {"auto", "sync", "async"}) {
            String own = group + "-" + mode;
            String said = Tool.run("VerifiableShareConsumer", "--topic", topic, "--group-id", own, "--max-messages",
                "" + RECORDS, "--acknowledgement-mode", mode, "--offset-reset-strategy", "earliest");
            has(said, "startup_complete", "offset_reset_strategy_set", "records_consumed", "offsets_acknowledged", "shutdown_complete");
            int acknowledged = ACKNOWLEDGED.matcher(said).results()
                .mapToInt(found -> Integer.parseInt(found.group(1) != null ? found.group(1) : found.group(2))).sum();
            that(acknowledged == RECORDS, mode + ": " + acknowledged + " records acknowledged");
        }
    }

    /** The group is listed, described, reset and deleted. Its topic holds 500 records in one partition. */
    static void groups(String topic, String group) throws Exception {
        Tool.run("VerifiableShareConsumer", "--topic", topic, "--group-id", group, "--max-messages", "" + RECORDS,
            "--acknowledgement-mode", "sync", "--offset-reset-strategy", "earliest");
        has(Tool.run(GROUPS, "--list"), group);
        has(Tool.run(GROUPS, "--list", "--state"), group + " Empty");
        that(lag(topic, group) == 0, "all is acknowledged, and there is a lag");
        has(Tool.run(GROUPS, "--describe", "--group", group, "--state"), "Empty", " 0");
        Tool.run(GROUPS, "--describe", "--group", group, "--members", "--verbose");
        String[] reset = {"--reset-offsets", "--group", group, "--topic", topic};
        has(Tool.run(GROUPS, Driver.with(reset, "--to-earliest", "--dry-run")), topic + " 0 0");
        that(lag(topic, group) == 0, "a dry run has moved the group");
        has(Tool.run(GROUPS, Driver.with(reset, "--to-earliest", "--execute")), topic + " 0 0");
        that(lag(topic, group) == RECORDS, "the group is at the start, and its lag is " + lag(topic, group));
        has(Tool.run(GROUPS, Driver.with(reset, "--to-latest", "--execute")), topic + " 0 " + RECORDS);
        has(Tool.run(GROUPS, "--delete-offsets", "--group", group, "--topic", topic), topic, "Successful");
        has(Tool.run(GROUPS, "--delete", "--group", group), "was successful");
        hasNot(Tool.run(GROUPS, "--list"), group + "\n");
    }

    /** Kafka's start offset moves now and then, its lag at once. */
    private static int lag(String topic, String group) throws Exception {
        String said = Tool.run(GROUPS, "--describe", "--group", group);
        Matcher row = Pattern.compile(Pattern.quote(topic) + "\\s+0\\s+\\d+\\s+(\\d+)").matcher(said);
        that(row.find(), "no lag in: " + said);
        return Integer.parseInt(row.group(1));
    }
}
