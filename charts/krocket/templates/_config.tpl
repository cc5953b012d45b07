{{/* krocket.toml, in two parts: a change of the first needs a restart, the second is taken over while krocket runs. */}}

{{- define "krocket.config.tls" -}}
{{- $folder := printf "/etc/krocket/tls/%s" .name -}}
{{- $tls := dict "cert" (printf "%s/%s" $folder .tls.certKey) "key" (printf "%s/%s" $folder .tls.keyKey) "client_auth" .tls.clientAuth -}}
{{- if ne .tls.clientAuth "none" }}{{- $_ := set $tls "client_ca" (printf "%s/%s" $folder .tls.caKey) }}{{ end -}}
{{- if .tls.crl.existingSecret }}{{- $_ := set $tls "crl" (printf "/etc/krocket/crl/%s/%s" .name .tls.crl.key) }}{{ end -}}
{{ toJson $tls }}
{{- end }}

{{- define "krocket.config.static" -}}
{{- include "krocket.validate" . -}}
{{- $listeners := .Values.listeners -}}
{{- $address := dict
  "internal" (printf "%s:%d" (include "krocket.podHost" .) (int $listeners.internal.port))
  "external" (printf "%s:%s" $listeners.external.host (include "krocket.externalPort" .)) -}}
{{- $server := dict
  "http" (printf "%s:%d" $listeners.bind (int $listeners.http.port))
  "data_dir" "/var/lib/krocket/data" -}}
{{- $several := list -}}
{{- $plain := true -}}
{{- range $name, $listener := include "krocket.listeners" . | fromYaml -}}
{{- $one := dict "name" $name "listen" (printf "%s:%d" $listeners.bind (int $listener.port)) "advertised" (get $address $name) -}}
{{- if $listener.tls.enabled }}
{{- $_ := set $one "tls" (include "krocket.config.tls" (dict "name" $name "tls" $listener.tls) | fromJson) }}
{{- end }}
{{- with $listener.sasl }}{{ $_ := set $one "sasl" . }}{{ end }}
{{- if or (ne $name "internal") $listener.tls.enabled $listener.sasl }}{{ $plain = false }}{{ end }}
{{- $several = append $several $one }}
{{- end }}
{{- if $plain -}}
{{- $one := first $several -}}
{{- $_ := set $server "listen" $one.listen }}{{ $_ := set $server "advertised" $one.advertised }}
{{- end }}
{{- $sections := deepCopy .Values.config -}}
{{- $_ := set $sections "server" (merge $server (default dict .Values.config.server)) -}}
{{- $security := deepCopy (default dict .Values.config.security) -}}
{{- with .Values.security.superUsers }}{{ $_ := set $security "super_users" . }}{{ end }}
{{- if .Values.security.authorizer }}{{ $_ := set $security "authorizer" true }}{{ end }}
{{- if .Values.security.users.existingSecret }}
{{- $_ := set $security "users_file" (printf "/etc/krocket/users/%s" .Values.security.users.key) }}
{{- end }}
{{- if $security }}{{ $_ := set $sections "security" $security }}{{ end -}}
{{- $http := deepCopy (default dict .Values.config.http) -}}
{{- if .Values.security.httpTokens.existingSecret }}
{{- $_ := set $http "tokens_file" (printf "/etc/krocket/http/%s" .Values.security.httpTokens.key) }}
{{- end }}
{{- with $listeners.http.tls }}
{{- if .enabled }}
{{- $_ := set $http "tls" (dict "cert" (printf "/etc/krocket/tls/http/%s" .certKey) "key" (printf "/etc/krocket/tls/http/%s" .keyKey)) }}
{{- end }}
{{- end }}
{{- if $http }}{{ $_ := set $sections "http" $http }}{{ end -}}
# Made by Helm. A change down to "While krocket runs" restarts the pod.
{{- range $name, $table := $sections }}
{{- if $table }}{{ include "krocket.toml.table" (dict "name" $name "table" $table) }}{{ end }}
{{- end }}
{{- if not $plain }}{{ include "krocket.toml.tables" (dict "name" "listeners" "items" $several) }}{{ end }}
{{- end }}

{{- define "krocket.config.live" -}}
# While krocket runs.
{{- include "krocket.toml.tables" (dict "name" "rules" "items" .Values.rules) }}
{{- include "krocket.toml.tables" (dict "name" "views" "items" .Values.views) }}
{{- include "krocket.toml.tables" (dict "name" "retry" "items" .Values.retry) }}
{{- with .Values.names }}{{ include "krocket.toml.table" (dict "name" "names" "table" .) }}{{ end }}
{{- end }}
