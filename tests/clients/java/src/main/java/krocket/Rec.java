package krocket;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** A record as the scenario sees it. */
record Rec(byte[] key, byte[] value, List<Header> headers, int partition, Long timestamp, long offset) {
    static byte[] bytes(Object text) {
        return text == null ? null : text.toString().getBytes(StandardCharsets.UTF_8);
    }

    static Rec of(Object key, Object value) {
        return new Rec(bytes(key), bytes(value), List.of(), 0, null, -1);
    }

    static Rec of(ConsumerRecord<byte[], byte[]> r) {
        return new Rec(r.key(), r.value(), Arrays.asList(r.headers().toArray()), r.partition(), r.timestamp(), r.offset());
    }

    /** Shows any change of a byte: sizes from 0, every byte value, empty and binary headers. */
    static Rec payload(int i) {
        byte[] value = new byte[i * 37 % 1000];
        for (int j = 0; j < value.length; j++) {
            value[j] = (byte) (i + j * 7);
        }
        List<Header> headers = List.of(
            header("i", bytes(i)), header("empty", new byte[0]), header("bytes", new byte[] {-1, -2, 0, (byte) i}));
        return new Rec(bytes("key-%05d".formatted(i)), value, headers, 0, null, -1);
    }

    static Header header(String key, byte[] value) {
        return new RecordHeader(key, value);
    }

    Rec in(int partition) {
        return new Rec(key, value, headers, partition, timestamp, offset);
    }

    Rec at(long timestamp) {
        return new Rec(key, value, headers, partition, timestamp, offset);
    }

    Rec with(Header... headers) {
        return new Rec(key, value, List.of(headers), partition, timestamp, offset);
    }

    ProducerRecord<byte[], byte[]> toProduce(String topic) {
        return new ProducerRecord<>(topic, partition, timestamp, key, value, new ArrayList<>(headers));
    }

    String text() {
        return value == null ? null : new String(value, StandardCharsets.UTF_8);
    }

    /** Key, value and headers, comparable. */
    String content() {
        StringBuilder text = new StringBuilder(Arrays.toString(key)).append(Arrays.toString(value));
        for (Header h : headers) {
            text.append(' ').append(h.key()).append('=').append(Arrays.toString(h.value()));
        }
        return text.toString();
    }
}
