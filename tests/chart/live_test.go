package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// renderText is what these values render to.
func renderText(t *testing.T, values string) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(path, []byte(values), 0o644); err != nil {
		t.Fatal(err)
	}
	rendered, err := render(path)
	if err != nil {
		t.Fatal(err)
	}
	return rendered
}

// TestRestarts: a change of the configuration replaces the pod, a change of the rules does not.
func TestRestarts(t *testing.T) {
	set := func(values string) string { return renderText(t, values)["krocket/templates/statefulset.yaml"] }
	before := set("{}")
	for values, restarts := range map[string]bool{
		"rules: [{topics: [a], half: false}]":                          false,
		"views: [{name: a, source: b, filter: c}]":                     false,
		"retry: [{groups: [a], max_attempts: 3}]":                      false,
		"names: {dlq: dead.}":                                          false,
		"config: {kafka: {num.partitions: 3}}":                         true,
		"listeners: {internal: {port: 9093}}":                          true,
		"clusterDomain: corp.local":                                    true,
		"metrics: {dashboard: {enabled: true}}":                        false,
		"security: {superUsers: [\"User:a\"]}":                         true,
		"networkPolicy: {enabled: true}":                               false,
		"listeners: {http: {tls: {enabled: true, existingSecret: a}}}": true,
		"listeners: {external: {enabled: true, host: \"a\"}}":          true,
	} {
		if changed := set(values) != before; changed != restarts {
			t.Errorf("with %s the pod changes: %v", values, changed)
		}
	}
}

// TestRulesAreFollowed: krocket sees new rules where the kubelet puts them, by swapping the link of a ConfigMap's folder.
func TestRulesAreFollowed(t *testing.T) {
	folder := &volume{folder: t.TempDir()}
	mount := func(values string) {
		text := parse(t, renderText(t, values)["krocket/templates/configmap.yaml"]).Data["krocket.toml"]
		folder.put(t, map[string][]byte{"krocket.toml": []byte(text)})
	}
	mount("{}")
	krocket := start(t, filepath.Join(folder.folder, "krocket.toml"))
	if _, body := krocket.get(t, "/v1/config"); strings.Contains(body, "billing") {
		t.Fatalf("before the upgrade: %s", body)
	}

	mount("retry: [{groups: [\"billing*\"], max_attempts: 3}]")

	await(t, "the new rules", func() bool {
		_, body := krocket.get(t, "/v1/config")
		return strings.Contains(body, "billing*")
	})
	if _, metrics := krocket.get(t, "/metrics"); !strings.Contains(metrics, `krocket_config_reloads_total{result="ok"} 1`) {
		t.Error("the reload was not counted")
	}

	mount("retry: [{groups: [\"billing*\"], backoff: {initial: never}}]")

	await(t, "the refusal", func() bool {
		_, metrics := krocket.get(t, "/metrics")
		return strings.Contains(metrics, `krocket_config_reloads_total{result="failed"} 1`)
	})
}

func await(t *testing.T, what string, seen func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !seen(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
