{{/* The environment of a component's container; it takes precedence over the ConfigMap. Takes (list root component). */}}
{{- define "model-service.environment" -}}
{{- $root := first . }}
{{- $component := last . }}
{{- $values := index $root.Values $component }}
{{- $secret := printf "%s-secrets" (include "model-service.fullname" $root) }}
{{- if eq $component "api" }}
- name: HOST
  value: 0.0.0.0
- name: PORT
  value: {{ $values.port | quote }}
{{- else if eq $component "worker" }}
# Only the metrics and the probes listen on HOST. They need no credential.
- name: HOST
  value: 0.0.0.0
- name: WORKER_METRICS_PORT
  value: {{ $values.port | quote }}
{{- else if eq $component "serving" }}
- name: INFERENCE_HOST
  value: 0.0.0.0
- name: INFERENCE_PORT
  value: {{ $values.port | quote }}
- name: INFERENCE_MAX_PROCESSES
  valueFrom:
    resourceFieldRef:
      resource: limits.cpu
- name: INFERENCE_THREADS
  valueFrom:
    resourceFieldRef:
      resource: limits.cpu
{{- end }}
- name: MONGODB_URL
  valueFrom:
    secretKeyRef:
      {{- if $root.Values.mongodb.url }}
      name: {{ $secret }}
      key: mongodb-url
      {{- else }}
      name: {{ $root.Values.mongodb.existingSecret }}
      key: {{ $root.Values.mongodb.existingSecretKey }}
      {{- end }}
{{- if ne $component "backup" }}
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      {{- if $root.Values.redis.url }}
      name: {{ $secret }}
      key: redis-url
      {{- else }}
      name: {{ $root.Values.redis.existingSecret }}
      key: {{ $root.Values.redis.existingSecretKey }}
      {{- end }}
{{- end }}
{{- if and $root.Values.auth.enabled (eq $component "api") }}
- name: API_KEY
  valueFrom:
    secretKeyRef:
      {{- if $root.Values.auth.apiKey }}
      name: {{ $secret }}
      key: api-key
      {{- else }}
      name: {{ $root.Values.auth.existingSecret }}
      key: {{ $root.Values.auth.apiKeyKey }}
      {{- end }}
- name: SIGNING_SECRET
  valueFrom:
    secretKeyRef:
      {{- if $root.Values.auth.apiKey }}
      name: {{ $secret }}
      key: signing-secret
      {{- else }}
      name: {{ $root.Values.auth.existingSecret }}
      key: {{ $root.Values.auth.signingSecretKey }}
      {{- end }}
      optional: true
{{- end }}
- name: MODEL_SERVICE_HOME
  value: /data
{{- with concat $root.Values.extraEnv $values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A probe over HTTP. Takes (list path values). */}}
{{- define "model-service.probe" -}}
httpGet:
  path: {{ first . }}
  port: http
{{ toYaml (last .) }}
{{- end }}

{{/* The address of a component for clients, from the values or the Ingress. Takes (list root component value). */}}
{{- define "model-service.address" -}}
{{- $root := index . 0 }}
{{- $ingress := index $root.Values.ingress (index . 1) }}
{{- if index . 2 }}
{{- index . 2 }}
{{- else if $root.Values.ingress.enabled }}
{{- printf "%s://%s" (ternary "https" "http" (ne $ingress.tlsSecret "")) $ingress.host }}
{{- end }}
{{- end }}

{{/* The fields of a pod that do not depend on its component. */}}
{{- define "model-service.pod" -}}
serviceAccountName: {{ include "model-service.serviceAccountName" . }}
automountServiceAccountToken: false
# The variables of Services, such as MODEL_SERVICE_PORT, are not settings.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The volumes that every container has. Takes (list root component). */}}
{{- define "model-service.volumes" -}}
{{- $root := first . }}
{{- $data := (index $root.Values (last .)).data }}
- name: data
  {{- if $data.source }}
  {{- toYaml $data.source | nindent 2 }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ $data.sizeLimit }}
  {{- end }}
- name: tmp
  emptyDir: {}
{{- if $root.Values.tiers }}
- name: tiers
  configMap:
    name: {{ include "model-service.fullname" $root }}-tiers
{{- end }}
{{- with $root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "model-service.volumeMounts" -}}
- name: data
  mountPath: /data
- name: tmp
  mountPath: /tmp
{{- if .Values.tiers }}
- name: tiers
  mountPath: /etc/model-service
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
