{{- define "kerbridge.labels" -}}
{{ include "kerbridge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "kerbridge.selector" -}}
app.kubernetes.io/name: kerbridge
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: broker
{{- end }}

{{- /* What cannot be true together is said before anything is made. */ -}}
{{- define "kerbridge.check" -}}
{{- if and (eq .Values.store.kind "embedded") (gt (int .Values.replicas) 1) }}
{{- fail "replicas: brokers with an embedded store share nothing, and a token of one is nothing to the other; set store.kind to postgres, or replicas to 1" }}
{{- end }}
{{- if and (eq .Values.store.kind "postgres") (not .Values.store.postgres.hosts) }}
{{- fail "store.postgres.hosts: name the servers of the database" }}
{{- end }}
{{- if and .Values.public.enabled (eq (int .Values.public.port) (int .Values.mesh.port)) }}
{{- fail "public.port: gateways call this one; name another" }}
{{- end }}
{{- /* A table that stands twice in a file is an error: what the chart writes has values of its own. */ -}}
{{- with regexFind `(?m)^[ \t]*\[[ \t]*(listen|store|kerberos|keys|limits|(listen|store)[ \t]*\..*)[ \t]*\]` .Values.moreConfiguration }}
{{- fail (printf "moreConfiguration: %s is written by the chart; set limits, keys, realms, principals, mesh, public or store instead" (trim .)) }}
{{- end }}
{{- if regexMatch `^(\s|#[^\n]*(\n|$))*[^\s#\[]` .Values.moreConfiguration }}
{{- fail "moreConfiguration: begin with the name of a table, such as [groups]; a field before any would belong to [limits]" }}
{{- end }}
{{- end }}
