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
{{- end }}
