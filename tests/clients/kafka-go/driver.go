// Driver of segmentio's kafka-go.
package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"krocket.test/scenario"
)

type client struct {
	*kafka.Client
	p scenario.Scenario

	sync.Mutex
	writers map[string]*kafka.Writer
}

var background = context.Background()

func main() {
	c := &client{Client: &kafka.Client{Addr: kafka.TCP(scenario.Bootstrap())}, p: scenario.Load(), writers: map[string]*kafka.Writer{}}
	scenario.Main(c, scenario.Traits{
		BinaryHeaderKeys: true,
		Redelivers:       "a Reader hands out what it fetched before a rebalance, and its commit is then refused",
	})
}

func (c *client) CreateTopic(topic string, partitions int, configs map[string]string) error {
	t := kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}
	for k, v := range configs {
		t.ConfigEntries = append(t.ConfigEntries, kafka.ConfigEntry{ConfigName: k, ConfigValue: v})
	}
	response, err := c.CreateTopics(background, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{t}})
	if err != nil {
		return err
	}
	if errors.Is(response.Errors[topic], kafka.TopicAlreadyExists) {
		return scenario.ErrTopicExists
	}
	return response.Errors[topic]
}

func (c *client) Topics() (map[string]int, error) {
	// A new transport, as the default one answers from a cache.
	fresh := &kafka.Transport{}
	defer fresh.CloseIdleConnections()
	cl := &kafka.Client{Addr: c.Addr, Transport: fresh}
	response, err := cl.Metadata(background, &kafka.MetadataRequest{})
	if err != nil {
		return nil, err
	}
	topics := map[string]int{}
	for _, t := range response.Topics {
		if t.Error == nil {
			topics[t.Name] = len(t.Partitions)
		}
	}
	return topics, nil
}

func (c *client) Configs(topic string) (map[string]string, error) {
	response, err := c.DescribeConfigs(background, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}}})
	if err != nil {
		return nil, err
	}
	configs := map[string]string{}
	for _, e := range response.Resources[0].ConfigEntries {
		configs[e.ConfigName] = e.ConfigValue
	}
	return configs, response.Resources[0].Error
}

func (c *client) AddPartitions(topic string, total int) error {
	response, err := c.CreatePartitions(background, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: int32(total)}}})
	if err != nil {
		return err
	}
	return response.Errors[topic]
}

func (c *client) DeleteTopic(topic string) error {
	response, err := c.DeleteTopics(background, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil {
		return err
	}
	return response.Errors[topic]
}

func (c *client) DeleteRecords(string, int32, int64) (int64, error) {
	return 0, scenario.Skip("no DeleteRecords")
}

var codecs = map[string]kafka.Compression{
	"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
}

// sending goes along with a message to its balancer and its acknowledgement.
type sending struct {
	partition int
	offset    *int64
}

func (c *client) writer(topic, codec string) *kafka.Writer {
	c.Lock()
	defer c.Unlock()
	w := c.writers[topic+codec]
	if w == nil {
		w = &kafka.Writer{
			Addr: c.Addr, Topic: topic, RequiredAcks: kafka.RequireAll, Compression: codecs[codec],
			BatchTimeout: 5 * time.Millisecond, Transport: &kafka.Transport{},
			Balancer: kafka.BalancerFunc(func(m kafka.Message, _ ...int) int { return m.WriterData.(sending).partition }),
			Completion: func(messages []kafka.Message, err error) {
				for _, m := range messages {
					*m.WriterData.(sending).offset = m.Offset
				}
			},
		}
		c.writers[topic+codec] = w
	}
	return w
}

func (c *client) Produce(topic string, records []scenario.Record, codec string, idempotent bool) ([]int64, error) {
	if idempotent {
		return nil, scenario.Skip("no idempotent producer")
	}
	messages, offsets := make([]kafka.Message, len(records)), make([]int64, len(records))
	for i, r := range records {
		messages[i] = kafka.Message{Key: r.Key, Value: r.Value, WriterData: sending{int(r.Partition), &offsets[i]}}
		if r.Timestamp != 0 {
			messages[i].Time = time.UnixMilli(r.Timestamp)
		}
		for _, h := range r.Headers {
			messages[i].Headers = append(messages[i].Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
	}
	return offsets, c.writer(topic, codec).WriteMessages(background, messages...)
}

func (c *client) list(topic string, request kafka.OffsetRequest) (kafka.PartitionOffsets, error) {
	response, err := c.ListOffsets(background, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {request}}})
	if err != nil {
		return kafka.PartitionOffsets{}, err
	}
	return response.Topics[topic][0], response.Topics[topic][0].Error
}

func (c *client) Watermarks(topic string, partition int32) (int64, int64, error) {
	first, one := c.list(topic, kafka.FirstOffsetOf(int(partition)))
	last, two := c.list(topic, kafka.LastOffsetOf(int(partition)))
	return first.FirstOffset, last.LastOffset, errors.Join(one, two)
}

func (c *client) OffsetForTime(topic string, partition int32, ms int64) (int64, error) {
	found, err := c.list(topic, kafka.TimeOffsetOf(int(partition), time.UnixMilli(ms)))
	for offset := range found.Offsets {
		return offset, err
	}
	return -1, err
}

func record(m kafka.Message) scenario.Record {
	r := scenario.Record{Key: m.Key, Value: m.Value, Partition: int32(m.Partition), Timestamp: m.Time.UnixMilli(), Offset: m.Offset}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, scenario.Header{Key: h.Key, Value: h.Value})
	}
	return r
}

func (c *client) Read(topic string, partition int32, offset int64, enough func([]scenario.Record) bool) (got []scenario.Record, err error) {
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{scenario.Bootstrap()}, Topic: topic, Partition: int(partition),
		MaxWait: 200 * time.Millisecond})
	defer reader.Close()
	if err := reader.SetOffset(offset); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(background, 30*time.Second)
	defer cancel()
	for len(got) == 0 || !enough(got) {
		m, err := reader.ReadMessage(ctx)
		if err != nil {
			return got, err
		}
		got = append(got, record(m))
	}
	return got, nil
}

func (c *client) reader(group, topic string) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{scenario.Bootstrap()}, GroupID: group, Topic: topic, StartOffset: kafka.FirstOffset,
		MaxWait:           100 * time.Millisecond,
		HeartbeatInterval: time.Duration(c.p.Group.Heartbeat) * time.Millisecond,
		SessionTimeout:    time.Duration(c.p.Group.SessionTimeout) * time.Millisecond,
		JoinGroupBackoff:  200 * time.Millisecond,
	})
}

func (c *client) Member(group, topic, protocol string, received func([]scenario.Record), stop scenario.Stop) error {
	switch protocol {
	case "cooperative":
		return scenario.Skip("no cooperative assignor")
	case "consumer":
		return scenario.Skip("no KIP-848 protocol")
	}
	reader := c.reader(group, topic)
	defer reader.Close()
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	go func() {
		<-stop
		cancel()
	}()
	for {
		m, err := reader.FetchMessage(ctx)
		if ctx.Err() != nil || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		received([]scenario.Record{record(m)})
		if err := reader.CommitMessages(background, m); err != nil && !rebalancing(err) {
			return err
		}
	}
}

func rebalancing(err error) bool {
	return errors.Is(err, kafka.IllegalGeneration) || errors.Is(err, kafka.RebalanceInProgress) || errors.Is(err, kafka.UnknownMemberId)
}

func (c *client) GroupRead(group, topic string, count int) (got []scenario.Record, err error) {
	reader := c.reader(group, topic)
	defer reader.Close()
	ctx, cancel := context.WithTimeout(background, 40*time.Second)
	defer cancel()
	for len(got) < count {
		m, err := reader.FetchMessage(ctx)
		if err != nil {
			return got, err
		}
		got = append(got, record(m))
		if len(got) == count {
			return got, reader.CommitMessages(background, m)
		}
	}
	return got, nil
}

func (c *client) Committed(group, topic string, partition int32) (int64, error) {
	response, err := c.OffsetFetch(background, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: {int(partition)}}})
	if err != nil {
		return 0, err
	}
	if response.Error != nil {
		return 0, response.Error
	}
	found := response.Topics[topic][0]
	return found.CommittedOffset, found.Error
}
