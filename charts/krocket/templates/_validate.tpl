{{/* What the schema cannot say. */}}
{{- define "krocket.validate" -}}
{{- $external := .Values.listeners.external -}}
{{- if $external.enabled -}}
{{- if not $external.host -}}
{{- fail "listeners.external.host is empty: say the name or address that clients outside the cluster connect to, since krocket tells it to them" -}}
{{- end -}}
{{- if and (eq $external.type "NodePort") (not $external.nodePort) -}}
{{- fail "listeners.external.nodePort is not set: it must be known beforehand, since krocket tells it to clients" -}}
{{- end -}}
{{- end -}}
{{- $ports := dict (toString (int .Values.listeners.http.port)) "http" -}}
{{- $open := false -}}
{{- $scram := false -}}
{{- range $name, $listener := include "krocket.listeners" . | fromYaml -}}
{{- $port := toString (int $listener.port) -}}
{{- with get $ports $port }}{{ fail (printf "listeners.%s and listeners.%s have the same port %s" $name . $port) }}{{ end -}}
{{- $_ := set $ports $port $name -}}
{{- if and $listener.tls.enabled (not $listener.tls.existingSecret) -}}
{{- fail (printf "listeners.%s.tls.existingSecret is empty: name the Secret that has the certificate" $name) -}}
{{- end -}}
{{- if and (not $listener.tls.enabled) (ne $listener.tls.clientAuth "none") -}}
{{- fail (printf "listeners.%s.tls.clientAuth is %s, but listeners.%s.tls.enabled is false" $name $listener.tls.clientAuth $name) -}}
{{- end -}}
{{- if and $listener.tls.crl.existingSecret (eq $listener.tls.clientAuth "none") -}}
{{- fail (printf "listeners.%s.tls.crl.existingSecret is set, but listeners.%s.tls.clientAuth is none: clients show no certificate that could be revoked" $name $name) -}}
{{- end -}}
{{- if and (has "PLAIN" $listener.sasl) (not $.Values.security.users.existingSecret) -}}
{{- fail (printf "listeners.%s.sasl has PLAIN, but security.users.existingSecret is empty: name the Secret that has the users" $name) -}}
{{- end -}}
{{- if and (has "OAUTHBEARER" $listener.sasl) (not $.Values.existingConfigMap) (not (dig "security" "oauthbearer" dict $.Values.config)) -}}
{{- fail (printf "listeners.%s.sasl has OAUTHBEARER, but config.security.oauthbearer is not set: say whose tokens are taken" $name) -}}
{{- end -}}
{{- if or (has "SCRAM-SHA-256" $listener.sasl) (has "SCRAM-SHA-512" $listener.sasl) }}{{ $scram = true }}{{ end -}}
{{- if not $listener.sasl }}{{ $open = true }}{{ end -}}
{{- end -}}
{{- $https := .Values.listeners.http.tls.enabled -}}
{{- if and $https (not .Values.listeners.http.tls.existingSecret) -}}
{{- fail "listeners.http.tls.existingSecret is empty: name the Secret that has the certificate" -}}
{{- end -}}
{{- range $probe := tuple "startupProbe" "livenessProbe" "readinessProbe" -}}
{{- with (default dict (get $.Values $probe)).httpGet -}}
{{- if and $https (eq (default "" .scheme) "HTTP") (include "krocket.ownPort" (dict "root" $ "port" .port)) -}}
{{- fail (printf "%s.httpGet.scheme is HTTP, but listeners.http.tls.enabled is true: leave the scheme out" $probe) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $monitor := tuple "serviceMonitor" "podMonitor" -}}
{{- if and (get $.Values.metrics $monitor).tlsConfig (not $https) -}}
{{- fail (printf "metrics.%s.tlsConfig is set, but listeners.http.tls.enabled is false" $monitor) -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if hasPrefix "KROCKET__HTTP__TLS" (default "" .name) -}}
{{- fail (printf "extraEnv has %s: set listeners.http.tls instead, which probes and monitors follow" .name) -}}
{{- end -}}
{{- end -}}
{{- if and $scram (not $open) (not .Values.security.users.existingSecret) -}}
{{- fail "every listener asks for SASL, but security.users.existingSecret is empty: nobody could log in to make the first user" -}}
{{- end -}}
{{- if and .Values.security.authorizer (not .Values.security.superUsers) -}}
{{- fail "security.authorizer is true, but security.superUsers is empty: nobody could make the first ACL" -}}
{{- end -}}
{{- if .Values.existingConfigMap -}}
{{- range tuple "config" "rules" "views" "retry" "names" -}}
{{- if get $.Values . }}{{ fail (printf "%s and existingConfigMap are both set: put %s into that ConfigMap" . .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- range tuple "listeners" "rules" "views" "retry" "names" -}}
{{- if hasKey $.Values.config . }}{{ fail (printf "config.%s is a value of its own: %s" . .) }}{{ end -}}
{{- end -}}
{{- range $name, $table := .Values.config -}}
{{- if not (kindIs "map" $table) }}{{ fail (printf "config.%s must be a table of keys" $name) }}{{ end -}}
{{- end -}}
{{- range $name, $keys := dict "server" (tuple "listen" "advertised" "http" "data_dir") "security" (tuple "super_users" "authorizer" "users_file") "http" (tuple "tokens_file" "tls") -}}
{{- range $keys -}}
{{- if hasKey (default dict (get $.Values.config $name)) . }}{{ fail (printf "config.%s.%s is made by the chart: see the values `listeners`, `security` and `persistence`" $name .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled -}}
{{- fail "metrics.serviceMonitor and metrics.podMonitor are both on: Prometheus would scrape everything twice" -}}
{{- end -}}
{{- end }}
