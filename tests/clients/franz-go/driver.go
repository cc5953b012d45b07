// Driver of franz-go: kgo for records and groups, kadm for the rest.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"krocket.test/scenario"
)

type client struct {
	admin     *kadm.Client
	producers map[string]*kgo.Client
	group     func(...kgo.Opt) []kgo.Opt
}

var background = context.Background()

func connect(options ...kgo.Opt) (*kgo.Client, error) {
	// Metadata younger than MetadataMinAge is not asked for again, and the cases wait for it.
	return kgo.NewClient(append(options, kgo.SeedBrokers(scenario.Bootstrap()), kgo.MetadataMinAge(50*time.Millisecond))...)
}

func main() {
	cl, err := connect()
	if err != nil {
		panic(err)
	}
	p := scenario.Load().Group
	scenario.Main(&client{kadm.NewClient(cl), map[string]*kgo.Client{}, func(more ...kgo.Opt) []kgo.Opt {
		return append(more,
			kgo.SessionTimeout(time.Duration(p.SessionTimeout)*time.Millisecond),
			kgo.HeartbeatInterval(time.Duration(p.Heartbeat)*time.Millisecond))
	}}, scenario.Traits{BinaryHeaderKeys: true, NullHeaders: true, EmptyKeys: true})
}

func (c *client) CreateTopic(topic string, partitions int, configs map[string]string) error {
	values := map[string]*string{}
	for k, v := range configs {
		values[k] = kadm.StringPtr(v)
	}
	_, err := c.admin.CreateTopic(background, int32(partitions), 1, values, topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return scenario.ErrTopicExists
	}
	return err
}

func (c *client) Topics() (map[string]int, error) {
	details, err := c.admin.ListTopics(background)
	topics := map[string]int{}
	for name, detail := range details {
		topics[name] = len(detail.Partitions)
	}
	return topics, err
}

func (c *client) Configs(topic string) (map[string]string, error) {
	resources, err := c.admin.DescribeTopicConfigs(background, topic)
	if err != nil {
		return nil, err
	}
	resource, err := resources.On(topic, nil)
	configs := map[string]string{}
	for _, config := range resource.Configs {
		configs[config.Key] = config.MaybeValue()
	}
	return configs, errors.Join(err, resource.Err)
}

func (c *client) AddPartitions(topic string, total int) error {
	responses, err := c.admin.UpdatePartitions(background, total, topic)
	return errors.Join(err, responses.Error())
}

func (c *client) DeleteTopic(topic string) error {
	for _, producer := range c.producers {
		producer.PurgeTopicsFromProducing(topic) // or it goes on asking for the old topic's id
	}
	_, err := c.admin.DeleteTopic(background, topic)
	return err
}

func (c *client) DeleteRecords(topic string, partition int32, before int64) (int64, error) {
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, partition, before, -1)
	responses, err := c.admin.DeleteRecords(background, offsets)
	if err != nil {
		return 0, err
	}
	response, _ := responses.Lookup(topic, partition)
	return response.LowWatermark, response.Err
}

func (c *client) Produce(topic string, records []scenario.Record, codec string, idempotent bool) ([]int64, error) {
	key := fmt.Sprint(codec, idempotent)
	producer := c.producers[key]
	if producer == nil {
		options := []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codecs[codec])}
		if !idempotent {
			options = append(options, kgo.DisableIdempotentWrite())
		}
		var err error
		if producer, err = connect(options...); err != nil {
			return nil, err
		}
		c.producers[key] = producer
	}
	sent := make([]*kgo.Record, len(records))
	for i, r := range records {
		sent[i] = &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
		if r.Timestamp != 0 {
			sent[i].Timestamp = time.UnixMilli(r.Timestamp)
		}
		for _, h := range r.Headers {
			sent[i].Headers = append(sent[i].Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
	}
	err := producer.ProduceSync(background, sent...).FirstErr()
	offsets := make([]int64, len(records))
	for i, r := range sent {
		offsets[i] = r.Offset
	}
	return offsets, err
}

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func offsetIn(listed kadm.ListedOffsets, err error, topic string, partition int32) (int64, error) {
	if err != nil {
		return 0, err
	}
	offset, _ := listed.Lookup(topic, partition)
	return offset.Offset, offset.Err
}

func (c *client) Watermarks(topic string, partition int32) (int64, int64, error) {
	start, err := c.admin.ListStartOffsets(background, topic)
	earliest, one := offsetIn(start, err, topic, partition)
	end, err := c.admin.ListEndOffsets(background, topic)
	latest, two := offsetIn(end, err, topic, partition)
	return earliest, latest, errors.Join(one, two)
}

// OffsetForTime: kadm turns "none" into the end of the partition, with -1 as its timestamp.
func (c *client) OffsetForTime(topic string, partition int32, ms int64) (int64, error) {
	listed, err := c.admin.ListOffsetsAfterMilli(background, ms, topic)
	if found, _ := listed.Lookup(topic, partition); err == nil && found.Timestamp == -1 {
		return -1, found.Err
	}
	return offsetIn(listed, err, topic, partition)
}

func record(r *kgo.Record) scenario.Record {
	out := scenario.Record{Key: r.Key, Value: r.Value, Partition: r.Partition, Timestamp: r.Timestamp.UnixMilli(), Offset: r.Offset}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, scenario.Header{Key: h.Key, Value: h.Value})
	}
	return out
}

// poll waits at most 200 ms.
func poll(cl *kgo.Client, most int) (records []scenario.Record, raw []*kgo.Record, err error) {
	ctx, cancel := context.WithTimeout(background, 200*time.Millisecond)
	defer cancel()
	fetches := cl.PollRecords(ctx, most)
	fetches.EachError(func(_ string, _ int32, e error) {
		if !errors.Is(e, context.DeadlineExceeded) {
			err = e
		}
	})
	fetches.EachRecord(func(r *kgo.Record) {
		records = append(records, record(r))
		raw = append(raw, r)
	})
	return records, raw, err
}

func (c *client) Read(topic string, partition int32, offset int64, enough func([]scenario.Record) bool) (got []scenario.Record, err error) {
	cl, err := connect(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(offset)}}))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	for deadline := time.Now().Add(30 * time.Second); (len(got) == 0 || !enough(got)) && time.Now().Before(deadline); {
		records, _, err := poll(cl, 0)
		if err != nil {
			return got, err
		}
		got = append(got, records...)
	}
	return got, nil
}

func (c *client) Member(group, topic, protocol string, received func([]scenario.Record), stop scenario.Stop) error {
	options := c.group(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	switch protocol {
	case "classic":
		options = append(options, kgo.Balancers(kgo.RangeBalancer()))
	case "cooperative":
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	case "consumer":
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.ServerSideBalancer())
	}
	cl, err := connect(options...)
	if err != nil {
		return err
	}
	defer cl.CloseAllowingRebalance()
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		records, raw, err := poll(cl, 50)
		if err == nil && len(records) > 0 {
			received(records)
			err = cl.CommitRecords(background, raw...)
			for errors.Is(err, kerr.RebalanceInProgress) { // cooperative members commit again when it is over
				time.Sleep(20 * time.Millisecond)
				err = cl.CommitRecords(background, raw...)
			}
		}
		cl.AllowRebalance()
		if err != nil {
			return err
		}
	}
}

func (c *client) GroupRead(group, topic string, count int) (got []scenario.Record, err error) {
	cl, err := connect(c.group(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var last []*kgo.Record
	for deadline := time.Now().Add(40 * time.Second); len(got) < count && time.Now().Before(deadline); {
		records, raw, err := poll(cl, count-len(got))
		if err != nil {
			return got, err
		}
		got, last = append(got, records...), append(last, raw...)
	}
	return got, cl.CommitRecords(background, last...)
}

func (c *client) Committed(group, topic string, partition int32) (int64, error) {
	offsets, err := c.admin.FetchOffsets(background, group)
	if err != nil {
		return 0, err
	}
	offset, found := offsets.Lookup(topic, partition)
	if !found {
		return -1, nil
	}
	return offset.At, offset.Err
}

func (c *client) GroupConfigs(group string, values map[string]string) error {
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	for name, value := range values {
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Value = name, kmsg.StringPtr(value)
		resource.Configs = append(resource.Configs, config)
	}
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	request.Resources = append(request.Resources, resource)
	cl, err := connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	response, err := request.RequestWith(background, cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(response.Resources[0].ErrorCode)
}

var fates = map[scenario.Fate]kgo.AckStatus{
	scenario.Accept: kgo.AckAccept, scenario.Release: kgo.AckRelease, scenario.Reject: kgo.AckReject,
}

func (c *client) ShareMember(
	group, topic string, take func([]scenario.Record, []int32) ([]scenario.Fate, error), stop scenario.Stop,
) error {
	refused := make(chan error, 1)
	cl, err := connect(kgo.ShareGroup(group), kgo.ConsumeTopics(topic),
		kgo.ShareAckCallback(func(_ *kgo.Client, results kgo.ShareAckResults) {
			if err := results.Error(); err != nil {
				select {
				case refused <- err:
				default:
				}
			}
		}))
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		select {
		case <-stop:
			return nil
		case err := <-refused:
			return err
		default:
		}
		records, raw, err := poll(cl, 100)
		if err != nil {
			return err
		}
		counts := make([]int32, len(raw))
		for i, r := range raw {
			counts[i] = r.DeliveryCount()
		}
		made, err := take(records, counts)
		if err != nil {
			return err
		}
		for i, r := range raw {
			r.Ack(fates[made[i]])
		}
		if err := cl.FlushAcks(background); err != nil {
			return err
		}
	}
}
