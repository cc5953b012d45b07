package krocket;

import static krocket.Screens.BASE;
import static krocket.Screens.configs;
import static krocket.Screens.get;
import static krocket.Screens.node;
import static krocket.Screens.refused;
import static krocket.Screens.that;

import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ConsumerGroupListing;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ConsumerGroupState;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AccessControlEntryFilter;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourcePatternFilter;
import org.apache.kafka.common.resource.ResourceType;

/** The calls of kafbat UI. */
final class Kafbat implements Driver.Console {
    private final Screens screens;
    private final AdminClient admin;

    Kafbat(Screens screens) {
        this.screens = screens;
        admin = screens.admin;
    }

    @Override
    public Map<String, Driver.Case> cases() {
        Map<String, Driver.Case> cases = new LinkedHashMap<>();
        cases.put("start", this::start);
        cases.put("dashboard", this::dashboard);
        cases.put("brokers", this::brokers);
        cases.put("topic-settings", this::topicSettings);
        cases.put("topic-life", this::topicLife);
        cases.put("messages", this::messages);
        cases.put("groups", this::groups);
        cases.put("quotas", this::quotas);
        cases.put("acls-disabled", this::aclsDisabled);
        cases.put("acls", this::acls);
        return cases;
    }

    private Collection<Node> nodes() throws Exception {
        return get(admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true)).nodes());
    }

    /** Which Kafka this is and what it can do. */
    private void start() throws Exception {
        var cluster = admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(false));
        node(get(cluster.controller()), "controller");
        var resource = new ConfigResource(ConfigResource.Type.BROKER, get(cluster.controller()).idString());
        var entries = configs(get(admin.describeConfigs(List.of(resource)).all()).get(resource), false);
        that("true".equals(entries.get("delete.topic.enable").value()), "topics cannot be deleted");
        var features = get(admin.describeFeatures().featureMetadata());
        var version = features.finalizedFeatures().get("metadata.version");
        that(version != null && version.maxVersionLevel() >= 7, "version unknown: " + features);
        var again = admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true));
        that(!get(again.clusterId()).isEmpty(), "no cluster id");
        that(get(again.authorizedOperations()).contains(AclOperation.ALTER), "may not alter: " + get(again.authorizedOperations()));
        var quorum = get(admin.describeMetadataQuorum().quorumInfo()); // else the controller is shown as ZooKeeper
        that(quorum.voters().stream().anyMatch(voter -> voter.replicaId() == quorum.leaderId()), "no leader: " + quorum);
    }

    /** What is read every half minute, of everything. */
    private void dashboard() throws Exception {
        String topic = screens.topic("dashboard", 3, Map.of("retention.ms", "3600000"));
        screens.fill(topic, 3, 30);
        commit(topic, screens.prefix + ".dashboard", Map.of(0, 4L, 1, 10L));
        Set<String> mine = get(admin.listTopics(new ListTopicsOptions().listInternal(true)).names()).stream()
            .filter(name -> name.startsWith(screens.prefix)).collect(Collectors.toSet());
        that(mine.contains(topic), topic + " is not listed");
        Map<String, TopicDescription> described = get(admin.describeTopics(mine).allTopicNames());
        Screens.online(described.values());
        List<TopicPartition> partitions = Screens.partitions(described.get(topic));
        var folders = get(admin.describeLogDirs(nodes().stream().map(Node::id).toList()).allDescriptions());
        Screens.folders(folders, nodes().size(), partitions);

        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var entries = configs(get(admin.describeConfigs(List.of(resource),
            new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(false)).all()).get(resource), false);
        that(entries.get("retention.ms").source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "retention.ms was not set");
        that(!entries.get("retention.ms").synonyms().isEmpty(), "no synonyms");

        that(offsets(partitions, OffsetSpec.earliest()).values().stream().allMatch(offset -> offset == 0), "not from 0");
        that(offsets(partitions, OffsetSpec.latest()).values().stream().allMatch(offset -> offset == 10), "not to 10");
        List<String> groups = get(admin.listConsumerGroups().all()).stream().map(ConsumerGroupListing::groupId)
            .filter(id -> id.startsWith(screens.prefix)).toList();
        that(groups.contains(screens.prefix + ".dashboard"), "the group is not listed");
        for (ConsumerGroupDescription group : get(admin.describeConsumerGroups(groups).all()).values()) {
            node(group.coordinator(), "coordinator of " + group.groupId());
            that(group.state() != ConsumerGroupState.UNKNOWN, group.groupId() + " is in no known state");
        }
        var committed = committed(screens.prefix + ".dashboard");
        that(committed.equals(Map.of(new TopicPartition(topic, 0), 4L, new TopicPartition(topic, 1), 10L)), "" + committed);
    }

    private void brokers() throws Exception {
        for (Node node : nodes()) {
            node(node, "broker " + node.id());
            var resource = new ConfigResource(ConfigResource.Type.BROKER, node.idString());
            var entries = configs(get(admin.describeConfigs(List.of(resource)).all()).get(resource), false);
            for (String name : List.of("log.retention.ms", "message.max.bytes", "num.partitions", "advertised.listeners", "node.id")) {
                that(entries.containsKey(name), "no " + name);
            }
            String before = entries.get("message.max.bytes").value();
            var set = new AlterConfigOp(new ConfigEntry("message.max.bytes", "2097152"), AlterConfigOp.OpType.SET);
            get(admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all());
            awaitConfig(resource, "message.max.bytes", "2097152");
            var delete = new AlterConfigOp(new ConfigEntry("message.max.bytes", ""), AlterConfigOp.OpType.DELETE);
            get(admin.incrementalAlterConfigs(Map.of(resource, List.of(delete))).all());
            awaitConfig(resource, "message.max.bytes", before);
        }
    }

    /** With documentation; saved as a whole: what is missing in the form goes back to its default. */
    private void topicSettings() throws Exception {
        String topic = screens.topic("settings", 1, Map.of("retention.ms", "3600000", "cleanup.policy", "delete"));
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        var before = configs(get(admin.describeConfigs(List.of(resource), options).all()).get(resource), true);
        Map<String, String> form = Map.of("cleanup.policy", "compact,delete", "max.message.bytes", "262144");
        var delete = before.values().stream()
            .filter(entry -> entry.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG && !form.containsKey(entry.name()))
            .map(entry -> new AlterConfigOp(entry, AlterConfigOp.OpType.DELETE));
        var set = form.entrySet().stream()
            .map(entry -> new AlterConfigOp(new ConfigEntry(entry.getKey(), entry.getValue()), AlterConfigOp.OpType.SET));
        get(admin.incrementalAlterConfigs(Map.of(resource, Stream.concat(delete, set).toList())).all());
        awaitConfig(resource, "max.message.bytes", "262144");
        awaitConfig(resource, "cleanup.policy", "compact,delete");
        var after = get(admin.describeConfigs(List.of(resource)).all()).get(resource);
        that(after.get("retention.ms").source() != ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "retention.ms is still set");
    }

    /** Create, more partitions, purge, active producers, recreate, delete. */
    private void topicLife() throws Exception {
        String topic = screens.prefix + ".life";
        var created = new NewTopic(topic, Optional.of(2), Optional.empty()).configs(Map.of("retention.ms", "3600000"));
        get(admin.createTopics(List.of(created)).all());
        screens.led(topic, 2);
        refused(TopicExistsException.class, admin.createTopics(List.of(created)).all());
        get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all());
        screens.led(topic, 4);
        screens.fill(topic, 4, 20);
        List<TopicPartition> partitions = Screens.partitions(get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic));
        var producers = get(admin.describeProducers(partitions).all());
        that(partitions.stream().noneMatch(p -> producers.get(p).activeProducers().isEmpty()), "no active producers");

        var ends = offsets(partitions, OffsetSpec.latest());
        var purge = ends.entrySet().stream()
            .collect(Collectors.toMap(Map.Entry::getKey, e -> RecordsToDelete.beforeOffset(e.getValue())));
        get(admin.deleteRecords(purge).all());
        that(offsets(partitions, OffsetSpec.earliest()).equals(ends), "records are left");

        get(admin.deleteTopics(List.of(topic)).all());
        for (int n = 0; ; n++) { // while the old one is being deleted
            try {
                get(admin.createTopics(List.of(new NewTopic(topic, 4, (short) 1))).all());
                break;
            } catch (TopicExistsException e) {
                that(n < 100, "cannot be recreated");
                Thread.sleep(50);
            }
        }
        screens.led(topic, 4);
        for (int n = 0; offsets(partitions, OffsetSpec.latest()).values().stream().anyMatch(offset -> offset > 0); n++) {
            that(n < 100, "not empty");
            Thread.sleep(50);
        }
        get(admin.deleteTopics(List.of(topic)).all());
    }

    /** From the start, from an offset, from a time, the newest, live. */
    private void messages() throws Exception {
        String topic = screens.topic("messages", 2, Map.of());
        screens.fill(topic, 2, 40);
        Map<String, Object> properties = Map.of("client.id", screens.prefix, "auto.offset.reset", "earliest",
            "allow.auto.create.topics", "false", "max.poll.records", 100);
        try (KafkaConsumer<byte[], byte[]> consumer = screens.consumer(properties)) {
            var partitions = consumer.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
            var begin = consumer.offsetsForTimes(partitions.stream().collect(Collectors.toMap(p -> p, p -> 0L)));
            that(begin.values().stream().allMatch(found -> found != null && found.offset() == 0), "begins at " + begin);
            Map<TopicPartition, Long> end = consumer.endOffsets(partitions);
            consumer.assign(partitions);
            consumer.beginningOffsets(partitions).forEach(consumer::seek);
            var first = Screens.poll(consumer, 40).get(0);
            that(first.headers().lastHeader("from") != null, "no header");
            that(end.entrySet().stream().allMatch(e -> consumer.position(e.getKey()) == e.getValue()), "not polled to the end");

            partitions.forEach(partition -> consumer.seek(partition, 15));
            that(Screens.poll(consumer, 10).stream().allMatch(record -> record.offset() >= 15), "before the offset");
            long from = BASE + 30_000;
            var at = consumer.offsetsForTimes(partitions.stream().collect(Collectors.toMap(p -> p, p -> from)));
            at.forEach((partition, found) -> consumer.seek(partition, found.offset()));
            that(Screens.poll(consumer, 10).stream().allMatch(record -> record.timestamp() >= from), "before the time");
            end.forEach((partition, offset) -> consumer.seek(partition, offset - 5));
            Screens.poll(consumer, 10);

            consumer.endOffsets(partitions).forEach(consumer::seek);
            that(consumer.poll(Duration.ofMillis(200)).isEmpty(), "records behind the end");
            screens.fill(topic, 2, 2);
            that(Screens.poll(consumer, 2).stream().allMatch(record -> record.offset() == 20), "not what is new");
        }
    }

    /** A group with a member; then without, reset, one topic's offsets forgotten, deleted. */
    private void groups() throws Exception {
        String topic = screens.topic("groups", 2, Map.of());
        String group = screens.prefix + ".groups";
        screens.fill(topic, 2, 20);
        try (KafkaConsumer<byte[], byte[]> consumer = screens.consumer(Map.of("group.id", group, "auto.offset.reset", "earliest"))) {
            consumer.subscribe(List.of(topic));
            Screens.poll(consumer, 20);
            consumer.commitSync();
            var described = get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
            that(described.state() == ConsumerGroupState.STABLE, "is " + described.state());
            node(described.coordinator(), "coordinator");
            that(described.partitionAssignor().equals("range"), "assignor: " + described.partitionAssignor());
            var member = described.members().iterator().next();
            that(member.assignment().topicPartitions().size() == 2, "assigned " + member.assignment());
            that(!member.host().isEmpty() && !member.clientId().isEmpty() && !member.consumerId().isEmpty(), "who is " + member);
            refused(GroupNotEmptyException.class, admin.deleteConsumerGroups(List.of(group)).all());
        }
        that(committed(group).values().stream().allMatch(offset -> offset == 10), "committed " + committed(group));
        var described = get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
        that(described.state() == ConsumerGroupState.EMPTY && described.members().isEmpty(), "is " + described);
        TopicPartition first = new TopicPartition(topic, 0);
        TopicPartition second = new TopicPartition(topic, 1);
        long byTime = offsets(List.of(second), OffsetSpec.forTimestamp(BASE + 11_000)).get(second);
        get(admin.alterConsumerGroupOffsets(group, Map.of(first, new OffsetAndMetadata(3), second, new OffsetAndMetadata(byTime))).all());
        that(committed(group).equals(Map.of(first, 3L, second, 5L)), "reset to " + committed(group));
        get(admin.deleteConsumerGroupOffsets(group, Set.of(first, second)).all());
        that(committed(group).isEmpty(), "not forgotten: " + committed(group));
        commit(topic, group, Map.of(0, 1L)); // Apache Kafka forgets a group without offsets
        get(admin.deleteConsumerGroups(List.of(group)).all());
        that(get(admin.listConsumerGroups().all()).stream().noneMatch(listed -> listed.groupId().equals(group)), "still listed");
    }

    private void quotas() throws Exception {
        var entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.USER, screens.prefix, ClientQuotaEntity.CLIENT_ID, "ui"));
        var wanted = Map.of("producer_byte_rate", 1048576.0, "request_percentage", 50.0);
        alter(entity, wanted);
        for (int n = 0; !wanted.equals(get(admin.describeClientQuotas(ClientQuotaFilter.all()).entities()).get(entity)); n++) {
            that(n < 100, "the quota is not listed");
            Thread.sleep(50);
        }
        Map<String, Double> none = new HashMap<>();
        wanted.keySet().forEach(name -> none.put(name, null));
        alter(entity, none);
        for (int n = 0; get(admin.describeClientQuotas(ClientQuotaFilter.all()).entities()).containsKey(entity); n++) {
            that(n < 100, "the quota is still listed");
            Thread.sleep(50);
        }
    }

    private void alter(ClientQuotaEntity entity, Map<String, Double> quotas) throws Exception {
        var ops = quotas.entrySet().stream().map(e -> new ClientQuotaAlteration.Op(e.getKey(), e.getValue())).toList();
        get(admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity, ops))).all());
    }

    /** The screen is not offered where the answer is that there is no authorizer; any other error is logged. */
    private void aclsDisabled() throws Exception {
        refused(SecurityDisabledException.class, admin.describeAcls(AclBindingFilter.ANY).values());
    }

    private void acls() throws Exception {
        var all = new AclBindingFilter(ResourcePatternFilter.ANY, AccessControlEntryFilter.ANY);
        var entry = new AccessControlEntry("User:" + screens.prefix, "*", AclOperation.READ, AclPermissionType.ALLOW);
        var bindings = List.of(
            new AclBinding(new ResourcePattern(ResourceType.TOPIC, screens.prefix, PatternType.PREFIXED), entry),
            new AclBinding(new ResourcePattern(ResourceType.GROUP, "*", PatternType.LITERAL), entry));
        get(admin.createAcls(bindings).all());
        that(get(admin.describeAcls(all).values()).containsAll(bindings), "not listed: " + get(admin.describeAcls(all).values()));
        get(admin.deleteAcls(bindings.stream().map(AclBinding::toFilter).toList()).all());
        that(get(admin.describeAcls(all).values()).stream().noneMatch(bindings::contains), "still listed");
    }

    private Map<TopicPartition, Long> offsets(List<TopicPartition> partitions, OffsetSpec spec) throws Exception {
        var found = get(admin.listOffsets(partitions.stream().collect(Collectors.toMap(p -> p, p -> spec))).all());
        return found.entrySet().stream().collect(Collectors.toMap(Map.Entry::getKey, e -> e.getValue().offset()));
    }

    private Map<TopicPartition, Long> committed(String group) throws Exception {
        var spec = new ListConsumerGroupOffsetsSpec().topicPartitions(null);
        var found = get(admin.listConsumerGroupOffsets(Map.of(group, spec)).all()).get(group);
        return found.entrySet().stream().collect(Collectors.toMap(Map.Entry::getKey, e -> e.getValue().offset()));
    }

    private void commit(String topic, String group, Map<Integer, Long> offsets) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> wanted = new HashMap<>();
        offsets.forEach((partition, offset) -> wanted.put(new TopicPartition(topic, partition), new OffsetAndMetadata(offset)));
        get(admin.alterConsumerGroupOffsets(group, wanted).all());
    }

    private void awaitConfig(ConfigResource resource, String name, String value) throws Exception {
        for (int n = 0; ; n++) {
            String now = get(admin.describeConfigs(List.of(resource)).all()).get(resource).get(name).value();
            if (now.equals(value)) {
                return;
            }
            that(n < 100, name + " is " + now);
            Thread.sleep(50);
        }
    }
}
