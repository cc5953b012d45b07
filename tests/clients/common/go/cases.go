package scenario

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

type cases struct {
	client   Client
	traits   Traits
	scenario Scenario
	prefix   string
}

func (c *cases) name(name string) string { return c.prefix + "." + name }

func (c *cases) waitForTopic(topic string, partitions int) error {
	return until(topic+" in the metadata", 15, func() (bool, error) {
		topics, err := c.client.Topics()
		return topics[topic] == partitions, err
	})
}

func (c *cases) newTopic(name string, partitions int, configs map[string]string) (string, error) {
	topic := c.name(name)
	if err := c.client.CreateTopic(topic, partitions, configs); err != nil {
		return "", err
	}
	if err := c.waitForTopic(topic, partitions); err != nil {
		return "", err
	}
	// A leader that isn't ready yet would make producers without idempotence retry, which may change the order.
	for partition := range partitions {
		if err := until("a leader", 15, func() (bool, error) {
			_, _, err := c.client.Watermarks(topic, int32(partition))
			return err == nil, nil
		}); err != nil {
			return "", err
		}
	}
	return topic, nil
}

func (c *cases) readAll(topic string, partition int32, count int) ([]Record, error) {
	return c.client.Read(topic, partition, 0, func(r []Record) bool { return len(r) >= count })
}

// expectOffsets wants the records to have the offsets from first on, without a gap.
func expectOffsets(records []Record, first int64, count int) error {
	if len(records) != count {
		return fmt.Errorf("%d records, wanted %d", len(records), count)
	}
	for i, r := range records {
		if r.Offset != first+int64(i) {
			return fmt.Errorf("record %d has offset %d, wanted %d", i, r.Offset, first+int64(i))
		}
	}
	return nil
}

func (c *cases) expectWatermarks(topic string, partition int32, earliest, latest int64) error {
	e, l, err := c.client.Watermarks(topic, partition)
	if err == nil && (e != earliest || l != latest) {
		err = fmt.Errorf("watermarks %d and %d, wanted %d and %d", e, l, earliest, latest)
	}
	return err
}

func (c *cases) roundTrip(name string, records []Record, codec string) error {
	topic, err := c.newTopic(name, 1, nil)
	if err != nil {
		return err
	}
	offsets, err := c.client.Produce(topic, records, codec, false)
	if err != nil {
		return err
	}
	for i, offset := range offsets {
		if offset != int64(i) {
			return fmt.Errorf("record %d was acknowledged with offset %d", i, offset)
		}
	}
	got, err := c.readAll(topic, 0, len(records))
	if err != nil {
		return err
	}
	if err := expectOffsets(got, 0, len(records)); err != nil {
		return err
	}
	for i := range records {
		if d := c.traits.difference(got[i], records[i]); d != "" {
			return fmt.Errorf("record %d: %s", i, d)
		}
	}
	return nil
}

func (c *cases) topics() error {
	p := c.scenario.Topics
	topic, err := c.newTopic("topics", p.Partitions, p.Configs)
	if err != nil {
		return err
	}
	if err := c.client.CreateTopic(topic, p.Partitions, nil); !errors.Is(err, ErrTopicExists) {
		return fmt.Errorf("creating a topic twice gave %v", err)
	}
	var skip Skip
	configs, err := c.client.Configs(topic)
	if err == nil {
		for name, value := range p.Configs {
			if configs[name] != value {
				return fmt.Errorf("%s is %q, wanted %q", name, configs[name], value)
			}
		}
	} else if !errors.As(err, &skip) {
		return err
	}
	if err := c.client.AddPartitions(topic, p.More); errors.As(err, &skip) {
		return nil
	} else if err != nil {
		return err
	}
	return c.waitForTopic(topic, p.More)
}

func (c *cases) compression(codec string) error {
	var records []Record
	for i := range c.scenario.Compression.Records {
		records = append(records, payload(i))
	}
	return c.roundTrip("compression-"+codec, records, codec)
}

func (c *cases) headerDuplicates() error {
	headers := []Header{{"a", []byte("1")}, {"b", []byte("2")}, {"a", []byte("3")}, {"a", []byte("1")}, {"", []byte("no name")}}
	if c.traits.NullHeaders {
		headers = append(headers, Header{"null", nil})
	}
	return c.roundTrip("header-duplicates", []Record{
		{Key: []byte("k"), Value: []byte("v"), Headers: headers}, {Key: []byte("k"), Value: []byte("v")}}, "none")
}

func (c *cases) headerBinaryValues() error {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return c.roundTrip("header-binary-values", []Record{
		{Key: []byte("k"), Value: []byte("v"), Headers: []Header{{"bytes", all}, {"ü", []byte{0xc3, 0x28}}}}}, "none")
}

func (c *cases) headerBinaryKeys() error {
	if !c.traits.BinaryHeaderKeys {
		return Skip("header keys are strings")
	}
	return c.roundTrip("header-binary-keys", []Record{
		{Key: []byte("k"), Value: []byte("v"), Headers: []Header{{"\xff\xfe", []byte("1")}, {"\xc3\x28", []byte("2")}}}}, "none")
}

func (c *cases) nulls() error {
	var records []Record
	for _, key := range [][]byte{nil, {}, []byte("k")} {
		for _, value := range [][]byte{nil, {}, []byte("v")} {
			records = append(records, Record{Key: key, Value: value})
		}
	}
	return c.roundTrip("nulls", records, "none")
}

func (c *cases) idempotence() error {
	p := c.scenario.Idempotence
	return c.inOrder("idempotence", p.Partitions, p.Records/p.Partitions, true)
}

func (c *cases) order() error {
	p := c.scenario.Order
	return c.inOrder("order", p.Partitions, p.PerPartition, false)
}

func (c *cases) inOrder(name string, partitions, perPartition int, idempotent bool) error {
	topic, err := c.newTopic(name, partitions, nil)
	if err != nil {
		return err
	}
	var records []Record
	for i := range partitions * perPartition {
		r := number(i)
		r.Partition = int32(i % partitions)
		records = append(records, r)
	}
	if _, err := c.client.Produce(topic, records, "none", idempotent); err != nil {
		return err
	}
	for p := range partitions {
		got, err := c.readAll(topic, int32(p), perPartition)
		if err != nil {
			return err
		}
		if err := expectOffsets(got, 0, perPartition); err != nil {
			return fmt.Errorf("partition %d: %w", p, err)
		}
		for n, r := range got {
			if wanted := fmt.Sprint(n*partitions + p); string(r.Value) != wanted {
				return fmt.Errorf("record %d of partition %d is %q, wanted %s", n, p, r.Value, wanted)
			}
		}
		if err := c.expectWatermarks(topic, int32(p), 0, int64(perPartition)); err != nil {
			return err
		}
	}
	return nil
}

func (c *cases) timestamps() error {
	p := c.scenario.Timestamps
	half := p.Records / 2
	base := time.Now().Add(-time.Hour).UnixMilli()
	topic, err := c.newTopic("timestamps", 1, nil)
	if err != nil {
		return err
	}
	var records []Record
	for i := range p.Records {
		r := number(i)
		r.Timestamp = base + int64(i)*p.StepMs
		records = append(records, r)
	}
	if _, err := c.client.Produce(topic, records, "none", false); err != nil {
		return err
	}
	got, err := c.readAll(topic, 0, p.Records)
	if err != nil {
		return err
	}
	if err := expectOffsets(got, 0, p.Records); err != nil {
		return err
	}
	for i, r := range got {
		if r.Timestamp != records[i].Timestamp {
			return fmt.Errorf("record %d has timestamp %d, wanted %d", i, r.Timestamp, records[i].Timestamp)
		}
	}
	times := []struct{ ms, offset int64 }{{got[half].Timestamp - 5, int64(half)}, {base - 5, 0}}
	if !c.traits.NoTimeMiss {
		times = append(times, struct{ ms, offset int64 }{got[p.Records-1].Timestamp + 5, -1})
	}
	for _, t := range times {
		offset, err := c.client.OffsetForTime(topic, 0, t.ms)
		if err != nil {
			return err
		}
		if offset != t.offset {
			return fmt.Errorf("offset for time %d is %d, wanted %d", t.ms-base, offset, t.offset)
		}
	}
	sought, err := c.client.Read(topic, 0, int64(half), func(r []Record) bool { return len(r) >= p.Records-half })
	if err != nil {
		return err
	}
	return expectOffsets(sought, int64(half), p.Records-half)
}

func (c *cases) deleteRecords() error {
	p := c.scenario.DeleteRecords
	topic, err := c.newTopic("delete-records", 1, nil)
	if err != nil {
		return err
	}
	if _, err := c.client.Produce(topic, slices.Repeat([]Record{number(1)}, p.Records), "none", false); err != nil {
		return err
	}
	low, err := c.client.DeleteRecords(topic, 0, p.Before)
	if err != nil {
		return err
	}
	if low != p.Before && low != -1 { // -1: the client does not say
		return fmt.Errorf("low watermark %d, wanted %d", low, p.Before)
	}
	if err := c.expectWatermarks(topic, 0, p.Before, int64(p.Records)); err != nil {
		return err
	}
	left := p.Records - int(p.Before)
	got, err := c.client.Read(topic, 0, p.Before, func(r []Record) bool { return len(r) >= left })
	if err != nil {
		return err
	}
	return expectOffsets(got, p.Before, left)
}

func (c *cases) deleteTopic() error {
	topic, err := c.newTopic("delete-topic", 1, nil)
	if err != nil {
		return err
	}
	if _, err := c.client.Produce(topic, slices.Repeat([]Record{number(1)}, 3), "none", false); err != nil {
		return err
	}
	if err := c.client.DeleteTopic(topic); err != nil {
		return err
	}
	if err := until("the topic is gone", 15, func() (bool, error) {
		topics, err := c.client.Topics()
		_, there := topics[topic]
		return !there, err
	}); err != nil {
		return err
	}
	if err := until("the topic can be created again", 15, func() (bool, error) {
		err := c.client.CreateTopic(topic, 1, nil)
		if errors.Is(err, ErrTopicExists) { // the deletion may still be under way
			return false, nil
		}
		return true, err
	}); err != nil {
		return err
	}
	if err := c.waitForTopic(topic, 1); err != nil {
		return err
	}
	if err := until("the new topic is empty", 15, func() (bool, error) {
		return c.expectWatermarks(topic, 0, 0, 0) == nil, nil
	}); err != nil {
		return err
	}
	offsets, err := c.client.Produce(topic, []Record{number(2)}, "none", false)
	if err == nil && offsets[0] != 0 {
		err = fmt.Errorf("the first offset in the new topic is %d", offsets[0])
	}
	return err
}
