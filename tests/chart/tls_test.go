package chart

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	core "k8s.io/api/core/v1"
)

// volume is a folder as the kubelet mounts a Secret or a ConfigMap: a link to the version that holds, swapped for a new one.
type volume struct {
	folder   string
	versions int
}

func (v *volume) put(t *testing.T, files map[string][]byte) {
	t.Helper()
	v.versions++
	version := "..v" + strings.Repeat("i", v.versions)
	if err := os.MkdirAll(filepath.Join(v.folder, version), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(v.folder, version, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(v.folder, name)
		if _, err := os.Lstat(link); err == nil {
			continue
		}
		if err := os.Symlink(filepath.Join("..data", name), link); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(version, filepath.Join(v.folder, "..data_tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(v.folder, "..data_tmp"), filepath.Join(v.folder, "..data")); err != nil {
		t.Fatal(err)
	}
}

// instead is a volume in place of the files that place wrote.
func instead(t *testing.T, file, folder string) *volume {
	t.Helper()
	path := filepath.Join(filepath.Dir(file), folder)
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	return &volume{folder: path}
}

// TestHTTPS: Prometheus reads the metrics as the ServiceMonitor tells it to, and nobody without encryption; a renewed
// certificate is shown without a restart.
func TestHTTPS(t *testing.T) {
	var monitor monitoring.ServiceMonitor
	for _, document := range documents(mustRender(t, "https")) {
		if parse(t, document).Kind == "ServiceMonitor" {
			decode(t, document, &monitor)
		}
	}
	if len(monitor.Spec.Endpoints) != 1 || monitor.Spec.Endpoints[0].TLSConfig == nil || monitor.Spec.Endpoints[0].Scheme == nil {
		t.Fatalf("no endpoint with TLS: %v", monitor.Spec.Endpoints)
	}
	endpoint := monitor.Spec.Endpoints[0]
	all, ca := makeCertificates(), endpoint.TLSConfig.CA.Secret
	if ca == nil || ca.Name != "krocket-http-tls" || ca.Key != "ca.crt" {
		t.Fatalf("the CA is %v", ca)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(all.ca)
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: *endpoint.TLSConfig.ServerName}}}

	file := place(t, configFile(t, "https"))
	secret := instead(t, file, "etc/krocket/tls/http")
	secret.put(t, map[string][]byte{"tls.crt": all.issue("first"), "tls.key": all.serverKey, "ca.crt": all.ca})
	krocket := start(t, file)
	scrape := func() (*http.Response, error) {
		response, err := client.Get(string(*endpoint.Scheme) + "://" + krocket.http + endpoint.Path)
		if err == nil {
			err = response.Body.Close()
		}
		return response, err
	}

	response, err := scrape()
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("%v %v", response, err)
	}
	if shown := response.TLS.PeerCertificates[0].Subject.CommonName; shown != "first" {
		t.Errorf("the certificate is of %q", shown)
	}
	if response, err := http.Get("http://" + krocket.http + "/readyz"); err == nil {
		t.Errorf("without encryption: %s", response.Status)
	}

	secret.put(t, map[string][]byte{"tls.crt": all.issue("second"), "tls.key": all.serverKey, "ca.crt": all.ca})

	await(t, "the renewed certificate", func() bool {
		response, err := scrape()
		return err == nil && response.TLS.PeerCertificates[0].Subject.CommonName == "second"
	})
}

// TestRevoked: a client comes in until the Secret of the lists has its certificate.
func TestRevoked(t *testing.T) {
	all := makeCertificates()
	file := place(t, anyPort.ReplaceAllString(configFile(t, "crl"), `listen = "127.0.0.1:0"`))
	inside, outside := instead(t, file, "etc/krocket/crl/internal"), instead(t, file, "etc/krocket/crl/external")
	inside.put(t, map[string][]byte{"ca.crl": all.revoked()})
	outside.put(t, map[string][]byte{"clients.crl": all.revoked()})
	krocket := start(t, file)
	for name, address := range krocket.listeners {
		if _, err := ask(t, address, trust(t, true)); err != nil {
			t.Errorf("%s: before: %v", name, err)
		}
	}

	inside.put(t, map[string][]byte{"ca.crl": all.revoked(all.serial)})

	await(t, "the refusal", func() bool { return refused(t, krocket.listeners["internal"]) })
	if refused(t, krocket.listeners["external"]) {
		t.Error("the external listener has a list of its own, and refuses")
	}

	outside.put(t, map[string][]byte{"clients.crl": all.revoked(all.serial)})

	await(t, "the refusal outside", func() bool { return refused(t, krocket.listeners["external"]) })
	if _, err := ask(t, krocket.listeners["external"], trust(t, false)); err != nil {
		t.Errorf("without a certificate, where none is required: %v", err)
	}
}

// TestMounts: every file that krocket and the pod of `helm test` are told of lies in a volume of theirs.
func TestMounts(t *testing.T) {
	count := 0
	for _, name := range files(t, "values") {
		set, test := workloads(t, name)
		var paths []string
		for _, found := range secretFile.FindAllStringSubmatch(configFile(t, name), -1) {
			paths = append(paths, found[1])
		}
		count += mounted(t, name, set.Spec.Template.Spec, paths)
		if len(test.Spec.Containers) > 0 {
			count += mounted(t, name, test.Spec, nil)
		}
	}
	if count < 20 {
		t.Errorf("only %d files", count)
	}
}

// mounted looks for the paths, and for those of the variables, in the volumes of the pod's first container.
func mounted(t *testing.T, name string, pod core.PodSpec, paths []string) int {
	t.Helper()
	container := pod.Containers[0]
	for _, variable := range container.Env {
		if strings.HasPrefix(variable.Value, "/etc/krocket/") {
			paths = append(paths, variable.Value)
		}
	}
	for _, path := range paths {
		mount := slices.IndexFunc(container.VolumeMounts, func(mount core.VolumeMount) bool { return mount.MountPath == filepath.Dir(path) })
		if mount < 0 {
			t.Errorf("%s: %s has no volume for %s", name, container.Name, path)
		} else if volume := container.VolumeMounts[mount].Name; !slices.ContainsFunc(pod.Volumes, func(one core.Volume) bool { return one.Name == volume }) {
			t.Errorf("%s: %s has no volume %s", name, container.Name, volume)
		}
	}
	return len(paths)
}

func refused(t *testing.T, address string) bool {
	t.Helper()
	_, err := ask(t, address, trust(t, true))
	return err != nil
}
