package chart

import (
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	fourutil "helm.sh/helm/v4/pkg/chart/common/util"
	four "helm.sh/helm/v4/pkg/chart/v2/loader"
	fourvalues "helm.sh/helm/v4/pkg/cli/values"
	fourengine "helm.sh/helm/v4/pkg/engine"
	fourgetter "helm.sh/helm/v4/pkg/getter"
)

// TestSet: numbers of --set are other Go types than those of value files; krocket must get the same.
func TestSet(t *testing.T) {
	chart, err := four.Load(chartFolder)
	if err != nil {
		t.Fatal(err)
	}
	options := fourvalues.Options{
		Values: []string{
			"config.limits.connections=1000000", `config.kafka.num\.partitions=3`, "rules[0].topics={a,b.*}", "rules[0].half=false",
			"retry[0].groups={x}", "retry[0].backoff.initial=1s",
		},
		StringValues: []string{`config.kafka.log\.retention\.ms=60000`},
		JSONValues:   []string{"retry[0].backoff.multiplier=1.5", `config.log={"segment_bytes": 1048576, "recent_bytes": null}`},
	}
	values, err := options.MergeValues(fourgetter.Providers{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := fourutil.ToRenderValues(chart, values,
		common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := fourengine.Render(chart, all)
	if err != nil {
		t.Fatal(err)
	}
	text := parse(t, rendered["krocket/templates/configmap.yaml"]).Data["krocket.toml"]
	for _, line := range []string{
		"connections = 1000000", `"num.partitions" = 3`, `"log.retention.ms" = "60000"`, "segment_bytes = 1048576",
		`topics = ["a", "b.*"]`, "half = false", `backoff = { initial = "1s", multiplier = 1.5 }`,
	} {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
	if strings.Contains(text, "recent_bytes") {
		t.Errorf("null is not left out:\n%s", text)
	}
	load(t, text)
}
