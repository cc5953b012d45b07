package krocket;

import static krocket.Cases.check;
import static krocket.Cases.same;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;

/** What is committed is seen whole, what is aborted never; offsets go with their transaction; a successor fences. */
final class Transactions {
    private final Cases cases;
    private final Client client;
    private final String prefix;

    Transactions(Cases cases, Client client, String prefix) {
        this.cases = cases;
        this.client = client;
        this.prefix = prefix;
    }

    private KafkaProducer<byte[], byte[]> start() {
        KafkaProducer<byte[], byte[]> producer = client.transactional(prefix + ".txn");
        producer.initTransactions();
        return producer;
    }

    private static void write(KafkaProducer<byte[], byte[]> producer, String topic, List<String> values) throws Exception {
        producer.beginTransaction();
        send(producer, topic, values);
    }

    private static void send(KafkaProducer<byte[], byte[]> producer, String topic, List<String> values) throws Exception {
        for (String value : values) {
            Client.get(producer.send(new ProducerRecord<>(topic, 0, Rec.bytes("k"), Rec.bytes(value))));
        }
    }

    private static List<String> five(String name) {
        List<String> values = new ArrayList<>();
        for (int i = 0; i < 5; i++) {
            values.add(name + i);
        }
        return values;
    }

    private static List<String> values(List<Rec> records) {
        return records.stream().map(r -> new String(r.value())).toList();
    }

    void run() throws Exception {
        String topic = cases.newTopic("txn", 1, Map.of());
        String copy = cases.newTopic("txn-copy", 1, Map.of());
        String group = prefix + ".txn-group";
        List<String> wanted = new ArrayList<>(five("a"));
        wanted.addAll(five("c"));
        try (KafkaProducer<byte[], byte[]> producer = start()) {
            write(producer, topic, five("a"));
            producer.commitTransaction();
            write(producer, topic, five("b"));
            producer.abortTransaction();
            write(producer, topic, five("c"));
            producer.commitTransaction();
            List<Rec> got = client.readCommitted(topic, 0, wanted.size());
            same(values(got), wanted, "what is committed");
            long end = got.get(got.size() - 1).offset() + 1;
            write(producer, copy, values(got));
            producer.sendOffsetsToTransaction(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(end)),
                new ConsumerGroupMetadata(group));
            producer.commitTransaction();
            same(client.committed(group, topic, 0).offset(), end, "the offset of the transaction");
            try (KafkaProducer<byte[], byte[]> successor = start()) {
                boolean refused = false;
                try {
                    write(producer, copy, List.of("late"));
                    producer.commitTransaction();
                } catch (KafkaException e) {
                    refused = true;
                }
                check(refused, "accepted: a producer that has a successor");
                write(successor, copy, List.of("last"));
                successor.commitTransaction();
            }
        }
        wanted.add("last");
        same(values(client.readCommitted(copy, 0, wanted.size())), wanted, "the copy");
    }
}
