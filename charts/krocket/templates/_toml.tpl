{{/*
Values as TOML. Helm's own toToml turns every number of a values file into a float (10000 becomes 10000.0), which krocket
refuses where it wants a whole number.
*/}}

{{- define "krocket.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toRawJson . }}{{ end }}
{{- end }}

{{- define "krocket.toml.value" -}}
{{- if kindIs "string" . -}}
{{ toRawJson . }}
{{- else if kindIs "bool" . -}}
{{ . }}
{{- else if kindIs "slice" . -}}
[{{ range $index, $value := . }}{{ if $index }}, {{ end }}{{ include "krocket.toml.value" $value }}{{ end }}]
{{- else if kindIs "map" . -}}
{ {{- $first := true }}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}{{ if not $first }},{{ end }} {{ include "krocket.toml.key" $key }} = {{ include "krocket.toml.value" $value }}{{ $first = false }}{{ end }}
{{- end }} }
{{- else if kindIs "float64" . -}}
{{- if ne . (floor .) -}}
{{ toRawJson . }}
{{- else if or (gt . 9007199254740992.0) (lt . -9007199254740992.0) -}}
{{- fail (printf "config: %.0f is too large to be exact as a number of a values file: write it as text, in quotes" .) -}}
{{- else -}}
{{ printf "%.0f" . }}
{{- end }}
{{- else if kindIs "invalid" . -}}
{{- fail "config: a list has an empty item" -}}
{{- else -}}
{{ . }}
{{- end }}
{{- end }}

{{/* The lines of a table. */}}
{{- define "krocket.toml.lines" -}}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{ include "krocket.toml.key" $key }} = {{ include "krocket.toml.value" $value }}
{{- end }}
{{- end }}
{{- end }}

{{/* [name] and its lines: (dict "name" "limits" "table" {}) */}}
{{- define "krocket.toml.table" }}
[{{ include "krocket.toml.key" .name }}]
{{- include "krocket.toml.lines" .table }}
{{ end }}

{{/* [[name]] for every item: (dict "name" "rules" "items" []) */}}
{{- define "krocket.toml.tables" }}
{{- $name := .name }}
{{- range .items }}
[[{{ $name }}]]
{{- include "krocket.toml.lines" . }}
{{ end }}
{{- end }}
