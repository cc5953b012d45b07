package scenario

import (
	"fmt"
	"os"
	"strconv"
	"sync"
)

// Fate is what a member of a share group makes of a record.
type Fate int

const (
	Accept Fate = iota
	Release
	Reject
)

// Sharer is a Client that has share groups (KIP-932).
type Sharer interface {
	GroupConfigs(group string, values map[string]string) error
	// ShareMember is a member until stop is closed; take says what becomes of each record, given its delivery count.
	ShareMember(group, topic string, take func([]Record, []int32) ([]Fate, error), stop Stop) error
}

const shared = 2000

// ledger is what all members of the group have seen.
type ledger struct {
	sync.Mutex
	holders    map[int]string
	deliveries map[int]int32
	done       map[int]bool
	takers     map[string]bool
	failure    error
}

// take notes who holds what. Every 500th record is refused, every 100th comes twice.
func (l *ledger) take(name string, records []Record, counts []int32) ([]Fate, error) {
	l.Lock()
	defer l.Unlock()
	numbers, fates := make([]int, len(records)), make([]Fate, len(records))
	for i, r := range records {
		n, err := strconv.Atoi(string(r.Value))
		if err != nil {
			return nil, err
		}
		if other, held := l.holders[n]; held {
			return nil, fmt.Errorf("record %d is held by %s, and came to %s", n, other, name)
		}
		l.holders[n], l.takers[name], numbers[i] = name, true, n
		l.deliveries[n]++
		if counts[i] != l.deliveries[n] {
			return nil, fmt.Errorf("delivery count of %d: got %d, wanted %d", n, counts[i], l.deliveries[n])
		}
	}
	for i, n := range numbers {
		delete(l.holders, n) // before the broker knows
		switch {
		case n%500 == 250:
			fates[i] = Reject
		case n%100 == 0 && l.deliveries[n] == 1:
			fates[i] = Release
			continue
		}
		if l.done[n] {
			return nil, fmt.Errorf("record %d came again after it was done", n)
		}
		l.done[n] = true
	}
	return fates, nil
}

func (l *ledger) progress() (int, error) {
	l.Lock()
	defer l.Unlock()
	return len(l.done), l.failure
}

// share: two members take a topic's records one by one; none is lost, none held by both, released ones come twice.
func share(s *story) {
	client, able := s.client.(Sharer)
	if !able {
		must(Skip("no share groups (KIP-932)"))
	}
	topic := s.topic("share", 3)
	group := topic + "-group"
	must(client.GroupConfigs(group, map[string]string{"share.auto.offset.reset": "earliest"}))
	l := &ledger{holders: map[int]string{}, deliveries: map[int]int32{}, done: map[int]bool{}, takers: map[string]bool{}}
	stop := make(chan struct{})
	var members sync.WaitGroup
	for _, name := range []string{"one", "two"} {
		members.Go(func() {
			take := func(records []Record, counts []int32) ([]Fate, error) { return l.take(name, records, counts) }
			if err := client.ShareMember(group, topic, take, stop); err != nil {
				l.Lock()
				l.failure = err
				l.Unlock()
			}
		})
	}
	err := s.feed(topic, l)
	close(stop)
	members.Wait()
	must(err)
	must(l.failure)
	s.same(len(l.done), shared, "records done")
	s.same(len(l.takers), 2, "members that took records")
	for n := range shared {
		wanted := 1
		if n%100 == 0 {
			wanted = 2
		}
		s.same(l.deliveries[n], wanted, fmt.Sprintf("deliveries of %d", n))
	}
	if os.Getenv("KROCKET_HTTP") != "" { // Kafka 4.3 has no dead letters
		s.deadLetters(topic, group)
	}
}

// feed produces in several goes, so that both members have joined before the last.
func (s *story) feed(topic string, l *ledger) error {
	for start := 0; start < shared; start += shared / 10 {
		end := start + shared/10
		var records []Record
		for n := start; n < end; n++ {
			records = append(records, Record{Key: []byte("k"), Value: []byte(strconv.Itoa(n)), Partition: int32(n % 3)})
		}
		if _, err := s.client.Produce(topic, records, "none", false); err != nil {
			return err
		}
		err := until(fmt.Sprintf("%d records done", end), 40, func() (bool, error) {
			done, err := l.progress()
			return done == end, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *story) deadLetters(topic, group string) {
	dlq := "dlq." + group
	s.exist(dlq)
	topics, err := s.client.Topics()
	must(err)
	var ends []int64
	must(until("four dead letters", 20, func() (bool, error) {
		ends = nil
		sum := int64(0)
		for p := range topics[dlq] {
			_, end, err := s.client.Watermarks(dlq, int32(p))
			if err != nil {
				return false, err
			}
			ends, sum = append(ends, end), sum+end
		}
		return sum == 4, nil
	}))
	found := 0
	for p, end := range ends {
		if end == 0 {
			continue
		}
		got, err := s.client.Read(dlq, int32(p), 0, func(r []Record) bool { return len(r) >= int(end) })
		must(err)
		for _, r := range got {
			n, err := strconv.Atoi(string(r.Value))
			must(err)
			s.same(n%500, 250, "a dead letter")
			s.same(s.header(r, "__dlq.errors.topic"), topic, "__dlq.errors.topic")
			s.same(s.header(r, "__dlq.errors.partition"), strconv.Itoa(n%3), "__dlq.errors.partition")
			s.same(s.header(r, "__dlq.errors.offset"), strconv.Itoa(n/3), "__dlq.errors.offset")
			s.same(s.header(r, "__dlq.errors.group"), group, "__dlq.errors.group")
			s.same(s.header(r, "__dlq.errors.delivery.count"), "1", "__dlq.errors.delivery.count")
			found++
		}
	}
	s.same(found, 4, "dead letters")
}
