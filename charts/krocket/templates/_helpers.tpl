{{/* Names and labels. A StatefulSet's name has 52 characters at most: Kubernetes appends a hash to it in a label. */}}
{{- define "krocket.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "krocket.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "krocket.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "krocket.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "krocket.selectorLabels" -}}
app.kubernetes.io/name: {{ include "krocket.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: broker
{{- end }}

{{- define "krocket.labels" -}}
{{ include "krocket.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* metadata of an object: (dict "root" $ "name" "..." "labels" {} "annotations" {} "namespace" "...") */}}
{{- define "krocket.metadata" -}}
{{- $labels := merge (deepCopy (default dict .labels)) (include "krocket.labels" .root | fromYaml) -}}
{{- $annotations := merge (deepCopy (default dict .annotations)) .root.Values.commonAnnotations -}}
name: {{ .name }}
namespace: {{ default .root.Release.Namespace .namespace }}
labels:
  {{- toYaml $labels | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "krocket.headless" -}}
{{ include "krocket.fullname" . }}-headless
{{- end }}

{{- define "krocket.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "krocket.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "krocket.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{- define "krocket.configMap" -}}
{{- default (include "krocket.fullname" .) .Values.existingConfigMap }}
{{- end }}

{{/* Where the bootstrap Service is, from anywhere in the cluster. */}}
{{- define "krocket.serviceHost" -}}
{{ include "krocket.fullname" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{/* The pod's own name: there is one pod. */}}
{{- define "krocket.podHost" -}}
{{ include "krocket.fullname" . }}-0.{{ include "krocket.headless" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{- define "krocket.externalPort" -}}
{{- $external := .Values.listeners.external -}}
{{- if $external.advertisedPort -}}
{{ int $external.advertisedPort }}
{{- else if eq $external.type "NodePort" -}}
{{ int $external.nodePort }}
{{- else -}}
{{ int $external.loadBalancerPort }}
{{- end }}
{{- end }}

{{/* Listeners that are on, by name, as YAML. */}}
{{- define "krocket.listeners" -}}
{{- $on := dict "internal" .Values.listeners.internal -}}
{{- if .Values.listeners.external.enabled }}{{- $_ := set $on "external" .Values.listeners.external }}{{ end -}}
{{ toYaml $on }}
{{- end }}

{{/* TLS that is on, by the listener's name, as YAML. */}}
{{- define "krocket.tls" -}}
{{- $on := dict -}}
{{- range $name, $listener := merge (dict "http" .Values.listeners.http) (include "krocket.listeners" . | fromYaml) -}}
{{- if $listener.tls.enabled }}{{- $_ := set $on $name $listener.tls }}{{ end -}}
{{- end -}}
{{ toYaml $on }}
{{- end }}

{{/* A host of the HTTP API, for $KROCKET_HTTP and for people: (dict "root" $ "host" "...") */}}
{{- define "krocket.http" -}}
{{- $http := .root.Values.listeners.http -}}
{{ $http.tls.enabled | ternary "https" "http" }}://{{ .host }}:{{ int $http.port }}
{{- end }}

{{/* Whether a probe's port is that of HTTP: (dict "root" $ "port" "http"). Empty if not. */}}
{{- define "krocket.ownPort" -}}
{{- if has (toString .port) (list "http" (toString (int .root.Values.listeners.http.port))) }}yes{{ end -}}
{{- end }}

{{/* A probe: (dict "root" $ "probe" {}). The kubelet does not look at certificates, but must be told to speak HTTPS. */}}
{{- define "krocket.probe" -}}
{{- $probe := deepCopy .probe -}}
{{- with $probe.httpGet -}}
{{- if and $.root.Values.listeners.http.tls.enabled (not .scheme) (include "krocket.ownPort" (dict "root" $.root "port" .port)) -}}
{{- $_ := set . "scheme" "HTTPS" -}}
{{- end -}}
{{- end -}}
{{ toYaml $probe }}
{{- end }}

{{/*
How a monitor has Prometheus speak HTTPS: (dict "root" $ "tlsConfig" {}). Prometheus comes to the pod's address, so it must be
told which name the certificate has.
*/}}
{{- define "krocket.scrape" -}}
{{- $tls := .root.Values.listeners.http.tls -}}
{{- $config := merge (deepCopy .tlsConfig) (dict "serverName" (include "krocket.serviceHost" .root)) -}}
{{- if and $tls.caKey (not (or $config.ca $config.caFile $config.insecureSkipVerify)) -}}
{{- $_ := set $config "ca" (dict "secret" (dict "name" $tls.existingSecret "key" $tls.caKey)) -}}
{{- end -}}
scheme: https
tlsConfig:
  {{- toYaml $config | nindent 2 }}
{{- end }}
