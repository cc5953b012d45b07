// Package chart tests charts/krocket with Helm's own engines, Kubernetes' schemas and krocket's binary.
package chart

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	three "helm.sh/helm/v3/pkg/chart/loader"
	threeutil "helm.sh/helm/v3/pkg/chartutil"
	threevalues "helm.sh/helm/v3/pkg/cli/values"
	threeengine "helm.sh/helm/v3/pkg/engine"
	threegetter "helm.sh/helm/v3/pkg/getter"
	threelint "helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v4/pkg/chart/common"
	fourutil "helm.sh/helm/v4/pkg/chart/common/util"
	fourlint "helm.sh/helm/v4/pkg/chart/v2/lint"
	four "helm.sh/helm/v4/pkg/chart/v2/loader"
	fourvalues "helm.sh/helm/v4/pkg/cli/values"
	fourengine "helm.sh/helm/v4/pkg/engine"
	fourgetter "helm.sh/helm/v4/pkg/getter"
)

const (
	chartFolder = "../../charts/krocket"
	release     = "krocket"
	namespace   = "messaging"
)

// files are the names of the *.yaml files of a folder, without the suffix.
func files(t *testing.T, folder string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no *.yaml in %s: %v", folder, err)
	}
	names := make([]string, 0, len(paths))
	for _, path := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".yaml"))
	}
	return names
}

// render is `helm template krocket charts/krocket -n messaging -f file` of Helm 4.
func render(file string) (map[string]string, error) {
	chart, err := four.Load(chartFolder)
	if err != nil {
		return nil, err
	}
	options := fourvalues.Options{ValueFiles: []string{file}}
	values, err := options.MergeValues(fourgetter.Providers{})
	if err != nil {
		return nil, err
	}
	all, err := fourutil.ToRenderValues(chart, values,
		common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return fourengine.Render(chart, all)
}

// renderThree is the same of Helm 3.
func renderThree(file string) (map[string]string, error) {
	chart, err := three.Load(chartFolder)
	if err != nil {
		return nil, err
	}
	options := threevalues.Options{ValueFiles: []string{file}}
	values, err := options.MergeValues(threegetter.Providers{})
	if err != nil {
		return nil, err
	}
	all, err := threeutil.ToRenderValues(chart, values,
		threeutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}, threeutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return threeengine.Render(chart, all)
}

func mustRender(t *testing.T, name string) map[string]string {
	t.Helper()
	rendered, err := render(filepath.Join("values", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return rendered
}

// stream is everything that is not empty, in the order of the templates' names.
func stream(rendered map[string]string) string {
	names := make([]string, 0, len(rendered))
	for name, text := range rendered {
		if strings.TrimSpace(text) != "" && filepath.Base(name)[0] != '_' {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	var out strings.Builder
	for _, name := range names {
		fmt.Fprintf(&out, "---\n# Source: %s\n%s\n", name, strings.Trim(rendered[name], "\n"))
	}
	return out.String()
}

func TestGolden(t *testing.T) {
	for _, name := range files(t, "values") {
		t.Run(name, func(t *testing.T) {
			got := stream(mustRender(t, name))
			golden := filepath.Join("golden", name+".txt")
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs (UPDATE_GOLDEN=1 writes it): %s", golden, firstDifference(string(want), got))
			}
			three, err := renderThree(filepath.Join("values", name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if text := stream(three); text != got {
				t.Errorf("Helm 3 renders something else: %s", firstDifference(got, text))
			}
		})
	}
}

func firstDifference(want, got string) string {
	wants, gots := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(wants), len(gots)) {
		line := func(lines []string) string {
			if i < len(lines) {
				return lines[i]
			}
			return "(the end)"
		}
		if line(wants) != line(gots) {
			return fmt.Sprintf("line %d was\n  %s\nis\n  %s", i+1, line(wants), line(gots))
		}
	}
	return "nowhere"
}

// TestRefused: the first line of every file is what the user must be told.
func TestRefused(t *testing.T) {
	for _, name := range files(t, "refused") {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("refused", name+".yaml")
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			line, _, _ := strings.Cut(string(text), "\n")
			want := strings.TrimPrefix(line, "# ")
			if want == "" || want == line {
				t.Fatalf("%s does not begin with the expected message", path)
			}
			for helm, render := range map[string]func(string) (map[string]string, error){"3": renderThree, "4": render} {
				if _, err := render(path); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Helm %s should say %q, says %v", helm, want, err)
				}
			}
		})
	}
}

func TestLint(t *testing.T) {
	for _, name := range files(t, "values") {
		t.Run(name, func(t *testing.T) {
			options := fourvalues.Options{ValueFiles: []string{filepath.Join("values", name+".yaml")}}
			values, err := options.MergeValues(fourgetter.Providers{})
			if err != nil {
				t.Fatal(err)
			}
			for _, message := range fourlint.RunAll(chartFolder, values, namespace).Messages {
				complain(t, "4", message.Severity, message.Error())
			}
			for _, message := range threelint.All(chartFolder, values, namespace, true).Messages {
				complain(t, "3", message.Severity, message.Error())
			}
		})
	}
}

// complain fails for warnings and errors: 1 is information (an icon is recommended).
func complain(t *testing.T, helm string, severity int, text string) {
	t.Helper()
	if severity > 1 {
		t.Errorf("Helm %s: %s", helm, text)
	}
}
