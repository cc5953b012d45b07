// Package scenario holds the cases for clients that are driven from Go; a driver supplies a Client.
// README.md says what a driver is given and has to print.
package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// Header of a record; keys are any bytes where the client allows it.
type Header struct {
	Key   string
	Value []byte
}

// Record as the scenario sees it; a nil Key or Value is null, an empty one is empty.
type Record struct {
	Key, Value []byte
	Headers    []Header
	Partition  int32
	Timestamp  int64 // ms; 0 is now when producing
	Offset     int64
}

// ErrTopicExists is returned by CreateTopic for a topic that is there already.
var ErrTopicExists = errors.New("topic exists")

// Skip says that the client cannot do what a case asks, and why.
type Skip string

func (s Skip) Error() string { return string(s) }

// Stop is closed when a group member has to leave.
type Stop <-chan struct{}

// Client is what a driver implements. Records are produced with acks=all, and every call waits for its result.
type Client interface {
	CreateTopic(topic string, partitions int, configs map[string]string) error
	// Topics maps every topic to its number of partitions.
	Topics() (map[string]int, error)
	Configs(topic string) (map[string]string, error)
	AddPartitions(topic string, total int) error
	DeleteTopic(topic string) error
	// DeleteRecords returns the new low watermark.
	DeleteRecords(topic string, partition int32, before int64) (int64, error)
	// Produce returns the offset of each record.
	Produce(topic string, records []Record, codec string, idempotent bool) ([]int64, error)
	Watermarks(topic string, partition int32) (earliest, latest int64, err error)
	// OffsetForTime is -1 when no record is at or after the time (ms).
	OffsetForTime(topic string, partition int32, ms int64) (int64, error)
	// Read reads one partition without a group until enough says so or 30 s have passed.
	Read(topic string, partition int32, offset int64, enough func([]Record) bool) ([]Record, error)
	// Member joins a group, hands batches on, commits each, and leaves when told to.
	Member(group, topic, protocol string, received func([]Record), stop Stop) error
	// GroupRead joins, takes exactly count records, commits the position after them, and leaves.
	GroupRead(group, topic string, count int) ([]Record, error)
	// Committed is -1 without a commit.
	Committed(group, topic string, partition int32) (int64, error)
}

// Traits of a client that change what the cases may ask.
type Traits struct {
	BinaryHeaderKeys bool
	NullHeaders      bool   // a header value can be null
	EmptyKeys        bool   // an empty key differs from a null one, and likewise values
	Redelivers       string // why the client's own group protocol may deliver records twice, or ""
	NoTimeMiss       bool   // OffsetForTime can't tell that there is no such record
}

func payload(i int) Record {
	value := make([]byte, i*37%1000)
	for j := range value {
		value[j] = byte(i + j*7)
	}
	return Record{
		Key:     fmt.Appendf(nil, "key-%05d", i),
		Value:   value,
		Headers: []Header{{"i", fmt.Append(nil, i)}, {"empty", []byte{}}, {"bytes", []byte{255, 254, 0, byte(i)}}},
	}
}

func number(i int) Record { return Record{Value: fmt.Append(nil, i)} }

func equalBytes(a, b []byte, exact bool) bool {
	return bytes.Equal(a, b) && (!exact || (a == nil) == (b == nil))
}

// difference says what the content of two records differs in, or "".
func (t Traits) difference(got, wanted Record) string {
	if !equalBytes(got.Key, wanted.Key, t.EmptyKeys) {
		return fmt.Sprintf("key %#v, wanted %#v", got.Key, wanted.Key)
	}
	if !equalBytes(got.Value, wanted.Value, t.EmptyKeys && len(wanted.Value) == 0) {
		return fmt.Sprintf("value %.60q, wanted %.60q", got.Value, wanted.Value)
	}
	if len(got.Headers) != len(wanted.Headers) {
		return fmt.Sprintf("headers %v, wanted %v", got.Headers, wanted.Headers)
	}
	for i, h := range wanted.Headers {
		g := got.Headers[i]
		if g.Key != h.Key || !equalBytes(g.Value, h.Value, t.NullHeaders) {
			return fmt.Sprintf("header %d is %q=%#v, wanted %q=%#v", i, g.Key, g.Value, h.Key, h.Value)
		}
	}
	return ""
}

func until(what string, seconds int, condition func() (bool, error)) error {
	deadline := time.Now().Add(time.Duration(seconds) * time.Second)
	for {
		ok, err := condition()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %d s: %s", seconds, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
