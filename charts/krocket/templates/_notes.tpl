{{/* kcat's options for a listener. */}}
{{- define "krocket.notes.security" -}}
{{- $protocol := printf "%s%s" (.sasl | empty | ternary "" "SASL_") (.tls.enabled | ternary "SSL" "PLAINTEXT") -}}
{{- if ne $protocol "PLAINTEXT" }} -X security.protocol={{ $protocol }}{{ end -}}
{{- if .tls.enabled }} -X ssl.ca.location=ca.crt{{ end -}}
{{- if eq .tls.clientAuth "required" }} -X ssl.certificate.location=client.crt -X ssl.key.location=client.key{{ end -}}
{{- if .sasl }} -X sasl.mechanism={{ last .sasl }}{{ if ne (last .sasl) "OAUTHBEARER" }} -X sasl.username=NAME -X sasl.password=PASSWORD{{ end }}{{ end -}}
{{- end }}
