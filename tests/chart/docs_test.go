package chart

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	sigs "sigs.k8s.io/yaml"
)

const page = "../../docs/helm.md"

// TestDocs: the table of docs/helm.md has every value with its default and its comment.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chartFolder, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| value | default | meaning |\n|---|---|---|\n")
	rows(t, &table, "", root.Content[0])

	old, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(old), "<!-- values -->\n")
	_, after, closed := strings.Cut(rest, "<!-- /values -->")
	if !found || !closed {
		t.Fatalf("%s has no place for the table", page)
	}
	want := before + "<!-- values -->\n" + table.String() + "<!-- /values -->" + after
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(old) {
		t.Errorf("%s differs from values.yaml (UPDATE_DOCS=1 writes it): %s", page, firstDifference(string(old), want))
	}
}

// rows has a line for every value with a `# --` comment; a value without one must have others below it that do.
func rows(t *testing.T, table *strings.Builder, prefix string, mapping *yaml.Node) {
	t.Helper()
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		path := prefix + key.Value
		if meaning := comment(key.HeadComment); meaning != "" {
			fmt.Fprintf(table, "| `%s` | %s | %s |\n", path, shown(t, value), meaning)
		} else if value.Kind == yaml.MappingNode && len(value.Content) > 0 {
			rows(t, table, path+".", value)
		} else {
			t.Errorf("values.yaml: %s has no comment that begins with `# --`", path)
		}
	}
}

func comment(head string) string {
	_, text, found := strings.Cut("\n"+head, "\n# -- ")
	for strings.Contains(text, "\n# -- ") {
		_, text, _ = strings.Cut(text, "\n# -- ")
	}
	if !found {
		return ""
	}
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n# ", " "), "|", `\|`)
}

func shown(t *testing.T, value *yaml.Node) string {
	t.Helper()
	var plain any
	if err := value.Decode(&plain); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) == `""` {
		return ""
	}
	return "`" + strings.Trim(string(text), `"`) + "`"
}

// TestSchemaAndValues: the schema knows every value that has a default, and no other.
func TestSchemaAndValues(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chartFolder, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := sigs.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	text, err = os.ReadFile(filepath.Join(chartFolder, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	delete(schema["properties"].(map[string]any), "global") // Helm's own
	compare(t, "", schema, values)
}

func compare(t *testing.T, path string, schema, values map[string]any) {
	t.Helper()
	properties, closed := schema["properties"].(map[string]any)
	if !closed {
		return // anything goes
	}
	if schema["additionalProperties"] != false {
		t.Errorf("the schema takes unknown keys below %q", path)
	}
	names := slices.Sorted(maps.Keys(properties))
	if have := slices.Sorted(maps.Keys(values)); !slices.Equal(names, have) && path != "names" {
		t.Errorf("below %q the schema has %v, values.yaml %v", path, names, have)
	}
	for _, name := range names {
		if inner, ok := values[name].(map[string]any); ok {
			compare(t, strings.TrimPrefix(path+"."+name, "."), properties[name].(map[string]any), inner)
		}
	}
}
