// Driver of sarama.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"krocket.test/scenario"
)

type client struct {
	sarama    sarama.Client
	admin     sarama.ClusterAdmin
	producers map[string]sarama.SyncProducer
	p         scenario.Scenario
}

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Consumer.Return.Errors = true
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.MaxWaitTime = 50 * time.Millisecond // a commit to the same broker waits behind a fetch
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Partitioner = sarama.NewManualPartitioner
	return c
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

var brokers = []string{scenario.Bootstrap()}

func main() {
	cl := must(sarama.NewClient(brokers, config()))
	scenario.Main(&client{cl, must(sarama.NewClusterAdminFromClient(cl)), map[string]sarama.SyncProducer{}, scenario.Load()},
		scenario.Traits{BinaryHeaderKeys: true, NullHeaders: true, EmptyKeys: true})
}

func (c *client) CreateTopic(topic string, partitions int, configs map[string]string) error {
	values := map[string]*string{}
	for k, v := range configs {
		values[k] = &v
	}
	err := c.admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: 1, ConfigEntries: values}, false)
	if errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return scenario.ErrTopicExists
	}
	return err
}

func (c *client) Topics() (map[string]int, error) {
	details, err := c.admin.ListTopics()
	topics := map[string]int{}
	for name, detail := range details {
		topics[name] = int(detail.NumPartitions)
	}
	return topics, err
}

func (c *client) Configs(topic string) (map[string]string, error) {
	entries, err := c.admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	configs := map[string]string{}
	for _, e := range entries {
		configs[e.Name] = e.Value
	}
	return configs, err
}

func (c *client) AddPartitions(topic string, total int) error {
	return c.admin.CreatePartitions(topic, int32(total), nil, false)
}

func (c *client) DeleteTopic(topic string) error { return c.admin.DeleteTopic(topic) }

func (c *client) DeleteRecords(topic string, partition int32, before int64) (int64, error) {
	return -1, c.admin.DeleteRecords(topic, map[int32]int64{partition: before}) // it does not say the low watermark
}

var codecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

// bytesOrNull is an Encoder, or nil for null.
func bytesOrNull(b []byte) sarama.Encoder {
	if b == nil {
		return nil
	}
	return sarama.ByteEncoder(b)
}

func (c *client) Produce(topic string, records []scenario.Record, codec string, idempotent bool) ([]int64, error) {
	key := fmt.Sprint(codec, idempotent)
	producer := c.producers[key]
	if producer == nil {
		conf := config()
		conf.Producer.Compression = codecs[codec]
		conf.Producer.Idempotent = idempotent
		conf.Net.MaxOpenRequests = 1 // what sarama asks for with idempotence, and for order without
		var err error
		if producer, err = sarama.NewSyncProducer(brokers, conf); err != nil {
			return nil, err
		}
		c.producers[key] = producer
	}
	messages := make([]*sarama.ProducerMessage, len(records))
	for i, r := range records {
		messages[i] = &sarama.ProducerMessage{Topic: topic, Partition: r.Partition, Key: bytesOrNull(r.Key), Value: bytesOrNull(r.Value)}
		if r.Timestamp != 0 {
			messages[i].Timestamp = time.UnixMilli(r.Timestamp)
		}
		for _, h := range r.Headers {
			messages[i].Headers = append(messages[i].Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
	}
	err := producer.SendMessages(messages)
	offsets := make([]int64, len(records))
	for i, m := range messages {
		offsets[i] = m.Offset
	}
	return offsets, err
}

func (c *client) Watermarks(topic string, partition int32) (int64, int64, error) {
	err := c.sarama.RefreshMetadata(topic)
	earliest, one := c.sarama.GetOffset(topic, partition, sarama.OffsetOldest)
	latest, two := c.sarama.GetOffset(topic, partition, sarama.OffsetNewest)
	return earliest, latest, errors.Join(err, one, two)
}

func (c *client) OffsetForTime(topic string, partition int32, ms int64) (int64, error) {
	return c.sarama.GetOffset(topic, partition, ms)
}

func record(m *sarama.ConsumerMessage) scenario.Record {
	r := scenario.Record{Key: m.Key, Value: m.Value, Partition: m.Partition, Timestamp: m.Timestamp.UnixMilli(), Offset: m.Offset}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, scenario.Header{Key: string(h.Key), Value: h.Value})
	}
	return r
}

func (c *client) Read(topic string, partition int32, offset int64, enough func([]scenario.Record) bool) (got []scenario.Record, err error) {
	consumer, err := sarama.NewConsumer(brokers, config())
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	pc, err := consumer.ConsumePartition(topic, partition, offset)
	if err != nil {
		return nil, err
	}
	defer pc.Close()
	deadline := time.After(30 * time.Second)
	for len(got) == 0 || !enough(got) {
		select {
		case m := <-pc.Messages():
			got = append(got, record(m))
		case e := <-pc.Errors():
			return got, e
		case <-deadline:
			return got, nil
		}
	}
	return got, nil
}

// handler hands on what a session's claims have, in batches of at most `most`, and commits each.
type handler struct {
	received func([]scenario.Record) bool // whether to go on
	most     int
}

func (handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for session.Context().Err() == nil {
		var batch []scenario.Record
		take := func(m *sarama.ConsumerMessage) {
			batch = append(batch, record(m))
			session.MarkMessage(m, "")
		}
		select {
		case m, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			take(m)
		case <-session.Context().Done():
			return nil
		}
		for more := true; more && len(batch) < h.most; {
			select {
			case m, ok := <-claim.Messages():
				if more = ok; ok {
					take(m)
				}
			default:
				more = false
			}
		}
		again := h.received(batch)
		session.Commit()
		if !again {
			return nil // ends the session
		}
	}
	return nil
}

func (c *client) join(group, topic string, strategy sarama.BalanceStrategy, stop scenario.Stop, h handler) error {
	conf := config()
	conf.Consumer.Group.Session.Timeout = time.Duration(c.p.Group.SessionTimeout) * time.Millisecond
	conf.Consumer.Group.Heartbeat.Interval = time.Duration(c.p.Group.Heartbeat) * time.Millisecond
	conf.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
	member, err := sarama.NewConsumerGroup(brokers, group, conf)
	if err != nil {
		return err
	}
	defer member.Close()
	go func() {
		for range member.Errors() {
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-stop
		cancel()
	}()
	for ctx.Err() == nil {
		if err := member.Consume(ctx, []string{topic}, h); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func (c *client) Member(group, topic, protocol string, received func([]scenario.Record), stop scenario.Stop) error {
	strategy := sarama.NewBalanceStrategyRange()
	switch protocol {
	case "cooperative":
		strategy = sarama.NewBalanceStrategyCooperativeSticky()
	case "consumer":
		return scenario.Skip("no KIP-848 protocol")
	}
	return c.join(group, topic, strategy, stop, handler{func(records []scenario.Record) bool {
		received(records)
		return true
	}, 50})
}

func (c *client) GroupRead(group, topic string, count int) (got []scenario.Record, err error) {
	stop := make(chan struct{})
	timer := time.AfterFunc(40*time.Second, func() { close(stop) })
	err = c.join(group, topic, sarama.NewBalanceStrategyRange(), stop, handler{func(records []scenario.Record) bool {
		got = append(got, records...)
		if len(got) == count && timer.Stop() {
			close(stop)
		}
		return len(got) < count
	}, 1})
	return got, err
}

func (c *client) Committed(group, topic string, partition int32) (int64, error) {
	response, err := c.admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
	if err != nil {
		return 0, err
	}
	block := response.GetBlock(topic, partition)
	if block == nil {
		return -1, nil
	}
	if block.Err != sarama.ErrNoError {
		return -1, block.Err
	}
	return block.Offset, nil
}
