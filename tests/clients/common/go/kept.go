package scenario

import (
	"fmt"
	"time"
)

// The cases whose topics outlive a phase: compaction, and commits across a restart of the broker.

func (c *cases) compactedTotal() int {
	return c.scenario.Compacted.Keys*c.scenario.Compacted.Rounds + 2
}

// prepareCompacted writes first, so that the broker can compact while the other cases run.
func (c *cases) prepareCompacted() error {
	p := c.scenario.Compacted
	topic, err := c.newTopic("compacted", 1, p.Configs)
	if err != nil {
		return err
	}
	var records []Record
	for i := range p.Keys * p.Rounds {
		r := number(i)
		r.Key = fmt.Appendf(nil, "k%d", i%p.Keys)
		records = append(records, r)
	}
	if _, err := c.client.Produce(topic, records, "none", false); err != nil {
		return err
	}
	for i := range 2 {
		time.Sleep(500 * time.Millisecond) // longer than segment.ms: the next batch rolls the segment
		r := number(i)
		r.Key = []byte("last")
		if _, err := c.client.Produce(topic, []Record{r}, "none", false); err != nil {
			return err
		}
	}
	return nil
}

func (c *cases) readCompacted(offset int64) ([]Record, error) {
	return c.client.Read(c.name("compacted"), 0, offset, func(r []Record) bool {
		return r[len(r)-1].Offset == int64(c.compactedTotal()-1)
	})
}

func (c *cases) compacted() error {
	p := c.scenario.Compacted
	var got []Record
	if err := until("the topic is compacted", 60, func() (ok bool, err error) {
		got, err = c.readCompacted(0)
		return len(got) <= p.Keys+2, err
	}); err != nil {
		return err
	}
	latest, previous := map[string]string{}, int64(-1)
	for _, r := range got {
		if r.Offset <= previous {
			return fmt.Errorf("offset %d after %d", r.Offset, previous)
		}
		previous = r.Offset
		latest[string(r.Key)] = string(r.Value)
	}
	for k := range p.Keys {
		key, wanted := fmt.Sprintf("k%d", k), fmt.Sprint(p.Keys*(p.Rounds-1)+k)
		if latest[key] != wanted {
			return fmt.Errorf("the last value of %s is %q, wanted %s", key, latest[key], wanted)
		}
	}
	first := got[0].Offset
	again, err := c.readCompacted(first / 2)
	if err != nil {
		return err
	}
	if again[0].Offset != first {
		return fmt.Errorf("reading from a gap starts at %d, wanted %d", again[0].Offset, first)
	}
	_, end, err := c.client.Watermarks(c.name("compacted"), 0)
	if err == nil && end != int64(c.compactedTotal()) {
		err = fmt.Errorf("the log ends at %d, wanted %d", end, c.compactedTotal())
	}
	return err
}

func (c *cases) commit() error {
	p := c.scenario.Restart
	topic, err := c.newTopic("restart", 1, nil)
	if err != nil {
		return err
	}
	var records []Record
	for i := range p.Records {
		records = append(records, payload(i))
	}
	if _, err := c.client.Produce(topic, records, "none", false); err != nil {
		return err
	}
	return c.resume(0, p.First)
}

func (c *cases) resume(start, count int) error {
	group, topic := c.name("restart"), c.name("restart")
	if start > 0 {
		// A coordinator that has just started may ask for patience, which some clients hand on as an error.
		var last string
		if err := until("", 15, func() (bool, error) {
			offset, err := c.client.Committed(group, topic, 0)
			last = fmt.Sprint(offset, err)
			return err == nil && offset == int64(start), nil
		}); err != nil {
			return fmt.Errorf("committed offset: got %s, wanted %d", last, start)
		}
	}
	got, err := c.client.GroupRead(group, topic, count)
	if err != nil {
		return err
	}
	if err := expectOffsets(got, int64(start), count); err != nil {
		return err
	}
	for i, r := range got {
		if d := c.traits.difference(r, payload(start+i)); d != "" {
			return fmt.Errorf("record %d: %s", start+i, d)
		}
	}
	offset, err := c.client.Committed(group, topic, 0)
	if err == nil && offset != int64(start+count) {
		err = fmt.Errorf("committed offset: got %d, wanted %d", offset, start+count)
	}
	return err
}

func (c *cases) restartTerm() error {
	return c.resume(c.scenario.Restart.First, c.scenario.Restart.Second)
}

func (c *cases) restartKill() error {
	p := c.scenario.Restart
	return c.resume(p.First+p.Second, p.Records-p.First-p.Second)
}
