package krocket;

import static krocket.Screens.BASE;
import static krocket.Screens.configs;
import static krocket.Screens.get;
import static krocket.Screens.node;
import static krocket.Screens.refused;
import static krocket.Screens.that;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ConsumerGroupState;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntryFilter;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePatternFilter;
import org.apache.kafka.common.resource.ResourceType;

/** The calls of AKHQ, which is built with an older client. */
final class Akhq implements Driver.Console {
    private final Screens screens;
    private final AdminClient admin;

    Akhq(Screens screens) {
        this.screens = screens;
        admin = screens.admin;
    }

    @Override
    public Map<String, Driver.Case> cases() {
        Map<String, Driver.Case> cases = new LinkedHashMap<>();
        cases.put("nodes", this::nodes);
        cases.put("topics", this::topics);
        cases.put("topic-settings", this::topicSettings);
        cases.put("topic-life", this::topicLife);
        cases.put("messages", this::messages);
        cases.put("groups", this::groups);
        cases.put("acls-disabled", this::aclsDisabled);
        return cases;
    }

    private void nodes() throws Exception {
        var cluster = admin.describeCluster();
        that(!get(cluster.clusterId()).isEmpty(), "no cluster id");
        node(get(cluster.controller()), "controller");
        List<Integer> ids = get(cluster.nodes()).stream().map(Node::id).toList();
        that(ids.contains(get(cluster.controller()).id()), "the controller is no node");
        var resources = ids.stream().map(id -> new ConfigResource(ConfigResource.Type.BROKER, "" + id)).toList();
        for (Config config : get(admin.describeConfigs(resources).all()).values()) {
            configs(config, false);
        }
        Screens.folders(get(admin.describeLogDirs(ids).allDescriptions()), ids.size(), List.of());
    }

    private void topics() throws Exception {
        String topic = screens.topic("topics", 2, Map.of());
        String empty = screens.topic("empty", 1, Map.of());
        screens.fill(topic, 2, 20);
        var listed = get(admin.listTopics(new ListTopicsOptions().listInternal(true)).listings()).stream()
            .filter(listing -> listing.name().startsWith(screens.prefix)).toList();
        that(listed.stream().noneMatch(listing -> listing.isInternal()), "is internal");
        var described = get(admin.describeTopics(listed.stream().map(listing -> listing.name()).toList()).allTopicNames());
        Screens.online(described.values());
        List<TopicPartition> partitions = new ArrayList<>(Screens.partitions(described.get(topic)));
        List<Integer> ids = get(admin.describeCluster().nodes()).stream().map(Node::id).toList();
        Screens.folders(get(admin.describeLogDirs(ids).allDescriptions()), ids.size(), partitions);
        partitions.addAll(Screens.partitions(described.get(empty)));
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of())) {
            var begin = consumer.offsetsForTimes(partitions.stream().collect(Collectors.toMap(p -> p, p -> 0L)));
            var end = consumer.endOffsets(partitions);
            for (TopicPartition partition : partitions) {
                boolean filled = partition.topic().equals(topic);
                that(filled ? begin.get(partition).offset() == 0 : begin.get(partition) == null, "begin: " + begin);
                that(end.get(partition) == (filled ? 10 : 0), "end: " + end);
            }
        }
    }

    /** All that was set and is to stay is sent with what is new, as AlterConfigs wants it. */
    private void topicSettings() throws Exception {
        String topic = screens.topic("settings", 1, Map.of("retention.ms", "3600000", "cleanup.policy", "compact"));
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var before = configs(get(admin.describeConfigs(List.of(resource)).all()).get(resource), false);
        List<ConfigEntry> entries = new ArrayList<>(before.values().stream()
            .filter(entry -> entry.source().name().startsWith("DYNAMIC_") && !entry.name().equals("cleanup.policy"))
            .map(entry -> new ConfigEntry(entry.name(), entry.value())).toList());
        entries.add(new ConfigEntry("max.message.bytes", "262144"));
        alterConfigs(Map.of(resource, new Config(entries)));
        Map<String, ConfigEntry> after = Map.of();
        for (int n = 0; n < 100 && (after.isEmpty() || !after.get("max.message.bytes").value().equals("262144")); n++) {
            after = configs(get(admin.describeConfigs(List.of(resource)).all()).get(resource), false);
        }
        that(after.get("max.message.bytes").value().equals("262144"), "not set");
        that(after.get("retention.ms").value().equals("3600000"), "retention.ms did not stay");
        that(after.get("cleanup.policy").value().equals("delete"), "cleanup.policy did not go");
    }

    @SuppressWarnings("deprecation")
    private void alterConfigs(Map<ConfigResource, Config> configs) throws Exception {
        get(admin.alterConfigs(configs).all());
    }

    /** Create, more partitions, empty, a tombstone for a key, delete. */
    private void topicLife() throws Exception {
        String topic = screens.prefix + ".life";
        get(admin.createTopics(Set.of(new NewTopic(topic, 1, (short) 1).configs(Map.of("retention.ms", "3600000")))).all());
        screens.led(topic, 1);
        get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all());
        screens.led(topic, 2);
        screens.fill(topic, 2, 20);
        var lows = admin.deleteRecords(Map.of(new TopicPartition(topic, 0), RecordsToDelete.beforeOffset(10),
            new TopicPartition(topic, 1), RecordsToDelete.beforeOffset(4))).lowWatermarks();
        for (Map.Entry<TopicPartition, KafkaFuture<org.apache.kafka.clients.admin.DeletedRecords>> low : lows.entrySet()) {
            that(get(low.getValue()).lowWatermark() == (low.getKey().partition() == 0 ? 10 : 4), "low watermark of " + low.getKey());
        }
        get(admin.deleteTopics(Set.of(topic)).all());
        for (int n = 0; get(admin.listTopics().names()).contains(topic); n++) {
            that(n < 100, "still listed");
            Thread.sleep(50);
        }
    }

    private void messages() throws Exception {
        String topic = screens.topic("messages", 2, Map.of());
        screens.fill(topic, 2, 40);
        var partitions = List.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1));
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of("max.poll.records", 1))) {
            consumer.assign(List.of(partitions.get(1)));
            consumer.seek(partitions.get(1), 7);
            var record = Screens.poll(consumer, 1).get(0);
            that(record.offset() == 7 && record.timestamp() == BASE + 15_000, "found " + record);
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of())) {
            consumer.assign(partitions);
            consumer.endOffsets(consumer.assignment()).forEach((partition, end) -> consumer.seek(partition, Math.max(0, end - 2)));
            Screens.poll(consumer, 4);
            var at = consumer.offsetsForTimes(Map.of(partitions.get(0), BASE + 20_000, partitions.get(1), BASE + 90_000_000));
            that(at.get(partitions.get(0)).offset() == 10 && at.get(partitions.get(1)) == null, "at that time: " + at);
        }
    }

    private void groups() throws Exception {
        String topic = screens.topic("groups", 2, Map.of());
        String group = screens.prefix + ".groups";
        screens.fill(topic, 2, 20);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of("group.id", group, "auto.offset.reset", "earliest"))) {
            consumer.subscribe(List.of(topic));
            Screens.poll(consumer, 20);
            consumer.commitSync();
            var described = get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
            that(described.state() == ConsumerGroupState.STABLE && described.members().size() == 1, "is " + described);
            node(described.coordinator(), "coordinator");
        }
        var listed = get(admin.listConsumerGroups().all());
        that(listed.stream().anyMatch(listing -> listing.groupId().equals(group)), "not listed");
        var wanted = Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(2), new TopicPartition(topic, 1), new OffsetAndMetadata(9));
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of("group.id", group))) {
            consumer.commitSync(wanted); // a consumer that never joined
        }
        var committed = get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        that(wanted.keySet().equals(committed.keySet()), "committed " + committed);
        wanted.forEach((partition, offset) -> that(committed.get(partition).offset() == offset.offset(), "committed " + committed));
        get(admin.deleteConsumerGroupOffsets(group, wanted.keySet()).all());
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of("group.id", group))) {
            consumer.commitSync(wanted);
        }
        get(admin.deleteConsumerGroups(Set.of(group)).all());
        that(get(admin.listConsumerGroups().all()).stream().noneMatch(listing -> listing.groupId().equals(group)), "still listed");
    }

    /** Of everybody, of one principal, of one resource: each says that there is no authorizer. */
    private void aclsDisabled() throws Exception {
        var anybody = new AccessControlEntryFilter("User:ui", null, AclOperation.ANY, AclPermissionType.ANY);
        for (AclBindingFilter filter : List.of(AclBindingFilter.ANY,
                new AclBindingFilter(new ResourcePatternFilter(ResourceType.ANY, null, PatternType.ANY), anybody),
                new AclBindingFilter(new ResourcePatternFilter(ResourceType.TOPIC, "t", PatternType.ANY), AccessControlEntryFilter.ANY))) {
            refused(SecurityDisabledException.class, admin.describeAcls(filter).values());
        }
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> more) {
        Map<String, Object> properties = new LinkedHashMap<>(Map.of("max.poll.records", 25000,
            "isolation.level", "read_committed", "default.api.timeout.ms", 15000));
        properties.putAll(more);
        return screens.consumer(properties);
    }
}
