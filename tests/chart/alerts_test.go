package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"sigs.k8s.io/yaml"
)

type alert struct {
	Alert, Expr string
	For         model.Duration
}

func alerts(t *testing.T) []alert {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chartFolder, "files", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []alert `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// What series have to do over an hour, a point a minute, for an alert to fire at its end, and what they may do without.
// LABELS stands for those of a scrape.
var scenes = map[string]struct{ fires, rests []string }{
	"KrocketDown": {
		[]string{`up{LABELS} 1x50 0x20`},
		[]string{`up{LABELS} 1x50 0x1 1x20`, `up{job="other"} 0x70`},
	},
	"KrocketRestarts": {
		[]string{`process_start_time_seconds{LABELS} 1x50 2x3 3x3 4x20`},
		[]string{`process_start_time_seconds{LABELS} 1x50 2x20`},
	},
	"KrocketLogFails": {
		[]string{`krocket_log_append_errors_total{LABELS} 0x58 1x5`},
		[]string{`krocket_log_append_errors_total{LABELS} 7x70`},
	},
	"KrocketDiskLow": {
		[]string{`krocket_disk_low{LABELS} 0x50 1x20`},
		[]string{`krocket_disk_low{LABELS} 0x70`},
	},
	"KrocketDiskFills": {
		[]string{`krocket_disk_free_bytes{LABELS} 100000000000-1000000000x70`},
		[]string{`krocket_disk_free_bytes{LABELS} 100000000000-1000000x70`, `krocket_disk_free_bytes{LABELS} 1000x70`},
	},
	"KrocketSyncSlow": {
		[]string{`krocket_log_sync_seconds_bucket{LABELS,le="0.5"} 0x70`, `krocket_log_sync_seconds_bucket{LABELS,le="1"} 0+60x70`, `krocket_log_sync_seconds_bucket{LABELS,le="+Inf"} 0+60x70`},
		[]string{`krocket_log_sync_seconds_bucket{LABELS,le="0.5"} 0+60x70`, `krocket_log_sync_seconds_bucket{LABELS,le="+Inf"} 0+60x70`},
	},
	"KrocketDeliveryLate": {
		[]string{`krocket_delivery_lateness_seconds_bucket{LABELS,le="5"} 0x70`, `krocket_delivery_lateness_seconds_bucket{LABELS,le="30"} 0+60x70`, `krocket_delivery_lateness_seconds_bucket{LABELS,le="+Inf"} 0+60x70`},
		[]string{`krocket_delivery_lateness_seconds_bucket{LABELS,le="5"} 0+60x70`, `krocket_delivery_lateness_seconds_bucket{LABELS,le="+Inf"} 0+60x70`},
	},
	"KrocketDeliveryFails": {
		[]string{`krocket_delivery_failures_total{LABELS} 0+1x70`},
		[]string{`krocket_delivery_failures_total{LABELS} 0x50 1x20`},
	},
	"KrocketDeliveryOverdue": {
		[]string{`krocket_parked_overdue_seconds{LABELS} 0x40 60+60x30`},
		[]string{`krocket_parked_overdue_seconds{LABELS} 2x70`},
	},
	"KrocketParkedLost": {
		[]string{`krocket_parked_lost_total{LABELS} 0x30 1x40`},
		[]string{`krocket_parked_lost_total{LABELS} 3x70`},
	},
	"KrocketHalfSetAside": {
		[]string{`krocket_parked_records{LABELS,kind="set_aside"} 1x70`},
		[]string{`krocket_parked_records{LABELS,kind="set_aside"} 0x70`, `krocket_parked_records{LABELS,kind="half"} 5x70`},
	},
	"KrocketGroupFallsBehind": {
		[]string{`krocket_group_lag{LABELS,group="g",topic="t"} 0+1000x70`},
		[]string{`krocket_group_lag{LABELS,group="g",topic="t"} 90000-1000x70`, `krocket_group_lag{LABELS,group="h",topic="t"} 0+1x70`},
	},
	"KrocketConfigRefused": {
		[]string{`krocket_config_reloads_total{LABELS,result="failed"} 0x58 1x5`},
		[]string{`krocket_config_reloads_total{LABELS,result="ok"} 0+1x70`, `krocket_config_reloads_total{LABELS,result="failed"} 2x70`},
	},
	"KrocketConnectionsRefused": {
		[]string{`krocket_connections_refused_total{LABELS} 0x58 1x5`},
		[]string{`krocket_connections_refused_total{LABELS} 9x70`},
	},
	"KrocketCertificateExpires": {
		[]string{`krocket_tls_certificate_expiry_timestamp_seconds{LABELS,listener="clients"} 1000000x70`},
		[]string{`krocket_tls_certificate_expiry_timestamp_seconds{LABELS,listener="clients"} 2000000x70`},
	},
	"KrocketClientsThrottled": {
		[]string{`krocket_quota_throttle_seconds_total{LABELS,quota="producer_byte_rate"} 0+60x70`},
		[]string{`krocket_quota_throttle_seconds_total{LABELS,quota="producer_byte_rate"} 0+6x70`, `krocket_quota_throttle_seconds_total{LABELS,quota="consumer_byte_rate"} 0x50 0+60x5 300x20`},
	},
	"KrocketPanics": {
		[]string{`krocket_handler_panics_total{LABELS} 0x58 1x5`},
		[]string{`krocket_handler_panics_total{LABELS} 1x70`},
	},
	"KrocketFilesRunOut": {
		[]string{`process_open_fds{LABELS} 950x70`, `process_max_fds{LABELS} 1000x70`},
		[]string{`process_open_fds{LABELS} 500x70`, `process_max_fds{LABELS} 1000x70`},
	},
}

// TestAlertsFire: each alert fires when it should, after its time, and rests otherwise.
func TestAlertsFire(t *testing.T) {
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 1_000_000)
	end := time.Unix(0, 0).Add(time.Hour)
	for _, alert := range alerts(t) {
		t.Run(alert.Alert, func(t *testing.T) {
			scene, known := scenes[alert.Alert]
			if !known {
				t.Fatal("there is no scene for this alert")
			}
			if !fires(t, engine, alert, scene.fires, end) {
				t.Errorf("%s does not fire over %v", alert.Expr, scene.fires)
			}
			if fires(t, engine, alert, scene.rests, end) {
				t.Errorf("%s fires over %v", alert.Expr, scene.rests)
			}
		})
	}
}

// fires says whether the expression had a result for as long as the alert wants.
func fires(t *testing.T, engine *promql.Engine, alert alert, series []string, end time.Time) bool {
	t.Helper()
	load := strings.ReplaceAll("load 1m\n  "+strings.Join(series, "\n  ")+"\n", "LABELS", `job="krocket",instance="krocket-0"`)
	storage := promqltest.LoadedStorage(t, load)
	for at := end.Add(-time.Duration(alert.For)); !at.After(end); at = at.Add(time.Minute) {
		query, err := engine.NewInstantQuery(t.Context(), storage, nil, alert.Expr, at)
		if err != nil {
			t.Fatal(err)
		}
		result := query.Exec(t.Context())
		vector, err := result.Vector()
		if err != nil {
			t.Fatal(err)
		}
		if len(vector) == 0 {
			return false
		}
	}
	return true
}

// TestMetricNames: what promtool check metrics asks for.
func TestMetricNames(t *testing.T) {
	krocket := start(t, place(t, "[metrics]\nkafka_exporter = true\n[[views]]\nname = \"paid\"\nsource = \"orders\"\nfilter = \"paid\"\n"))
	produceAndCommit(t, krocket.kafka)
	_, text := krocket.get(t, "/metrics")
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		if strings.HasPrefix(problem.Metric, "kafka_") {
			continue // the names are kafka_exporter's
		}
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	for _, name := range []string{
		"krocket_topic_end_offsets{topic=\"orders\"} ", "krocket_topic_size_bytes{topic=\"orders\"} ",
		"krocket_group_lag{group=\"readers\",topic=\"orders\"} 0", "krocket_group_members{group=\"readers\",",
		"kafka_brokers 1", "kafka_topic_partitions{topic=\"orders\"} 1", "kafka_topic_partition_current_offset{partition=\"0\",topic=\"orders\"} ",
		"kafka_topic_partition_oldest_offset{partition=\"0\",topic=\"orders\"} 0", "kafka_consumergroup_lag{consumergroup=\"readers\",partition=\"0\",topic=\"orders\"} 0",
		"kafka_consumergroup_lag_sum{consumergroup=\"readers\",topic=\"orders\"} 0", "kafka_consumergroup_members{consumergroup=\"readers\"} 1",
		"kafka_consumergroup_current_offset{consumergroup=\"readers\",partition=\"0\",topic=\"orders\"} ",
	} {
		if !strings.Contains(text, "\n"+name) {
			t.Errorf("/metrics has no %s", name)
		}
	}
}

// TestRunbook: docs/operations.md says of each alert what to do.
func TestRunbook(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(chartFolder, "..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, alert := range alerts(t) {
		if !strings.Contains(string(page), "\n| "+alert.Alert+" |") {
			t.Errorf("docs/operations.md has no row for %s", alert.Alert)
		}
	}
}
