package chart

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// trust makes a client that trusts the CA of these tests and, if asked, shows a certificate.
func trust(t *testing.T, certificate bool) kgo.Opt {
	t.Helper()
	all := makeCertificates()
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}
	if !config.RootCAs.AppendCertsFromPEM(all.ca) {
		t.Fatal("no CA")
	}
	if certificate {
		pair, err := tls.X509KeyPair(all.client, all.clientKey)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return kgo.DialTLSConfig(config)
}

// TestListeners: who comes by a listener, secured as the values say, is told that listener's address.
func TestListeners(t *testing.T) {
	inside := "krocket-0.krocket-headless.messaging.svc.cluster.local:9092"
	alice := scram.Auth{User: "alice", Pass: "alice-secret"}
	type way struct {
		listener, told string
		options        []kgo.Opt
	}
	for name, ways := range map[string][]way{
		"nodeport":     {{"internal", inside, nil}, {"external", "node.example.com:31500", nil}},
		"loadbalancer": {{"internal", inside, nil}, {"external", "kafka.example.com:9092", nil}},
		"tls":          {{"internal", inside, []kgo.Opt{trust(t, false)}}, {"external", "node.example.com:31094", []kgo.Opt{trust(t, false)}}},
		"mtls":         {{"internal", inside, []kgo.Opt{trust(t, true)}}},
		"sasl-scram": {
			{"internal", inside, []kgo.Opt{kgo.SASL(alice.AsSha512Mechanism())}},
			{"external", "node.example.com:31094", []kgo.Opt{trust(t, false), kgo.SASL(alice.AsSha256Mechanism())}},
			{"external", "node.example.com:31094", []kgo.Opt{trust(t, false), kgo.SASL(plain.Auth{User: "alice", Pass: "alice-secret"}.AsMechanism())}},
		},
		"acl": {{"internal", inside, []kgo.Opt{kgo.SASL(scram.Auth{User: "admin", Pass: "admin-secret"}.AsSha512Mechanism())}}},
	} {
		t.Run(name, func(t *testing.T) {
			text := configFile(t, name)
			skipWithout(t, text)
			krocket := start(t, place(t, anyPort.ReplaceAllString(text, `listen = "127.0.0.1:0"`)))
			seen := map[string]bool{}
			for _, way := range ways {
				address, known := krocket.listeners[way.listener]
				if !known {
					t.Fatalf("no listener %s in %v", way.listener, krocket.listeners)
				}
				seen[way.listener] = true
				if got := advertised(t, address, way.options...); got != way.told {
					t.Errorf("clients of %s are told %s, not %s", way.listener, got, way.told)
				}
			}
			if len(seen) != len(krocket.listeners) {
				t.Errorf("there are the listeners %v", maps.Collect(maps.All(krocket.listeners)))
			}
			if code, body := krocket.get(t, "/readyz"); code != 200 {
				t.Errorf("/readyz: %d %s", code, body)
			}
		})
	}
}

// TestStrangers: without the certificate or the password that the values ask for nobody comes in.
func TestStrangers(t *testing.T) {
	for name, options := range map[string][]kgo.Opt{
		"tls":        nil,
		"mtls":       {trust(t, false)},
		"sasl-scram": {kgo.SASL(scram.Auth{User: "alice", Pass: "guessed"}.AsSha512Mechanism())},
	} {
		t.Run(name, func(t *testing.T) {
			text := configFile(t, name)
			skipWithout(t, text)
			krocket := start(t, place(t, anyPort.ReplaceAllString(text, `listen = "127.0.0.1:0"`)))
			if told, err := ask(t, krocket.listeners["internal"], options...); err == nil {
				t.Errorf("a stranger was told %s", told)
			}
		})
	}
}
