package scenario

import (
	"fmt"
	"sync"
	"time"
)

type seen struct {
	member, value string
	partition     int32
}

// groupRun is a group of two that grows to three and shrinks again while records flow.
type groupRun struct {
	sync.Mutex
	seen     []seen
	produced map[string]bool
	err      error
}

func (g *groupRun) fail(err error) {
	if err != nil {
		g.Lock()
		g.err = err
		g.Unlock()
	}
}

func (g *groupRun) count(member string, since int) (n int) {
	for _, s := range g.seen[since:] {
		if s.member == member {
			n++
		}
	}
	return n
}

func (g *groupRun) distinct() map[string]bool {
	values := map[string]bool{}
	for _, s := range g.seen {
		values[s.value] = true
	}
	return values
}

func (g *groupRun) wait(what string, condition func() bool) error {
	return until(what, 40, func() (bool, error) {
		g.Lock()
		defer g.Unlock()
		if g.err != nil {
			return false, g.err
		}
		return condition(), nil
	})
}

func (c *cases) group(protocol string) error {
	p := c.scenario.Group
	topic, err := c.newTopic("group-"+protocol, p.Partitions, nil)
	if err != nil {
		return err
	}
	group := topic
	g := &groupRun{produced: map[string]bool{}}
	var members, feeder sync.WaitGroup
	stops, ended := map[string]chan struct{}{}, map[string]chan struct{}{}
	start := func(name string) {
		stop, end := make(chan struct{}), make(chan struct{})
		stops[name], ended[name] = stop, end
		members.Go(func() {
			defer close(end)
			g.fail(c.client.Member(group, topic, protocol, func(records []Record) {
				g.Lock()
				defer g.Unlock()
				for _, r := range records {
					g.seen = append(g.seen, seen{name, string(r.Value), r.Partition})
				}
			}, stop))
		})
	}
	full := make(chan struct{})
	var finish sync.Once
	leave := func() { finish.Do(func() { close(full) }) }
	feed := func() {
		for n := 0; ; {
			var batch []Record
			for range 12 {
				r := number(n)
				r.Partition = int32(n % p.Partitions)
				batch = append(batch, r)
				n++
			}
			if _, err := c.client.Produce(topic, batch, "none", false); err != nil {
				g.fail(err)
				return
			}
			g.Lock()
			for _, r := range batch {
				g.produced[string(r.Value)] = true
			}
			g.Unlock()
			select {
			case <-full:
				return
			case <-time.After(time.Duration(p.IntervalMs*12) * time.Millisecond):
			}
		}
	}
	run := func() error {
		start("a")
		start("b")
		feeder.Go(feed)
		if err := g.wait("two members both get records", func() bool {
			return min(g.count("a", 0), g.count("b", 0)) >= p.Each
		}); err != nil {
			return err
		}
		start("c")
		if err := g.wait("the third member gets records", func() bool { return g.count("c", 0) >= p.Each }); err != nil {
			return err
		}
		close(stops["a"])
		<-ended["a"]
		delete(stops, "a")
		g.Lock()
		mark := len(g.seen)
		g.Unlock()
		if err := g.wait("the other two take over", func() bool {
			partitions := map[int32]bool{}
			for _, s := range g.seen[mark:] {
				partitions[s.partition] = true
			}
			return len(partitions) == p.Partitions && min(g.count("b", mark), g.count("c", mark)) > 0
		}); err != nil {
			return err
		}
		leave()
		feeder.Wait()
		return g.wait("every record is consumed", func() bool { return len(g.distinct()) >= len(g.produced) })
	}
	err = run()
	leave()
	for _, stop := range stops {
		close(stop)
	}
	members.Wait()
	if err != nil {
		return err
	}
	if g.err != nil {
		return g.err
	}
	distinct := g.distinct()
	for value := range g.produced {
		if !distinct[value] {
			return fmt.Errorf("record %s of %d is lost", value, len(g.produced))
		}
	}
	if len(g.seen) != len(distinct) && c.traits.Redelivers == "" {
		return fmt.Errorf("%d records delivered, of which %d are duplicates", len(g.seen), len(g.seen)-len(distinct))
	}
	sum := int64(0)
	for partition := range p.Partitions {
		offset, err := c.client.Committed(group, topic, int32(partition))
		if err != nil {
			return err
		}
		sum += offset
	}
	if sum != int64(len(g.produced)) {
		return fmt.Errorf("the committed offsets sum up to %d, wanted %d", sum, len(g.produced))
	}
	return nil
}
