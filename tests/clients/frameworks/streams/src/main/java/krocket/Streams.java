package krocket;

import java.time.Duration;
import java.util.Arrays;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;

/** `Streams wordcount|joins APPLICATION STATE-FOLDER`: runs until it is killed. */
public final class Streams {
    public static void main(String[] args) throws Exception {
        String application = args[1];
        StreamsBuilder builder = new StreamsBuilder();
        if (args[0].equals("wordcount")) {
            wordCount(builder, application);
        } else {
            joins(builder, application);
        }

        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("KROCKET_BOOTSTRAP"));
        p.put(StreamsConfig.STATE_DIR_CONFIG, args[2]);
        p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        p.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        p.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        p.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        // Every step of a count is written, so that a step that is missing or double shows.
        p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        p.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        String protocol = System.getenv("STREAMS_GROUP_PROTOCOL");
        if (protocol != null) {
            p.put("group.protocol", protocol);
        } else {
            // With the streams protocol these are the broker's.
            p.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 6000);
            p.put(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), 500);
        }

        KafkaStreams streams = new KafkaStreams(builder.build(), p);
        CountDownLatch ended = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.setStateListener((now, before) -> {
            System.out.println(now);
            if (now == KafkaStreams.State.ERROR || now == KafkaStreams.State.NOT_RUNNING) {
                ended.countDown();
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20))));
        streams.start();
        ended.await();
        Runtime.getRuntime().halt(streams.state() == KafkaStreams.State.ERROR ? 1 : 0);
    }

    /** A repartition topic, a store with its changelog, and every step of every count. */
    private static void wordCount(StreamsBuilder builder, String application) {
        builder.<String, String>stream(application + ".lines")
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word)
            .count(Materialized.as("counts"))
            .toStream()
            .mapValues(count -> Long.toString(count))
            .to(application + ".counts");
    }

    /** Orders with their customer, orders with their payment, and orders per customer and window of ten seconds. */
    private static void joins(StreamsBuilder builder, String application) {
        KTable<String, String> customers = builder.table(application + ".customers", Materialized.as("customers"));
        KStream<String, String> orders = builder.stream(application + ".orders");
        KStream<String, String> payments = builder.stream(application + ".payments");

        orders.join(customers, (order, name) -> name + ":" + order).to(application + ".named");

        KStream<String, String> byOrder = orders.selectKey((customer, order) -> order);
        byOrder.join(payments, (order, payment) -> order + "=" + payment,
            JoinWindows.ofTimeDifferenceAndGrace(Duration.ofMinutes(1), Duration.ofDays(1)))
            .to(application + ".paid");

        orders.groupByKey()
            .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofSeconds(10), Duration.ofDays(1)))
            .count(Materialized.as("windows"))
            .toStream()
            .map((window, count) -> KeyValue.pair(window.key() + "@" + window.window().start(), Long.toString(count)))
            .to(application + ".windows");
    }
}
