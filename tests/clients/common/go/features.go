package scenario

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// The stories of krocket's own features, as any Kafka client meets them: record headers, topic names, nothing else.

// story runs the story of a feature that only krocket has.
func (c *cases) story(run func(*story)) func() error {
	if os.Getenv("KROCKET_HTTP") == "" {
		return func() error { return Skip("only krocket has it") }
	}
	return c.storyOf(run)
}

// storyOf runs a story; any step that fails ends it.
func (c *cases) storyOf(run func(*story)) func() error {
	return func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				failure, ok := r.(storyError)
				if !ok {
					panic(r)
				}
				err = failure.error
			}
		}()
		run(&story{c})
		return nil
	}
}

type storyError struct{ error }

type story struct{ *cases }

func must(err error) {
	if err != nil {
		panic(storyError{err})
	}
}

func (s *story) same(got, wanted any, what string) {
	if g, w := fmt.Sprintf("%.160v", got), fmt.Sprintf("%.160v", wanted); g != w {
		must(fmt.Errorf("%s: got %s, wanted %s", what, g, w))
	}
}

func (s *story) topic(name string, partitions int) string {
	topic, err := s.newTopic(name, partitions, nil)
	must(err)
	return topic
}

// rec has key k, and headers given as name, value, name, value.
func rec(value string, headers ...string) Record {
	r := Record{Key: []byte("k"), Value: []byte(value)}
	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, Header{headers[i], []byte(headers[i+1])})
	}
	return r
}

func (s *story) produce(topic string, records ...Record) []int64 {
	offsets, err := s.client.Produce(topic, records, "none", false)
	must(err)
	return offsets
}

func (s *story) refused(what, topic string, r Record) {
	if _, err := s.client.Produce(topic, []Record{r}, "none", false); err == nil {
		must(fmt.Errorf("accepted: %s", what))
	}
}

func (s *story) read(topic string, offset int64, count int) []Record {
	got, err := s.client.Read(topic, 0, offset, func(r []Record) bool { return len(r) >= count })
	must(err)
	if len(got) < count {
		must(fmt.Errorf("%d records in %s, wanted %d", len(got), topic, count))
	}
	return got
}

func (s *story) exist(names ...string) {
	must(until(strings.Join(names, " and "), 15, func() (bool, error) {
		topics, err := s.client.Topics()
		return !slices.ContainsFunc(names, func(name string) bool { return topics[name] == 0 }), err
	}))
}

func (s *story) header(r Record, name string) string {
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == name {
			return string(h.Value)
		}
	}
	must(fmt.Errorf("no header %s", name))
	return ""
}

func without(headers []Header, name string) []Header {
	return slices.DeleteFunc(slices.Clone(headers), func(h Header) bool { return h.Key == name })
}

func values(records []Record) (values []string) {
	for _, r := range records {
		values = append(values, string(r.Value))
	}
	return values
}

// operate is what an operator does; the features themselves need no HTTP.
func operate(path, body string) {
	response, err := http.Post(os.Getenv("KROCKET_HTTP")+path, "application/json", bytes.NewBufferString(body))
	must(err)
	response.Body.Close()
	if response.StatusCode/100 != 2 {
		must(fmt.Errorf("%s: %s", path, response.Status))
	}
}

// viewGroup: two members share a view; each record that matches arrives once, no other, and nothing is left to read.
func viewGroup(s *story) {
	const partitions = 4
	topic := s.topic("view", partitions)
	view := topic + "--paid--refunded"
	tags := []string{"new", "paid", "lost||refunded", "", "paid too"}
	var records []Record
	wanted := map[string]bool{}
	for i := range 400 {
		r := rec(fmt.Sprint(i), "TAGS", tags[i%5])
		if tags[i%5] == "" {
			r.Headers[0].Key = "x"
		}
		r.Partition = int32(i % partitions)
		records = append(records, r)
		if i%5 == 1 || i%5 == 2 {
			wanted[fmt.Sprint(i)] = true
		}
	}
	s.produce(topic, records[:100]...)
	g := &groupRun{}
	var members sync.WaitGroup
	stop := make(chan struct{})
	join := func() {
		members.Go(func() {
			g.fail(s.client.Member(view, view, "classic", func(got []Record) {
				g.Lock()
				defer g.Unlock()
				for _, r := range got {
					g.seen = append(g.seen, seen{"", string(r.Value), r.Partition})
				}
			}, stop))
		})
	}
	func() {
		defer func() {
			close(stop)
			members.Wait()
		}()
		join()
		must(g.wait("the first member gets what is there", func() bool { return len(g.distinct()) == 40 }))
		join()
		_, err := s.client.Produce(topic, records[100:250], "gzip", false)
		must(err)
		must(g.wait("records that come while the group rebalances", func() bool { return len(g.distinct()) == 100 }))
		s.produce(topic, records[250:]...)
		must(g.wait("all records that match", func() bool { return len(g.distinct()) >= len(wanted) }))
	}()
	must(g.err)
	s.same(g.distinct(), wanted, "records that match")
	if s.traits.Redelivers == "" {
		s.same(len(g.seen), len(wanted), "records delivered")
	}
	for p := range int32(partitions) {
		_, end, err := s.client.Watermarks(view, p)
		must(err)
		committed, err := s.client.Committed(view, view, p)
		must(err)
		s.same(committed, end, "committed offset and end")
	}
	s.refused("a record produced to a view", view, rec("x"))
}

// delayCancel: a delayed record arrives when it is due and not before; a cancelled one never does.
func delayCancel(s *story) {
	topic := s.topic("delay", 1)
	began := time.Now().UnixMilli()
	offsets := s.produce(topic, rec("late", "TIMER_DELAY_MS", "2000", "a", "b"), rec("now", "a", "b"),
		rec("cancelled", "TIMER_DELAY_SEC", "1", "UNIQ_KEY", "u-1"))
	s.same(offsets, []int64{0, 1, 2}, "offsets: a delayed record has its own")
	s.produce(topic, rec("x", "TIMER_DEL_UNIQKEY", "u-1"))
	must(s.expectWatermarks(topic, 0, 0, 2))
	got := s.read(topic, 0, 2)
	s.same(values(got), []string{"now", "late"}, "records")
	if after := got[1].Timestamp - began; after < 2000 || after >= 4000 {
		must(fmt.Errorf("delivered %d ms after it was sent, due after 2000", after))
	}
	s.same(s.header(got[1], "ORIGIN_MESSAGE_ID"), topic+":0:0", "ORIGIN_MESSAGE_ID")
	s.same(s.header(got[1], "a"), "b", "the record's own header")
	s.refused("a cancel of nothing", topic, rec("x", "TIMER_DEL_UNIQKEY", "u-2"))
	s.refused("TIMER_DELAY_MS=soon", topic, rec("x", "TIMER_DELAY_MS", "soon"))
}

// retryDeadRedrive: a consumer fails until the record is dead; an operator sends it back to where it came from.
func retryDeadRedrive(s *story) {
	topic, group := s.topic("bills", 1), s.name("billing")
	retry, dlq := "retry."+group, "dlq."+group
	s.produce(topic, rec("bill 7", "a", "b"))
	read, err := s.client.GroupRead(group, topic, 1)
	must(err)
	one := read[0]
	s.exist(retry, dlq)
	origin := Header{"ORIGIN_MESSAGE_ID", []byte(topic + ":0:0")}
	position := int64(0)
	for attempt := 1; attempt <= 2; attempt++ {
		nack := Record{Key: one.Key, Value: one.Value, Headers: one.Headers}
		if attempt == 2 { // its id instead of the record itself
			nack = Record{Headers: slices.DeleteFunc(slices.Clone(one.Headers), func(h Header) bool { return h.Key != "RECONSUME_TIMES" })}
		}
		nack.Headers = append(slices.Clone(nack.Headers), origin, Header{"ERROR", []byte("no money")})
		s.produce(retry, nack)
		one = s.read(retry, position, 1)[0]
		position = one.Offset + 1
		s.same([]string{string(one.Key), string(one.Value)}, []string{"k", "bill 7"}, "the retried record")
		s.same(s.header(one, "RECONSUME_TIMES"), fmt.Sprint(attempt), "RECONSUME_TIMES")
		s.same(s.header(one, "ORIGIN_MESSAGE_ID"), topic+":0:0", "ORIGIN_MESSAGE_ID")
		s.same(s.header(one, "REAL_TOPIC"), topic, "REAL_TOPIC")
		s.same(s.header(one, "a"), "b", "the record's own header")
	}
	headers := append(without(one.Headers, "ERROR"), Header{"ERROR", []byte("still no money")})
	s.produce(retry, Record{Key: one.Key, Value: one.Value, Headers: headers})
	dead := s.read(dlq, 0, 1)[0]
	s.same([]string{string(dead.Key), string(dead.Value)}, []string{"k", "bill 7"}, "the dead letter")
	s.same(s.header(dead, "__dlq.errors.topic"), topic, "__dlq.errors.topic")
	s.same(s.header(dead, "__dlq.errors.group"), group, "__dlq.errors.group")
	s.same(s.header(dead, "__dlq.errors.message"), "still no money", "__dlq.errors.message")
	s.refused("a record produced to a DLQ", dlq, rec("x"))
	operate("/v1/dlq/"+group+"/redrive", `{"all": true}`)
	again := s.read(topic, 1, 1)[0]
	s.same([]string{string(again.Key), string(again.Value)}, []string{"k", "bill 7"}, "the redriven record")
}

// halfCheck: the producer dies between its half messages and their ends; another of its group is asked and answers.
func halfCheck(s *story) {
	topic, producers := s.topic("half", 1), s.name("shop")
	half := func(value, key string) Record {
		return rec(value, "TRAN_MSG", "true", "PGROUP", producers, "CHECK_IMMUNITY_TIME_IN_SECONDS", "1", "UNIQ_KEY", key)
	}
	s.produce(topic, half("paid", "h-1"), half("not paid", "h-2"), half("ended in time", "h-3"))
	must(s.expectWatermarks(topic, 0, 0, 0))
	s.produce(topic, rec("x", "TRAN_END", "COMMIT", "UNIQ_KEY", "h-3"))
	s.same(values(s.read(topic, 0, 1)), []string{"ended in time"}, "the committed one")
	questions := "check." + producers
	s.exist(questions)
	asked, err := s.client.GroupRead(producers+".checkers", questions, 2)
	must(err)
	got := values(asked)
	slices.Sort(got)
	s.same(got, []string{"not paid", "paid"}, "half messages that are asked about")
	for _, question := range asked {
		verdict := "ROLLBACK"
		if string(question.Value) == "paid" {
			verdict = "COMMIT"
		}
		s.produce(topic, rec("x", "TRAN_END", verdict, "ORIGIN_MESSAGE_ID", s.header(question, "ORIGIN_MESSAGE_ID")))
	}
	s.same(values(s.read(topic, 0, 2)), []string{"ended in time", "paid"}, "what consumers see")
	s.refused("a commit after the rollback", topic, rec("x", "TRAN_END", "COMMIT", "UNIQ_KEY", "h-2"))
}
