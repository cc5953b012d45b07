package krocket;

import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A sink as Flink's: a transaction per checkpoint, of a pool of transactional ids. What was flushed when the checkpoint is
 * taken is committed afterwards, by a successor if need be.
 *
 * <pre>TwoPhase TOPIC STATE-FILE CHECKPOINTS RECORDS-EACH [DIE-AT CHECKPOINT]</pre>
 */
public final class TwoPhase {
    private static final int POOL = 3;

    private final String topic;
    private final Path file;
    private final Map<String, KafkaProducer<String, String>> pool = new HashMap<>();

    private TwoPhase(String topic, Path file) {
        this.topic = topic;
        this.file = file;
    }

    public static void main(String[] args) throws Exception {
        TwoPhase sink = new TwoPhase(args[0], Path.of(args[1]));
        int checkpoints = Integer.parseInt(args[2]);
        int each = Integer.parseInt(args[3]);
        String dieAt = args.length > 4 ? args[4] : "";
        int dieIn = args.length > 5 ? Integer.parseInt(args[5]) : -1;
        int next = sink.recover();
        for (int checkpoint = next; checkpoint < checkpoints; checkpoint++) {
            boolean last = checkpoint == dieIn;
            sink.run(checkpoint, each, last ? dieAt : "");
        }
        sink.pool.values().forEach(KafkaProducer::close);
    }

    /** What the checkpoint says is prepared is committed; what it does not know of is aborted. Gives the next checkpoint. */
    private int recover() throws Exception {
        Properties state = new Properties();
        if (Files.exists(file)) {
            try (var in = Files.newInputStream(file)) {
                state.load(in);
            }
        }
        String prepared = state.getProperty("prepared");
        if (prepared != null) {
            KafkaProducer<String, String> producer = producer(prepared);
            resume(producer, Long.parseLong(state.getProperty("id")), Short.parseShort(state.getProperty("epoch")));
            producer.commitTransaction();
            producer.close();
            pool.remove(prepared);
            System.out.println("resumed " + prepared);
        }
        for (int n = 0; n < POOL; n++) {
            producer("pool-" + n).initTransactions();
        }
        return Integer.parseInt(state.getProperty("next", "0"));
    }

    private void run(int checkpoint, int each, String dieAt) throws Exception {
        String id = "pool-" + checkpoint % POOL;
        KafkaProducer<String, String> producer = producer(id);
        producer.beginTransaction();
        for (int n = 0; n < each; n++) {
            producer.send(new ProducerRecord<>(topic, Integer.toString(n % 50), checkpoint + "." + n));
        }
        producer.flush();
        dieIf(dieAt, "flushed");
        Object idAndEpoch = get(get(producer, "transactionManager"), "producerIdAndEpoch");
        Properties state = new Properties();
        state.setProperty("next", Integer.toString(checkpoint + 1));
        state.setProperty("prepared", id);
        state.setProperty("id", get(idAndEpoch, "producerId").toString());
        state.setProperty("epoch", get(idAndEpoch, "epoch").toString());
        write(state);
        dieIf(dieAt, "prepared");
        producer.commitTransaction();
        dieIf(dieAt, "committed");
    }

    private static void dieIf(String dieAt, String here) {
        if (dieAt.equals(here)) {
            System.out.println("dies: " + here);
            Runtime.getRuntime().halt(137);
        }
    }

    private void write(Properties state) throws Exception {
        Path next = file.resolveSibling(file.getFileName() + ".next");
        try (var out = Files.newOutputStream(next)) {
            state.store(out, null);
        }
        Files.move(next, file, StandardCopyOption.ATOMIC_MOVE);
    }

    private KafkaProducer<String, String> producer(String id) {
        return pool.computeIfAbsent(id, key -> new KafkaProducer<>(
            Map.of("bootstrap.servers", System.getenv("KROCKET_BOOTSTRAP"), "transactional.id", key,
                "transaction.timeout.ms", "600000"),
            new StringSerializer(), new StringSerializer()));
    }

    /** The producer is put inside the transaction of another with its id and epoch; there is no public way without KIP-939. */
    private void resume(KafkaProducer<String, String> producer, long id, short epoch) throws Exception {
        producer.partitionsFor(topic); // from here on it knows what the broker can do
        Object manager = get(producer, "transactionManager");
        synchronized (manager) {
            transition(manager, "INITIALIZING");
            Object idAndEpoch = get(manager, "producerIdAndEpoch");
            var constructor = idAndEpoch.getClass().getDeclaredConstructor(long.class, short.class);
            constructor.setAccessible(true);
            set(manager, "producerIdAndEpoch", constructor.newInstance(id, epoch));
            transition(manager, "READY");
            transition(manager, "IN_TRANSACTION");
            set(manager, "transactionStarted", true);
            for (Method method : manager.getClass().getDeclaredMethods()) {
                if (method.getName().equals("maybeUpdateTransactionV2Enabled")) {
                    method.setAccessible(true);
                    method.invoke(manager, true); // KIP-890, from 4.0 on
                }
            }
        }
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    private static void transition(Object manager, String state) throws Exception {
        Class<?> states = Class.forName(manager.getClass().getName() + "$State");
        Method method = manager.getClass().getDeclaredMethod("transitionTo", states);
        method.setAccessible(true);
        method.invoke(manager, Enum.valueOf((Class) states, state));
    }

    private static Object get(Object object, String name) throws Exception {
        return field(object, name).get(object);
    }

    private static void set(Object object, String name, Object value) throws Exception {
        field(object, name).set(object, value);
    }

    private static Field field(Object object, String name) throws Exception {
        Field field = object.getClass().getDeclaredField(name);
        field.setAccessible(true);
        return field;
    }
}
