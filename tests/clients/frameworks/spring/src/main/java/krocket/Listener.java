package krocket;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.kafka.annotation.EnableKafka;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.config.ConcurrentKafkaListenerContainerFactory;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.util.backoff.FixedBackOff;

/** A listener whose failures go to krocket's retry topic; the back-off and the dead letters are the broker's. */
@Configuration
@EnableKafka
public class Listener {
    static final String GROUP = "shop";
    private static final String RETRY = "retry." + GROUP;
    private static final String BOOTSTRAP = System.getenv("KROCKET_BOOTSTRAP");

    public static void main(String[] args) throws Exception {
        var context = new AnnotationConfigApplicationContext(Listener.class);
        context.registerShutdownHook();
        System.out.println("RUNNING");
        Thread.currentThread().join();
    }

    @Bean
    KafkaTemplate<String, String> template() {
        return new KafkaTemplate<>(new DefaultKafkaProducerFactory<>(
            Map.of("bootstrap.servers", BOOTSTRAP), new StringSerializer(), new StringSerializer()));
    }

    @Bean
    ConcurrentKafkaListenerContainerFactory<String, String> kafkaListenerContainerFactory(
            KafkaTemplate<String, String> template) {
        var recoverer = new DeadLetterPublishingRecoverer(template, (record, error) -> new TopicPartition(RETRY, -1));
        recoverer.setHeadersFunction((record, error) -> {
            var headers = new RecordHeaders();
            if (record.headers().lastHeader("ORIGIN_MESSAGE_ID") == null) {
                String id = record.topic() + ":" + record.partition() + ":" + record.offset();
                headers.add("ORIGIN_MESSAGE_ID", id.getBytes(StandardCharsets.UTF_8));
            }
            headers.add("ERROR", String.valueOf(error.getCause().getMessage()).getBytes(StandardCharsets.UTF_8));
            return headers;
        });
        var factory = new ConcurrentKafkaListenerContainerFactory<String, String>();
        factory.setConsumerFactory(new DefaultKafkaConsumerFactory<>(
            Map.of("bootstrap.servers", BOOTSTRAP, "auto.offset.reset", "earliest"),
            new StringDeserializer(), new StringDeserializer()));
        factory.setConcurrency(2);
        factory.setCommonErrorHandler(new DefaultErrorHandler(recoverer, new FixedBackOff(0, 0)));
        return factory;
    }

    /** `ok-*` works, `flaky-*` the second time, `poison-*` never. */
    @KafkaListener(topics = {"orders", RETRY}, groupId = GROUP)
    public void on(ConsumerRecord<String, String> record) {
        Header header = record.headers().lastHeader("RECONSUME_TIMES");
        int times = header == null ? 0 : Integer.parseInt(new String(header.value(), StandardCharsets.UTF_8));
        boolean fails = record.value().startsWith("poison") || record.value().startsWith("flaky") && times == 0;
        System.out.println((fails ? "fails " : "done ") + record.value() + " " + times + " " + record.topic());
        if (fails) {
            throw new IllegalStateException("no " + record.value());
        }
    }
}
