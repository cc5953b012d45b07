package chart

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// TestImage builds the Dockerfile and runs the pod that the chart makes of it, and then the pod of `helm test`.
func TestImage(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to make Debian's base image and a network for the pod")
	}
	for _, tool := range []string{"buildah", "debootstrap", "unshare", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("there is no %s here: apt-get install buildah debootstrap iproute2", tool)
		}
	}
	for _, name := range []string{"default", "https"} {
		t.Run(name, func(t *testing.T) { runImage(t, name) })
	}
}

func runImage(t *testing.T, name string) {
	t.Helper()
	set, test := workloads(t, name)
	pod := set.Spec.Template.Spec
	container := pod.Containers[0]
	if !*container.SecurityContext.ReadOnlyRootFilesystem || !*pod.SecurityContext.RunAsNonRoot {
		t.Error("the pod's root must be read-only, and its user not root")
	}

	work := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	config := configFile(t, name)
	write("etc/config/krocket.toml", config)
	for _, found := range secretFile.FindAllStringSubmatch(config, -1) {
		write("etc"+strings.TrimPrefix(found[1], "/etc/krocket"), string(secret(t, found[1])))
	}
	for _, variable := range append(container.Env, test.Spec.Containers[0].Env...) {
		if variable.Name == "KROCKET_CA" {
			write("etc"+strings.TrimPrefix(variable.Value, "/etc/krocket"), string(secret(t, variable.Value)))
		}
	}
	write("args", strings.Join(container.Args, "\n")+"\n")
	write("user", fmt.Sprintf("%d:%d", *pod.SecurityContext.RunAsUser, *pod.SecurityContext.RunAsGroup))
	write("hosts", "127.0.0.1 localhost krocket.messaging.svc.cluster.local krocket-0.krocket-headless.messaging.svc.cluster.local\n")
	command := test.Spec.Containers[0].Command
	if len(command) != 3 || command[0] != "bash" || command[1] != "-ec" {
		t.Fatalf("the test pod's command is %q", command)
	}
	probe := container.ReadinessProbe.HTTPGet
	write("ready", fmt.Sprintf("%s://127.0.0.1:9644%s", strings.ToLower(string(cmp.Or(probe.Scheme, core.URISchemeHTTP))), probe.Path))
	// And then `kubectl exec krocket-0 -- krocket topic list`.
	write("test", exports(test.Spec.Containers[0])+command[2]+exports(container)+"krocket topic list\n")

	binary, err := filepath.Abs(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	run := exec.Command("./image.sh", work)
	run.Env = append(os.Environ(), "KROCKET_BIN="+binary)
	out, err := run.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"entrypoint [krocket] user 65532:65532",
		"== /readyz 200",
		"Kafka clients are told krocket-0.krocket-headless.messaging.svc.cluster.local:9092, which answers",
		"VALUE      revision 1 of krocket",
		"krocket-helm-test ",
		"== stopped",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q was not printed", want)
		}
	}
}

// exports are the container's variables for a shell.
func exports(container core.Container) string {
	var script strings.Builder
	for _, variable := range container.Env {
		value := variable.Value
		if variable.ValueFrom != nil {
			value = token // the only one
		}
		fmt.Fprintf(&script, "export %s='%s'\n", variable.Name, value)
	}
	return script.String()
}

func decode(t *testing.T, document string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
		t.Fatal(err)
	}
}
