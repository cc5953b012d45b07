package chart

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/yannh/kubeconform/pkg/validator"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// The oldest version of Chart.yaml, the newest there are schemas of, and some between.
var kubernetes = []string{"1.27.0", "1.30.0", "1.33.0", "1.35.0", "1.37.0"}

// workloads is the StatefulSet of a value file, and the pod of `helm test`: empty where there is none.
func workloads(t *testing.T, name string) (set apps.StatefulSet, test core.Pod) {
	t.Helper()
	for _, document := range documents(mustRender(t, name)) {
		switch parse(t, document).Kind {
		case "StatefulSet":
			decode(t, document, &set)
		case "Pod":
			decode(t, document, &test)
		}
	}
	return set, test
}

// documents are the objects of a rendered chart as YAML texts.
func documents(rendered map[string]string) []string {
	var all []string
	for name, text := range rendered {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for _, document := range strings.Split("\n"+text, "\n---\n") {
			if strings.TrimSpace(document) != "" {
				all = append(all, document)
			}
		}
	}
	return all
}

type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Data map[string]string `json:"data"`
}

func parse(t *testing.T, document string) object {
	t.Helper()
	var parsed object
	if err := yaml.Unmarshal([]byte(document), &parsed); err != nil {
		t.Fatalf("%v in\n%s", err, document)
	}
	return parsed
}

// TestSchemas: every object of every value file is one that Kubernetes takes, without a field that it does not know.
func TestSchemas(t *testing.T) {
	folder := os.Getenv("KUBERNETES_SCHEMAS")
	if folder == "" {
		t.Skip("KUBERNETES_SCHEMAS is not set: tests/chart/run fetches the schemas")
	}
	location := filepath.Join(folder, "{{ .NormalizedKubernetesVersion }}-local{{ .StrictSuffix }}", "{{ .ResourceKind }}{{ .KindSuffix }}.json")
	for _, version := range kubernetes {
		schemas, err := validator.New([]string{location}, validator.Opts{KubernetesVersion: version, Strict: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Run(version, func(t *testing.T) {
			count := 0
			for _, name := range files(t, "values") {
				for _, document := range documents(mustRender(t, name)) {
					found := parse(t, document)
					if strings.HasPrefix(found.APIVersion, "monitoring.coreos.com/") {
						continue
					}
					count++
					for _, result := range schemas.Validate(name, io.NopCloser(strings.NewReader(document))) {
						if result.Status != validator.Valid {
							t.Errorf("%s: %s %s: %v %v", name, found.Kind, found.Metadata.Name, result.Err, result.ValidationErrors)
						}
					}
				}
			}
			if count < 100 {
				t.Errorf("only %d objects", count)
			}
		})
	}
}

// TestSchemasRefuse: the schemas are strict, or the test above could not fail.
func TestSchemasRefuse(t *testing.T) {
	folder := os.Getenv("KUBERNETES_SCHEMAS")
	if folder == "" {
		t.Skip("KUBERNETES_SCHEMAS is not set")
	}
	location := filepath.Join(folder, "{{ .NormalizedKubernetesVersion }}-local{{ .StrictSuffix }}", "{{ .ResourceKind }}{{ .KindSuffix }}.json")
	for _, version := range kubernetes {
		schemas, err := validator.New([]string{location}, validator.Opts{KubernetesVersion: version, Strict: true})
		if err != nil {
			t.Fatal(err)
		}
		document := "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {port: [{port: 1}]}\n"
		for _, result := range schemas.Validate("wrong", io.NopCloser(strings.NewReader(document))) {
			if result.Status != validator.Invalid {
				t.Errorf("%s took a Service with an unknown field: %v", version, result.Err)
			}
		}
	}
}

// TestMonitoringObjects: what the Prometheus operator reads, decoded strictly into its own types.
func TestMonitoringObjects(t *testing.T) {
	kinds := map[string]func() any{
		"ServiceMonitor": func() any { return &monitoring.ServiceMonitor{} },
		"PodMonitor":     func() any { return &monitoring.PodMonitor{} },
		"PrometheusRule": func() any { return &monitoring.PrometheusRule{} },
	}
	seen := map[string]bool{}
	for _, name := range files(t, "values") {
		for _, document := range documents(mustRender(t, name)) {
			kind := parse(t, document).Kind
			if into, ok := kinds[kind]; ok {
				seen[kind] = true
				if err := yaml.UnmarshalStrict([]byte(document), into()); err != nil {
					t.Errorf("%s: %s: %v", name, kind, err)
				}
			}
		}
	}
	if len(seen) != len(kinds) {
		t.Errorf("only seen: %v", seen)
	}
}
