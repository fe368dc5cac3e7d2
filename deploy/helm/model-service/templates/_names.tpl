{{- define "model-service.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* The prefix of the names of all objects: at most 50 of 63 characters, since a suffix follows. */}}
{{- define "model-service.fullname" -}}
{{- $name := include "model-service.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The labels of a component never change: a Deployment's selector is immutable. Takes (list root component). */}}
{{- define "model-service.selectorLabels" -}}
app.kubernetes.io/name: {{ include "model-service.name" (first .) }}
app.kubernetes.io/instance: {{ (first .).Release.Name }}
{{- if last . }}
app.kubernetes.io/component: {{ last . }}
{{- end }}
{{- end }}

{{/* The labels of an object; an empty component is that of objects that all components share. */}}
{{- define "model-service.labels" -}}
{{ include "model-service.selectorLabels" . }}
app.kubernetes.io/version: {{ (first .).Chart.AppVersion | quote }}
app.kubernetes.io/part-of: model-service
app.kubernetes.io/managed-by: {{ (first .).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (first .).Chart.Name (first .).Chart.Version }}
{{- end }}

{{/* The name of a component's objects. The API has the name that its clients know: no suffix. Takes (list root component). */}}
{{- define "model-service.objectName" -}}
{{- include "model-service.fullname" (first .) }}
{{- if and (last .) (ne (last .) "api") }}-{{ last . }}{{ end }}
{{- end }}

{{/* Takes (list root component suffix-of-the-name). */}}
{{- define "model-service.metadata" -}}
{{- $of := list (index . 0) (index . 1) }}
name: {{ include "model-service.objectName" $of }}{{ index . 2 }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "model-service.labels" $of | nindent 2 }}
{{- end }}

{{- define "model-service.serviceAccountName" -}}
{{- if .Values.serviceAccount.name }}
{{- .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create }}
{{- include "model-service.fullname" . }}
{{- else -}}
default
{{- end }}
{{- end }}

{{- define "model-service.image" -}}
{{- $root := first . }}
{{- $image := (index $root.Values (last .)).image }}
{{- $repository := $image.repository | default (printf "%s-%s" $root.Values.image.repository (last .)) }}
{{- if $image.digest }}
{{- printf "%s@%s" $repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $repository ($image.tag | default $root.Values.image.tag | default $root.Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* The components that the values enable, as a YAML list. */}}
{{- define "model-service.components" -}}
{{- range $component := list "api" "worker" "serving" }}
{{- if (index $.Values $component).enabled }}
- {{ $component }}
{{- end }}
{{- end }}
{{- end }}
