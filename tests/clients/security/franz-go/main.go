// franz-go: produces and consumes with the credentials of the command line.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

func fail(err error) {
	fmt.Println(err)
	if errors.Is(err, kerr.SaslAuthenticationFailed) || strings.Contains(err.Error(), "tls") ||
		strings.Contains(err.Error(), "SASL_AUTHENTICATION_FAILED") || strings.Contains(err.Error(), "invalid_token") ||
		// What it makes of the provider's refusal (RFC 7628).
		strings.Contains(err.Error(), "unexpected data in oauth response") {
		os.Exit(3)
	}
	os.Exit(1)
}

func main() {
	bootstrap, mechanism, user, secret, ca, pem, topic := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6], os.Args[7]
	count, err := strconv.Atoi(os.Args[8])
	if err != nil {
		fail(err)
	}
	authority, err := os.ReadFile(ca)
	if err != nil {
		fail(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	encryption := &tls.Config{RootCAs: roots}
	options := []kgo.Opt{kgo.SeedBrokers(bootstrap), kgo.DialTLSConfig(encryption), kgo.AllowAutoTopicCreation(),
		kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RequestRetries(2)}
	switch mechanism {
	case "PLAIN":
		options = append(options, kgo.SASL(plain.Auth{User: user, Pass: secret}.AsMechanism()))
	case "SCRAM-SHA-256":
		options = append(options, kgo.SASL(scram.Auth{User: user, Pass: secret}.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		options = append(options, kgo.SASL(scram.Auth{User: user, Pass: secret}.AsSha512Mechanism()))
	case "OAUTHBEARER":
		options = append(options, kgo.SASL(oauth.Auth{Token: secret}.AsMechanism()))
	case "mTLS":
		certificate, err := tls.LoadX509KeyPair(pem, pem)
		if err != nil {
			fail(err)
		}
		encryption.Certificates = []tls.Certificate{certificate}
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		fail(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		fail(err)
	}
	for i := range count {
		record := &kgo.Record{Topic: topic, Value: []byte(fmt.Sprintf("record-%d", i))}
		if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
			fail(err)
		}
	}
	seen := map[string]bool{}
	for len(seen) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			fail(err)
		}
		fetches.EachRecord(func(record *kgo.Record) { seen[string(record.Value)] = true })
	}
}
