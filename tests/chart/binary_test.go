package chart

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("KROCKET_BIN")
	if path == "" {
		t.Fatal("KROCKET_BIN is not set: it is krocket's binary")
	}
	return path
}

// configFile is the krocket.toml that a value file renders to; empty where the user brings one.
func configFile(t *testing.T, name string) string {
	t.Helper()
	for _, document := range documents(mustRender(t, name)) {
		if text, ok := parse(t, document).Data["krocket.toml"]; ok {
			return text
		}
	}
	return ""
}

var secretFile = regexp.MustCompile(`"(/etc/krocket/[^"]+)"`)

// place writes the file with its Secrets beside it: paths of the pod become paths of this test.
func place(t *testing.T, text string) string {
	t.Helper()
	folder := t.TempDir()
	for _, found := range secretFile.FindAllStringSubmatch(text, -1) {
		path := filepath.Join(folder, found[1])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, secret(t, path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text = strings.ReplaceAll(text, `"/etc/krocket/`, `"`+folder+`/etc/krocket/`)
	path := filepath.Join(folder, "krocket.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBinaryLoads: krocket itself takes what the chart makes.
func TestBinaryLoads(t *testing.T) {
	loaded := 0
	for _, name := range files(t, "values") {
		t.Run(name, func(t *testing.T) {
			text := configFile(t, name)
			if text == "" {
				if name != "existing-configmap" {
					t.Error("no ConfigMap with krocket.toml")
				}
				return
			}
			skipWithout(t, text)
			loaded++
			load(t, text)
		})
	}
	if loaded < 8 && flag.Lookup("test.run").Value.String() == "" {
		t.Errorf("only %d files were loaded", loaded)
	}
}

func load(t *testing.T, text string) {
	t.Helper()
	if out, err := exec.Command(binary(t), "check-config", place(t, text)).CombinedOutput(); err != nil {
		t.Errorf("%v: %s\n%s", err, out, text)
	}
}

// skipWithout leaves out what this binary has not.
func skipWithout(t *testing.T, text string) {
	t.Helper()
	for key, sample := range map[string]string{
		"[[listeners]]": "[[listeners]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\n",
		"sasl = [":      "[[listeners]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nsasl = [\"SCRAM-SHA-512\"]\n[security]\nusers_file = \"/etc/krocket/users/users.toml\"\n",
		"super_users":   "[security]\nsuper_users = [\"User:a\"]\n",
		"tokens_file":   "[http]\ntokens_file = \"/etc/krocket/http/tokens.toml\"\n",
	} {
		if !strings.Contains(text, key) {
			continue
		}
		if out, err := exec.Command(binary(t), "check-config", place(t, sample)).CombinedOutput(); err != nil {
			t.Skipf("this krocket has no %s: %s", key, out)
		}
	}
}

// server is a krocket that runs with a rendered file.
type server struct {
	kafka, http string
	listeners   map[string]string // addresses by name
	file        string
	process     *exec.Cmd
}

var ready = regexp.MustCompile(`krocket is ready.*kafka"?[=:]"?([0-9.]+:[0-9]+).*http"?[=:]"?([0-9.]+:[0-9]+)`)

// The line of one listener.
var listening = regexp.MustCompile(`listening.*name="?([a-z]+)"?.*address=([0-9.]+:[0-9]+)`)

// Where a rendered file has the listeners of `[[listeners]]`.
var anyPort = regexp.MustCompile(`listen = "0\.0\.0\.0:[0-9]+"`)

// start runs `krocket serve` as the container does; ports and the data folder are this machine's.
func start(t *testing.T, file string) *server {
	t.Helper()
	process := exec.Command(binary(t), "serve", "--config", file)
	process.Env = append(os.Environ(), "KROCKET__SERVER__HTTP=127.0.0.1:0",
		"KROCKET__SERVER__DATA_DIR="+filepath.Join(t.TempDir(), "data"), "KROCKET__LOGGING__FORMAT=text", "KROCKET__LOGGING__FILTER=info")
	if text, err := os.ReadFile(file); err != nil {
		t.Fatal(err)
	} else if !strings.Contains(string(text), "[[listeners]]") {
		process.Env = append(process.Env, "KROCKET__SERVER__LISTEN=127.0.0.1:0")
	}
	stderr, err := process.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
			select {
			case lines <- scanner.Text():
			default: // nobody reads any more
			}
		}
	}()
	t.Cleanup(func() {
		_ = process.Process.Signal(syscall.SIGTERM)
		if err := process.Wait(); err != nil {
			t.Errorf("krocket ended with %v", err)
		}
	})
	started := &server{file: file, process: process, listeners: map[string]string{}}
	var seen []string
	timeout := time.After(30 * time.Second)
	for {
		select {
		case line, open := <-lines:
			if !open {
				t.Fatalf("krocket ended:\n%s", strings.Join(seen, "\n"))
			}
			seen = append(seen, line)
			if found := listening.FindStringSubmatch(line); found != nil {
				started.listeners[found[1]] = found[2]
			}
			if found := ready.FindStringSubmatch(line); found != nil {
				started.kafka, started.http = found[1], found[2]
				return started
			}
		case <-timeout:
			t.Fatalf("krocket is not ready:\n%s", strings.Join(seen, "\n"))
		}
	}
}

func (s *server) get(t *testing.T, path string) (int, string) {
	t.Helper()
	response, err := http.Get("http://" + s.http + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// advertised is where a client that comes to this address is told to go.
func advertised(t *testing.T, address string, options ...kgo.Opt) string {
	t.Helper()
	told, err := ask(t, address, options...)
	if err != nil {
		t.Fatal(err)
	}
	return told
}

func ask(t *testing.T, address string, options ...kgo.Opt) (string, error) {
	t.Helper()
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(address), kgo.RequestRetries(0))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	context, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request := kmsg.NewMetadataRequest()
	response, err := client.SeedBrokers()[0].Request(context, &request)
	if err != nil {
		return "", err
	}
	brokers := response.(*kmsg.MetadataResponse).Brokers
	if len(brokers) != 1 {
		t.Fatalf("%d brokers", len(brokers))
	}
	return net.JoinHostPort(brokers[0].Host, fmt.Sprint(brokers[0].Port)), nil
}

// TestBinaryServes: with the rendered file krocket gets ready, and tells clients the pod's name.
func TestBinaryServes(t *testing.T) {
	for name, want := range map[string]string{
		"default":    "krocket-0.krocket-headless.messaging.svc.cluster.local:9092",
		"config":     "krocket-0.krocket-headless.messaging.svc.cluster.local:9092",
		"dual-stack": "krocket-broker-0.krocket-broker-headless.messaging.svc.corp.local:19092",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			krocket := start(t, place(t, configFile(t, name)))
			for _, path := range []string{"/readyz", "/livez"} {
				if code, body := krocket.get(t, path); code != 200 {
					t.Errorf("%s: %d %s", path, code, body)
				}
			}
			if got := advertised(t, krocket.kafka); got != want {
				t.Errorf("clients are told %s, not %s", got, want)
			}
		})
	}
}
