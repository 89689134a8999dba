{{/* The name of the release's objects: the release's name, with the chart's unless that is in it. */}}
{{- define "stockpredictor.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What the Deployment and the Service select by. Predictors' NetworkPolicies admit the operator by the name label. */}}
{{- define "stockpredictor.selector" -}}
app.kubernetes.io/name: stockpredictor-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "stockpredictor.labels" -}}
{{ include "stockpredictor.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: stockpredictor
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image of the values: repository with digest, else with tag, else with the release's version. */}}
{{- define "stockpredictor.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "stockpredictor.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "stockpredictor.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* What a container may do: nothing but run. It meets the `restricted` Pod Security Standard. */}}
{{- define "stockpredictor.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "stockpredictor.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1001
runAsGroup: 1001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* What the operator may do where it looks after StockPredictors. There is no rule for Secrets: it never reads any. */}}
{{- define "stockpredictor.rules" -}}
# It follows the objects that users write, and puts a finalizer on those whose claim is to go with them.
- apiGroups: [stockpredictor.io]
  resources: [stockpredictors]
  verbs: [get, list, watch, patch]
# It writes what it sees into their status, and nothing else there.
- apiGroups: [stockpredictor.io]
  resources: [stockpredictors/status]
  verbs: [patch]
# It follows the backups that users describe: to run them, and to find the backup that a restore names.
- apiGroups: [stockpredictor.io]
  resources: [storagebackups]
  verbs: [get, list, watch]
# It writes what the runs reported into their status, and nothing else there.
- apiGroups: [stockpredictor.io]
  resources: [storagebackups/status]
  verbs: [patch]
# It carries restores out, and holds a half-done one with a finalizer until the volume is whole again.
- apiGroups: [stockpredictor.io]
  resources: [storagerestores]
  verbs: [get, list, watch, patch]
# It writes each phase into the restore's status before it begins it, so that a new operator goes on where the old one was.
- apiGroups: [stockpredictor.io]
  resources: [storagerestores/status]
  verbs: [patch]
# It keeps the schedules of backups and restore tests as they should be, and takes one away that nobody wants any more.
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, create, patch, update, delete]
# It begins runs that are asked for by hand and the steps of restores, follows them, and removes finished runs beyond the
# history limits and steps that must not go on or are tried anew. Archives are not part of a Job.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
# It reads why a run's pod can't be created or mounted, which only Events tell, to say so in the status.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
# It keeps each predictor's account, settings and address as they should be. Accounts are created without a token.
# `update`, here and below, replaces a child that somebody changed in such a way that no patch makes it valid again.
- apiGroups: [""]
  resources: [serviceaccounts, configmaps, services]
  verbs: [get, list, watch, create, patch, update]
# It makes and grows claims, also those that a restore fills, and deletes one only when its StockPredictor says `deletionPolicy: Delete`.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
# It reads why a pod does not start (image, scheduling, crashes), to say so in the status.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# It runs predictors, replaces a Deployment that no patch repairs, and stops one whose claim is to be deleted.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, update, delete]
# It admits only those to a predictor whom the chart and the object name, and replaces a policy that no patch repairs.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, update]
# It keeps a node's drain from stopping all replicas at once, while there is more than one, and replaces a budget that no
# patch repairs.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, update, delete]
# It tells what happened in Events, and counts repeated ones up.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* A file of the chart whose links to runbooks lead where the values say. Argument: a list of the context and the file's path. */}}
{{- define "stockpredictor.withRunbooks" -}}
{{- $context := index . 0 -}}
{{- $context.Files.Get (index . 1) | replace "https://github.com/stockpredictor/stockpredictor/blob/main/docs/runbooks" $context.Values.monitoring.runbookUrl -}}
{{- end -}}

{{- define "stockpredictor.prometheus.fullname" -}}
{{ include "stockpredictor.fullname" . }}-prometheus
{{- end -}}

{{- define "stockpredictor.prometheus.selector" -}}
app.kubernetes.io/name: stockpredictor-prometheus
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "stockpredictor.prometheus.labels" -}}
{{ include "stockpredictor.prometheus.selector" . }}
app.kubernetes.io/part-of: stockpredictor
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* What the release's Prometheus may do where it looks for pods. */}}
{{- define "stockpredictor.prometheus.rules" -}}
# It finds the pods of the operator and of predictors, and follows them as they come and go. It reads nothing else.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
{{- end -}}

{{/* The namespaces whose pods may reach every predictor: those of the values, and the own one while a Prometheus runs in it. */}}
{{- define "stockpredictor.allowFrom" -}}
{{- $own := .Values.monitoring.prometheus.enabled | ternary (list .Release.Namespace) list -}}
{{- concat .Values.allowFromNamespaces $own | uniq | join "," -}}
{{- end -}}
