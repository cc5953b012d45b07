package scenario

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Scenario is scenario.json.
type Scenario struct {
	Topics struct {
		Partitions int               `json:"partitions"`
		More       int               `json:"more_partitions"`
		Configs    map[string]string `json:"configs"`
	} `json:"topics"`
	Compression struct {
		Records int `json:"records"`
	} `json:"compression"`
	Idempotence struct {
		Partitions int `json:"partitions"`
		Records    int `json:"records"`
	} `json:"idempotence"`
	Order struct {
		Partitions   int `json:"partitions"`
		PerPartition int `json:"records_per_partition"`
	} `json:"order"`
	Group struct {
		Partitions     int `json:"partitions"`
		IntervalMs     int `json:"interval_ms"`
		Each           int `json:"records_each"`
		SessionTimeout int `json:"session_timeout_ms"`
		Heartbeat      int `json:"heartbeat_ms"`
	} `json:"group"`
	Timestamps struct {
		Records int   `json:"records"`
		StepMs  int64 `json:"step_ms"`
	} `json:"timestamps"`
	Compacted struct {
		Keys    int               `json:"keys"`
		Rounds  int               `json:"rounds"`
		Configs map[string]string `json:"configs"`
	} `json:"compacted"`
	DeleteRecords struct {
		Records int   `json:"records"`
		Before  int64 `json:"before"`
	} `json:"delete-records"`
	Restart struct {
		Records int `json:"records"`
		First   int `json:"first"`
		Second  int `json:"second"`
	} `json:"restart"`
}

// Bootstrap is the address of the broker.
func Bootstrap() string { return os.Getenv("KROCKET_BOOTSTRAP") }

// Load reads the scenario that the runner points to.
func Load() (s Scenario) {
	text, err := os.ReadFile(os.Getenv("KROCKET_SCENARIO"))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return s
}

// Main runs the cases named by the arguments, prints their lines and ends the process.
func Main(client Client, traits Traits) {
	c := &cases{client, traits, Load(), os.Getenv("KROCKET_PREFIX")}
	table := map[string]func() error{
		"topics":               c.topics,
		"header-duplicates":    c.headerDuplicates,
		"header-binary-values": c.headerBinaryValues,
		"header-binary-keys":   c.headerBinaryKeys,
		"nulls":                c.nulls,
		"idempotence":          c.idempotence,
		"order":                c.order,
		"timestamps":           c.timestamps,
		"delete-records":       c.deleteRecords,
		"delete-topic":         c.deleteTopic,
		"compacted":            c.compacted,
		"commit":               c.commit,
		"restart-term":         c.restartTerm,
		"restart-kill":         c.restartKill,
		"view-group":           c.story(viewGroup),
		"delay-cancel":         c.story(delayCancel),
		"retry-dead-redrive":   c.story(retryDeadRedrive),
		"half-check":           c.story(halfCheck),
		"transactions":         func() error { return Skip("Go has its transactions tested by franz-go's own suite") },
		"share-renew":          func() error { return Skip("Java tells this story") },
		"share":                c.storyOf(share),
	}
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		table["compression-"+codec] = func() error { return c.compression(codec) }
	}
	for _, protocol := range []string{"classic", "cooperative", "consumer"} {
		table["group-"+protocol] = func() error { return c.group(protocol) }
	}
	names, failed := os.Args[1:], false
	var prepared error
	for _, name := range names {
		if name == "compacted" {
			prepared = c.prepareCompacted()
		}
	}
	for _, name := range names {
		run, known := table[name]
		err := fmt.Errorf("no such case")
		if known {
			err = run()
		}
		if name == "compacted" && prepared != nil {
			err = prepared
		}
		what := os.Getenv("KROCKET_CLIENT") + " " + name
		var skip Skip
		switch {
		case err == nil:
			fmt.Println("PASS", what)
		case errors.As(err, &skip):
			fmt.Printf("SKIP %s: %s\n", what, skip)
		default:
			failed = true
			fmt.Printf("FAIL %s: %s\n", what, strings.SplitN(err.Error(), "\n", 2)[0])
		}
	}
	if failed {
		os.Exit(1)
	}
	os.Exit(0)
}
