package chart

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/twmb/franz-go/pkg/kgo"
	"sigs.k8s.io/yaml"
)

// What Prometheus itself knows of every target.
var ofPrometheus = map[string]bool{"up": true}

// Grafana's own variables, as it would fill them in.
var variables = strings.NewReplacer("$__rate_interval", "1m", "$__interval", "1m", "$__range", "1h", "$job", ".*", "$instance", ".*")

type expression struct{ where, text string }

func alertExpressions(t *testing.T) []expression {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string } `json:"rules"`
		} `json:"groups"`
	}
	text, err := os.ReadFile(filepath.Join(chartFolder, "files", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var all []expression
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			all = append(all, expression{"alert " + rule.Alert, rule.Expr})
		}
	}
	return all
}

func dashboardExpressions(t *testing.T) []expression {
	t.Helper()
	var file struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	text, err := os.ReadFile(filepath.Join(chartFolder, "files", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var all []expression
	for _, panel := range file.Panels {
		for _, target := range panel.Targets {
			all = append(all, expression{"panel " + panel.Title, variables.Replace(target.Expr)})
		}
	}
	return all
}

var sample = regexp.MustCompile(`(?m)^([a-z_]+)(?:\{([^}]*)\})? `)

// exported are the series' names that a krocket that has done some of everything shows, with their labels' names.
func exported(t *testing.T) map[string]map[string]bool {
	t.Helper()
	krocket := start(t, place(t, `
[[listeners]]
name = "plain"
listen = "127.0.0.1:0"
[[listeners]]
name = "encrypted"
listen = "127.0.0.1:0"
tls = { cert = "/etc/krocket/tls/tls.crt", key = "/etc/krocket/tls/tls.key" }
[[views]]
name = "paid"
source = "orders"
filter = "paid"
`))
	produceAndCommit(t, krocket.kafka)
	garbage(t, krocket.kafka)

	_, text := krocket.get(t, "/metrics")
	names := map[string]map[string]bool{}
	for _, found := range sample.FindAllStringSubmatch(text, -1) {
		if names[found[1]] == nil {
			names[found[1]] = map[string]bool{}
		}
		for _, label := range strings.Split(found[2], ",") {
			name, _, _ := strings.Cut(label, "=")
			names[found[1]][name] = true
		}
	}
	return names
}

// produceAndCommit has a group "readers" read what there is in "orders", and in the view "paid" where there is one.
func produceAndCommit(t *testing.T, address string) {
	t.Helper()
	context, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	connect := func(options ...kgo.Opt) *kgo.Client {
		client, err := kgo.NewClient(append(options, kgo.SeedBrokers(address))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		return client
	}
	header := func(name, value string) kgo.RecordHeader { return kgo.RecordHeader{Key: name, Value: []byte(value)} }
	producer := connect(kgo.AllowAutoTopicCreation())
	for _, headers := range [][]kgo.RecordHeader{{header("TAGS", "paid")}, {header("TIMER_DELAY_MS", "50")}} {
		record := &kgo.Record{Topic: "orders", Value: []byte("x"), Headers: headers}
		if err := producer.ProduceSync(context, record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	consumer := connect(kgo.ConsumeTopics("orders", "paid"), kgo.ConsumerGroup("readers"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for read := 0; read < 3; { // the paid one twice, the delayed one
		fetched := consumer.PollFetches(context)
		if err := fetched.Err(); err != nil {
			t.Fatalf("after %d records: %v", read, err)
		}
		read += fetched.NumRecords()
	}
	if err := consumer.CommitUncommittedOffsets(context); err != nil {
		t.Fatal(err)
	}
}

// garbage makes a connection that ends with an error, for the metric that counts those.
func garbage(t *testing.T, address string) {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := connection.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = connection.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, _ = connection.Read(make([]byte, 1)) // closed
}

// TestExpressions: every expression of the alerts and of the dashboard is PromQL over series and labels that krocket has.
func TestExpressions(t *testing.T) {
	names := exported(t)
	alerts, panels := alertExpressions(t), dashboardExpressions(t)
	if len(alerts) < 10 || len(panels) < 16 {
		t.Errorf("%d alerts, %d expressions of panels", len(alerts), len(panels))
	}
	for _, one := range append(alerts, panels...) {
		parsed, err := parser.ParseExpr(one.text)
		if err != nil {
			t.Errorf("%s: %v in %s", one.where, err, one.text)
			continue
		}
		parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
			switch node := node.(type) {
			case *parser.VectorSelector:
				if ofPrometheus[node.Name] {
					break
				}
				labels, known := names[node.Name]
				if !known {
					t.Errorf("%s: krocket has no %s", one.where, node.Name)
				}
				for _, matcher := range node.LabelMatchers {
					if !labels[matcher.Name] && !scraped[matcher.Name] {
						t.Errorf("%s: %s has no label %s", one.where, node.Name, matcher.Name)
					}
				}
			case *parser.AggregateExpr:
				for _, label := range node.Grouping {
					if !scraped[label] && !anyHas(names, node, label) {
						t.Errorf("%s: nothing has the label %s in %s", one.where, label, node)
					}
				}
			}
			return nil
		})
	}
	if t.Failed() {
		all := make([]string, 0, len(names))
		for name := range names {
			all = append(all, name)
		}
		sort.Strings(all)
		t.Logf("krocket has: %s", strings.Join(all, " "))
	}
}

// Labels that scraping adds.
var scraped = map[string]bool{"__name__": true, "job": true, "instance": true}

func anyHas(names map[string]map[string]bool, node parser.Node, label string) bool {
	found := false
	parser.Inspect(node, func(inner parser.Node, _ []parser.Node) error {
		if selector, ok := inner.(*parser.VectorSelector); ok {
			found = found || names[selector.Name][label]
		}
		return nil
	})
	return found
}

// TestRules: Prometheus reads the rules of the chart's PrometheusRule, their templates included.
func TestRules(t *testing.T) {
	for _, document := range documents(mustRender(t, "monitoring")) {
		if parse(t, document).Kind != "PrometheusRule" {
			continue
		}
		var object struct{ Spec any }
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		text, err := yaml.Marshal(object.Spec)
		if err != nil {
			t.Fatal(err)
		}
		groups, errs := rulefmt.Parse(text, false, model.UTF8Validation)
		for _, err := range errs {
			t.Error(err)
		}
		if groups == nil || len(groups.Groups) != 2 {
			t.Errorf("not the chart's group and the user's: %v", groups)
		}
		return
	}
	t.Error("no PrometheusRule")
}
