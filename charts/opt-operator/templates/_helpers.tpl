{{- define "opt.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "opt.selector" -}}
app.kubernetes.io/name: opt-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{/* no resource can put a label of this domain on a pod, so no training passes for the operator */ -}}
opt-operator.io/component: operator
{{- end -}}

{{- define "opt.labels" -}}
{{ include "opt.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* The evaluation store's own: neither the operator's Service nor its policies may take it for the operator. */}}
{{- define "opt.storeSelector" -}}
app.kubernetes.io/name: opt-operator-evaluation-store
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "opt.storeLabels" -}}
{{ include "opt.storeSelector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* An image by role: (list $ "trainer") */}}
{{- define "opt.image" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- $digest := index $root.Values.images.digests $role -}}
{{- $registry := trimSuffix "/" $root.Values.images.registry -}}
{{- if $digest -}}
{{ $registry }}/{{ $role }}@{{ $digest }}
{{- else -}}
{{ $registry }}/{{ $role }}:{{ $root.Values.images.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The watched namespaces as a JSON list; empty for all. */}}
{{- define "opt.namespaces" -}}
{{- if .Values.watch.allNamespaces -}}
[]
{{- else -}}
{{ .Values.watch.namespaces | default (list .Release.Namespace) | uniq | toJson }}
{{- end -}}
{{- end -}}

{{- define "opt.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "opt.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
