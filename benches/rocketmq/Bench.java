import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.IntFunction;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * What krocket-bench --features measures of krocket, measured of RocketMQ with its own client: the same rows, the same
 * metrics, one JSON object a line. Arguments: name server, pid of the broker, name of the row, work, count, seconds.
 */
public class Bench {
    static final int QUEUES = 6;
    /** Messages in a batch, where RocketMQ allows batches: not for delayed messages. */
    static final int PER_BATCH = 100;
    static final int PRODUCERS = 4;
    /** Unanswered sends of a producer. */
    static final int IN_FLIGHT = 128;
    static final long PATIENCE_MS = 120_000;

    static String names;
    static int pid;
    static String row;

    public static void main(String[] args) throws Exception {
        names = args[0];
        pid = Integer.parseInt(args[1]);
        row = args[2];
        int count = Integer.parseInt(args[4]);
        switch (args[3]) {
            case "delay" -> delay(count, Integer.parseInt(args[5]));
            case "pending" -> pending(count);
            case "views" -> views(count);
            case "lookups" -> lookups(count);
            case "retries" -> retries(count);
            default -> throw new IllegalArgumentException(args[3]);
        }
        // The client's threads are not all daemons.
        System.exit(0);
    }

    static void report(String metric, double value, String unit) {
        System.out.println(String.format(Locale.ROOT, "{\"row\":\"%s\",\"metric\":\"%s\",\"value\":%f,\"unit\":\"%s\"}",
            row, metric, value, unit));
    }

    static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalStateException(otherwise);
        }
    }

    // What the kernel says about the broker and about this program.

    static double cpuSeconds(String process) throws IOException {
        String stat = Files.readString(Path.of("/proc", process, "stat"));
        String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
        // User and system time in ticks, of which Linux shows 100 a second.
        return (Long.parseLong(fields[11]) + Long.parseLong(fields[12])) / 100.0;
    }

    static double brokerCpu() throws IOException {
        return cpuSeconds(String.valueOf(pid));
    }

    static void resetPeak() {
        try {
            Files.writeString(Path.of("/proc", String.valueOf(pid), "clear_refs"), "5");
        } catch (IOException notAllowed) {
            // Then the peak is that of the broker's life, as for krocket.
        }
    }

    /** The broker's memory: at its peak with the pages of files that it maps, and now without them. */
    static void reportMemory() throws IOException {
        for (String line : Files.readAllLines(Path.of("/proc", String.valueOf(pid), "status"))) {
            if (line.startsWith("VmHWM:")) {
                report("peak memory", Long.parseLong(line.replaceAll("\\D", "")) / 1024.0, "MiB");
            } else if (line.startsWith("RssAnon:")) {
                report("memory without mapped files", Long.parseLong(line.replaceAll("\\D", "")) / 1024.0, "MiB");
            }
        }
    }

    // Clients.

    static final AtomicInteger instances = new AtomicInteger();

    static DefaultMQProducer producer() throws MQClientException {
        DefaultMQProducer producer = new DefaultMQProducer("bench-producer");
        producer.setNamesrvAddr(names);
        // An instance name of its own is a connection of its own.
        producer.setInstanceName("producer-" + instances.incrementAndGet());
        producer.setSendMsgTimeout(10_000);
        // This program sends again itself, and counts it.
        producer.setRetryTimesWhenSendAsyncFailed(0);
        producer.start();
        return producer;
    }

    static DefaultMQPullConsumer puller() throws MQClientException {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer("bench-puller");
        consumer.setNamesrvAddr(names);
        consumer.setInstanceName("puller-" + instances.incrementAndGet());
        consumer.start();
        return consumer;
    }

    /** Creates a topic and waits until it has all its queues. */
    static List<MessageQueue> createTopic(String topic) throws Exception {
        DefaultMQProducer producer = producer();
        producer.createTopic("TBW102", topic, QUEUES, Map.of());
        for (long end = System.currentTimeMillis() + PATIENCE_MS;;) {
            try {
                List<MessageQueue> queues = producer.fetchPublishMessageQueues(topic);
                if (queues.size() == QUEUES) {
                    producer.shutdown();
                    return queues;
                }
            } catch (MQClientException notYet) {
                check(System.currentTimeMillis() < end, "no topic " + topic + ": " + notYet.getMessage());
            }
            Thread.sleep(50);
        }
    }

    /** Sends single messages with many in flight, and those again that the broker refuses to take; how many it refused. */
    static long sendSingly(int count, IntFunction<Message> message) throws Exception {
        AtomicLong refused = new AtomicLong();
        inParallel(PRODUCERS, worker -> {
            DefaultMQProducer producer = producer();
            Semaphore free = new Semaphore(IN_FLIGHT);
            int sent = 0;
            for (int n = worker; n < count; n += PRODUCERS, sent++) {
                free.acquire();
                send(producer, message.apply(n), free, refused);
            }
            check(free.tryAcquire(IN_FLIGHT, PATIENCE_MS, TimeUnit.MILLISECONDS), "sends were not answered");
            producer.shutdown();
            return null;
        });
        return refused.get();
    }

    static void send(DefaultMQProducer producer, Message message, Semaphore free, AtomicLong refused) throws Exception {
        producer.send(message, new SendCallback() {
            @Override
            public void onSuccess(SendResult result) {
                free.release();
            }

            @Override
            public void onException(Throwable why) {
                // SYSTEM_BUSY and the like: the broker limits the flow.
                check(refused.incrementAndGet() < 1_000_000, "too many refusals: " + why);
                try {
                    Thread.sleep(1);
                    send(producer, message, free, refused);
                } catch (Exception error) {
                    throw new IllegalStateException(error);
                }
            }
        });
    }

    /** Sends a batch, again when the broker limits the flow. */
    static void sendBatch(DefaultMQProducer producer, List<Message> batch, MessageQueue queue) throws Exception {
        for (int attempt = 1;; attempt++) {
            try {
                check(producer.send(batch, queue).getSendStatus() == SendStatus.SEND_OK, "a batch was not stored");
                return;
            } catch (org.apache.rocketmq.client.exception.MQBrokerException busy) {
                if (attempt == 1000) {
                    throw busy;
                }
                Thread.sleep(1);
            }
        }
    }

    interface Work<T> {
        T run(int worker) throws Exception;
    }

    static <T> List<T> inParallel(int workers, Work<T> work) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(workers);
        List<Callable<T>> calls = new ArrayList<>();
        for (int worker = 0; worker < workers; worker++) {
            int index = worker;
            calls.add(() -> work.run(index));
        }
        List<T> results = new ArrayList<>();
        for (Future<T> future : pool.invokeAll(calls)) {
            results.add(future.get());
        }
        pool.shutdown();
        return results;
    }

    /** Looks at a message once it is in the client's hands; a queue's messages come from one thread. */
    interface Visitor {
        void see(MessageExt message);
    }

    /** Pulls a topic, a thread and a long poll for each queue, until `count` messages have come. */
    static void pull(DefaultMQPullConsumer consumer, List<MessageQueue> queues, String tags, int count, Visitor visitor)
        throws Exception {
        AtomicInteger seen = new AtomicInteger();
        CountDownLatch all = new CountDownLatch(1);
        List<Thread> threads = new ArrayList<>();
        for (MessageQueue queue : queues) {
            Thread thread = new Thread(() -> {
                long offset = 0;
                while (all.getCount() > 0) {
                    try {
                        PullResult result = consumer.pullBlockIfNotFound(queue, tags, offset, 1000);
                        offset = result.getNextBeginOffset();
                        if (result.getPullStatus() == PullStatus.FOUND) {
                            result.getMsgFoundList().forEach(visitor::see);
                            if (seen.addAndGet(result.getMsgFoundList().size()) >= count) {
                                all.countDown();
                            }
                        }
                    } catch (InterruptedException done) {
                        return;
                    } catch (Exception error) {
                        if (all.getCount() > 0) {
                            error.printStackTrace();
                        }
                    }
                }
            });
            thread.start();
            threads.add(thread);
        }
        int before = -1;
        while (!all.await(PATIENCE_MS, TimeUnit.MILLISECONDS)) {
            check(seen.get() > before, "only " + seen + " of " + count + " messages came");
            before = seen.get();
        }
        // Those that poll an empty queue.
        threads.forEach(Thread::interrupt);
        for (Thread thread : threads) {
            thread.join();
        }
        check(seen.get() == count, seen + " messages came where " + count + " were sent");
    }

    // The works.

    static byte[] dueBody(long due) {
        return ByteBuffer.allocate(100).putLong(due).array();
    }

    static Message timed(String topic, long due) {
        Message message = new Message(topic, dueBody(due));
        message.setDeliverTimeMs(due);
        return message;
    }

    /** `count` messages due evenly over `seconds`: how late each is in a consumer's hands. */
    static void delay(int count, int seconds) throws Exception {
        // A tenth of it first, twice: the JVMs are warm then, and it is known how long sending takes.
        int few = Math.max(1000, count / 10);
        List<MessageQueue> warm = createTopic("warm");
        sendSingly(few, n -> timed("warm", System.currentTimeMillis() + 3000));
        long began = System.nanoTime();
        sendSingly(few, n -> timed("warm", System.currentTimeMillis() + 3000));
        double perMessage = (System.nanoTime() - began) / 1e6 / few;
        DefaultMQPullConsumer consumer = puller();
        pull(consumer, warm, "*", 2 * few, message -> { });

        List<MessageQueue> queues = createTopic("delayed");
        long firstDue = System.currentTimeMillis() + 4000 + (long) (perMessage * count * 1.3);
        long started = System.nanoTime();
        long refused = sendSingly(count, n -> timed("delayed", firstDue + n * (seconds * 1000L) / count));
        report("stored, records/s", count / ((System.nanoTime() - started) / 1e9), "1/s");
        report("refused for a while", refused, "");
        check(System.currentTimeMillis() < firstDue, "storing took longer than the time until the first is due");
        resetPeak();
        double cpu = brokerCpu();
        int[] late = new int[count];
        AtomicInteger next = new AtomicInteger();
        AtomicInteger early = new AtomicInteger();
        pull(consumer, queues, "*", count, message -> {
            long lateness = System.currentTimeMillis() - ByteBuffer.wrap(message.getBody()).getLong();
            if (lateness < 0) {
                early.incrementAndGet();
            }
            int index = next.getAndIncrement();
            if (index < count) {
                late[index] = (int) Math.max(0, lateness);
            }
        });
        long done = System.currentTimeMillis();
        double spent = brokerCpu() - cpu;
        Arrays.sort(late);
        report("lateness p50", late[count / 2], "ms");
        report("lateness p99", late[(int) (count * 0.99)], "ms");
        report("lateness max", late[count - 1], "ms");
        report("early", early.get(), "");
        report("delivered", count / ((done - firstDue) / 1e3), "1/s");
        report("server CPU per million", spent / count * 1e6, "s");
        reportMemory();
    }

    /** Many messages that wait for tomorrow. */
    static void pending(int count) throws Exception {
        createTopic("pending");
        long tomorrow = System.currentTimeMillis() + 86_400_000;
        long started = System.nanoTime();
        long refused = sendSingly(count, n -> timed("pending", tomorrow + n / 10));
        report("stored, records/s", count / ((System.nanoTime() - started) / 1e9), "1/s");
        report("refused for a while", refused, "");
        reportMemory();
    }

    /** Stores messages in batches, one queue after another. */
    static void store(List<MessageQueue> queues, int count, int perBatch, IntFunction<Message> message) throws Exception {
        DefaultMQProducer producer = producer();
        for (int first = 0, turn = 0; first < count; first += perBatch, turn++) {
            List<Message> batch = new ArrayList<>(perBatch);
            for (int n = first; n < Math.min(count, first + perBatch); n++) {
                batch.add(message.apply(n));
            }
            sendBatch(producer, batch, queues.get(turn % QUEUES));
        }
        producer.shutdown();
    }

    /** What tag expressions that match 1, 10 and 100 % of 1 KB messages cost, and everything. */
    static void views(int count) throws Exception {
        List<MessageQueue> queues = createTopic("source");
        byte[] value = new byte[1000];
        Arrays.fill(value, (byte) 'x');
        // A message has one tag here, so that the wider expressions name several.
        store(queues, count, 16, n -> new Message("source", n % 100 == 0 ? "one" : n % 10 == 0 ? "ten" : "all", value));
        DefaultMQPullConsumer consumer = puller();
        String[][] views = {
            {"source", "*"}, {"v-one", "one"}, {"v-ten", "one || ten"}, {"v-all", "one || ten || all"}};
        int[] matches = {count, count / 100, count / 10, count};
        // The JVMs' code is not yet compiled in the first reads.
        pull(consumer, queues, "*", count, message -> { });
        for (int view = 1; view < 4; view++) {
            long started = System.nanoTime();
            pull(consumer, queues, views[view][1], matches[view], message -> { });
            report(views[view][0].substring(2) + ": index and first read", (System.nanoTime() - started) / 1e6, "ms");
        }
        for (int view = 0; view < 4; view++) {
            AtomicLong bytes = new AtomicLong();
            AtomicInteger tagged = new AtomicInteger();
            double broker = brokerCpu();
            double own = cpuSeconds("self");
            long started = System.nanoTime();
            int rounds = 0;
            for (; System.nanoTime() - started < 2_000_000_000L; rounds++) {
                pull(consumer, queues, views[view][1], matches[view], message -> {
                    bytes.addAndGet(message.getStoreSize());
                    if (message.getTags() != null) {
                        tagged.incrementAndGet();
                    }
                });
            }
            double seconds = (System.nanoTime() - started) / 1e9 / rounds;
            check(tagged.get() == matches[view] * rounds, "a message without its tag");
            report(views[view][0] + ": read whole", seconds * 1e3, "ms");
            report(views[view][0] + ": throughput", bytes.get() / 1e6 / rounds / seconds, "MB/s");
            report(views[view][0] + ": server CPU", (brokerCpu() - broker) * 1e3 / rounds, "ms");
            report(views[view][0] + ": client CPU", (cpuSeconds("self") - own) * 1e3 / rounds, "ms");
        }
        reportMemory();
    }

    /** How long the index takes, and a look-up by key. */
    static void lookups(int count) throws Exception {
        List<MessageQueue> queues = createTopic("keyed");
        long started = System.nanoTime();
        long first = System.currentTimeMillis();
        byte[] value = new byte[100];
        Arrays.fill(value, (byte) 'x');
        store(queues, count, PER_BATCH, n -> new Message("keyed", "", "order-" + n, value));
        report("stored, records/s", count / ((System.nanoTime() - started) / 1e9), "1/s");
        DefaultMQProducer asking = producer();
        long patience = System.currentTimeMillis() + PATIENCE_MS;
        while (!finds(asking, count - 1, first)) {
            check(System.currentTimeMillis() < patience, "the index does not catch up");
            Thread.sleep(20);
        }
        report("stored and indexed, records/s", count / ((System.nanoTime() - started) / 1e9), "1/s");
        int times = 2000;
        long[] took = new long[times];
        Random random = new Random(1);
        // The client's code is not yet compiled in the first of them.
        for (int n = 0; n < times / 4; n++) {
            finds(asking, random.nextInt(count), first);
        }
        started = System.nanoTime();
        for (int turn = 0; turn < times; turn++) {
            int n = random.nextInt(count);
            long asked = System.nanoTime();
            check(finds(asking, n, first), "order-" + n + " is not found");
            took[turn] = System.nanoTime() - asked;
        }
        report("look-ups", times / ((System.nanoTime() - started) / 1e9), "1/s");
        Arrays.sort(took);
        report("look-up p50", took[times / 2] / 1e6, "ms");
        report("look-up p99", took[(int) (times * 0.99)] / 1e6, "ms");
        reportMemory();
    }

    static boolean finds(DefaultMQProducer asking, int n, long first) throws Exception {
        String key = "order-" + n;
        try {
            return asking.queryMessage("keyed", key, 8, first - 60_000, System.currentTimeMillis() + 60_000)
                .getMessageList().stream().anyMatch(message -> key.equals(message.getKeys()));
        } catch (MQClientException none) {
            return false;
        }
    }

    /** Every message is handed back when it comes, with delay level 1 (1 s), and taken when it comes again. */
    static void retries(int count) throws Exception {
        String group = "retriers";
        DefaultMQAdminExt admin = new DefaultMQAdminExt();
        admin.setNamesrvAddr(names);
        admin.start();
        SubscriptionGroupConfig settings = new SubscriptionGroupConfig();
        settings.setGroupName(group);
        settings.setRetryQueueNums(QUEUES);
        List<MessageQueue> queues = createTopic("warm");
        String broker = queues.get(0).getBrokerName();
        String address = admin.examineBrokerClusterInfo().getBrokerAddrTable().get(broker).selectBrokerAddr();
        admin.createAndUpdateSubscriptionGroupConfig(address, settings);
        admin.shutdown();

        AtomicInteger warm = new AtomicInteger();
        AtomicInteger handedBack = new AtomicInteger();
        AtomicInteger again = new AtomicInteger();
        AtomicLong[] at = {new AtomicLong(), new AtomicLong(), new AtomicLong()};
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(names);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe("warm", "*");
        consumer.setConsumeThreadMin(64);
        consumer.setConsumeThreadMax(64);
        consumer.setPullBatchSize(1000);
        consumer.setConsumeMessageBatchMaxSize(32);
        consumer.setPullThresholdForQueue(10_000);
        consumer.setConsumeConcurrentlyMaxSpan(65_535);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            boolean first = messages.get(0).getReconsumeTimes() == 0;
            context.setDelayLevelWhenNextConsume(1);
            if (messages.get(0).getTopic().equals("warm")) {
                warm.addAndGet(first ? 0 : messages.size());
                return first ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            }
            long now = System.nanoTime();
            if (first) {
                at[0].compareAndSet(0, now);
                at[1].set(now);
                handedBack.addAndGet(messages.size());
                return ConsumeConcurrentlyStatus.RECONSUME_LATER;
            }
            at[2].set(now);
            again.addAndGet(messages.size());
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        // The client finds its group's retry topic some time after its start.
        int few = Math.max(200, count / 10);
        store(queues, few, PER_BATCH, n -> new Message("warm", new byte[100]));
        await(warm, few);
        store(createTopic("source"), count, PER_BATCH, n -> new Message("source", new byte[100]));
        resetPeak();
        double cpu = brokerCpu();
        consumer.subscribe("source", "*");
        await(again, count);
        check(handedBack.get() == count && again.get() == count,
            handedBack + " were handed back and " + again + " came again of " + count);
        report("handed back", count / ((at[1].get() - at[0].get()) / 1e9), "1/s");
        // The second that each has to wait is not the broker's work.
        report("delivered again", count / ((at[2].get() - at[0].get()) / 1e9 - 1), "1/s");
        report("server CPU per million", (brokerCpu() - cpu) / count * 1e6, "s");
        reportMemory();
    }

    static void await(AtomicInteger counter, int count) throws InterruptedException {
        int before = -1;
        for (long end = System.currentTimeMillis() + PATIENCE_MS; counter.get() < count;) {
            if (counter.get() > before) {
                before = counter.get();
                end = System.currentTimeMillis() + PATIENCE_MS;
            }
            check(System.currentTimeMillis() < end, "only " + counter + " of " + count + " messages came");
            Thread.sleep(10);
        }
    }
}
