{{/* What the pods of every component have in common. In: root, principal (who it is for NATS). */}}

{{- define "shanty.natsEnv" -}}
{{- $nats := .root.Values.nats -}}
- name: SHANTY_NATS_URL
  value: {{ $nats.url | quote }}
- name: SHANTY_NATS_MONITOR_URL
  value: {{ $nats.monitorUrl | quote }}
- name: SHANTY_DURABILITY
  value: {{ $nats.durability }}
- name: SHANTY_LEASE_S
  value: {{ .root.Values.leaseS | quote }}
{{- if eq $nats.auth.kind "creds" }}
- name: SHANTY_NATS_CREDS
  value: /etc/shanty/nats/nats.creds
{{- else if eq $nats.auth.kind "nkey" }}
- name: SHANTY_NATS_NKEY_SEED
  value: /etc/shanty/nats/nats.nk
{{- else if ne $nats.auth.kind "none" }}
- name: SHANTY_NATS_TOKEN_FILE
  value: /etc/shanty/nats/token
{{- end }}
{{- if $nats.zones }}
- name: SHANTY_NATS_INBOX_PREFIX
  value: _INBOX_{{ .principal }}
{{- end }}
{{- with $nats.tls }}
{{- if .secretName }}
- name: SHANTY_NATS_TLS_CA
  value: /etc/shanty/tls/ca.crt
{{- if .mutual }}
- name: SHANTY_NATS_TLS_CERT
  value: /etc/shanty/tls/tls.crt
- name: SHANTY_NATS_TLS_KEY
  value: /etc/shanty/tls/tls.key
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "shanty.modelEnv" -}}
{{- with .model }}
- name: SHANTY_MODEL
  value: {{ . | quote }}
{{- end }}
{{- with .root.Values.anthropic }}
{{- if .existingSecret }}
- name: ANTHROPIC_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .secretKey }}
{{- end }}
{{- if .baseUrl }}
- name: ANTHROPIC_BASE_URL
  value: {{ .baseUrl | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "shanty.tracingEnv" -}}
{{- if .root.Values.telemetry.otlpEndpoint -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .root.Values.telemetry.otlpEndpoint | quote }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME)
{{- if .root.Values.telemetry.podMonitor.enabled }}
{{- /* They are fetched; sent as well, they would count twice. */}}
- name: OTEL_METRICS_EXPORTER
  value: none
{{- end }}
{{- end -}}
{{- end -}}

{{/* Several pieces of YAML lists of variables as one, where a later one goes before an earlier one of its name. */}}
{{- define "shanty.env" -}}
{{- $all := list -}}
{{- range . -}}
{{- $all = concat $all (. | fromYamlArray) -}}
{{- end -}}
{{- $last := dict -}}
{{- range $index, $one := $all -}}
{{- $_ := set $last $one.name $index -}}
{{- end -}}
{{- $kept := list -}}
{{- range $index, $one := $all -}}
{{- if eq $index (get $last $one.name) -}}
{{- $kept = append $kept $one -}}
{{- end -}}
{{- end -}}
{{- $kept | toYaml -}}
{{- end -}}

{{- define "shanty.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if ne .root.Values.nats.auth.kind "none" }}
- name: nats-login
  mountPath: /etc/shanty/nats
  readOnly: true
{{- end }}
{{- if .root.Values.nats.tls.secretName }}
- name: nats-tls
  mountPath: /etc/shanty/tls
  readOnly: true
{{- end }}
{{- if and .team .root.Values.team.files }}
- name: team
  mountPath: {{ .root.Values.team.path }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "shanty.volumes" -}}
{{- $nats := .root.Values.nats -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .root.Values.tmp.sizeLimit }}
    {{- with .root.Values.tmp.medium }}
    medium: {{ . }}
    {{- end }}
{{- if eq $nats.auth.kind "serviceAccountToken" }}
- name: nats-login
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          audience: {{ $nats.auth.audience }}
          expirationSeconds: {{ int64 $nats.auth.expirationSeconds }}
{{- else if ne $nats.auth.kind "none" }}
{{- $file := get (dict "creds" "nats.creds" "nkey" "nats.nk" "token" "token") $nats.auth.kind }}
- name: nats-login
  secret:
    secretName: {{ $nats.auth.secretPrefix }}{{ .principal }}
    defaultMode: 0440
    items:
      - key: {{ default $file $nats.auth.secretKey }}
        path: {{ $file }}
{{- end }}
{{- with $nats.tls }}
{{- if .secretName }}
- name: nats-tls
  secret:
    secretName: {{ .secretName }}
    defaultMode: 0440
    items:
      - key: {{ .caKey }}
        path: ca.crt
      {{- if .mutual }}
      - key: {{ .certKey }}
        path: tls.crt
      - key: {{ .keyKey }}
        path: tls.key
      {{- end }}
{{- end }}
{{- end }}
{{- if and .team .root.Values.team.files }}
- name: team
  configMap:
    name: {{ include "shanty.fullname" .root }}-team
    items:
      {{- range $path, $_ := .root.Values.team.files }}
      - key: {{ include "shanty.fileKey" $path }}
        path: {{ $path }}
      {{- end }}
{{- end }}
{{- end -}}

{{/* In: root, account (the name of the service account). */}}
{{- define "shanty.podSettings" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- end -}}

{{- define "shanty.teamChecksum" -}}
{{- with .Values.team.files -}}
checksum/team: {{ . | toJson | sha256sum }}
{{- end -}}
{{- end -}}

{{/* Resources without what was unset by a null, which Helm leaves in the items of a list. */}}
{{- define "shanty.resources" -}}
{{- $kept := dict -}}
{{- range $kind, $given := . -}}
{{- if kindIs "map" $given -}}
{{- $amounts := dict -}}
{{- range $name, $amount := $given -}}
{{- if not (kindIs "invalid" $amount) -}}
{{- $_ := set $amounts $name $amount -}}
{{- end -}}
{{- end -}}
{{- $_ := set $kept $kind $amounts -}}
{{- else -}}
{{- $_ := set $kept $kind $given -}}
{{- end -}}
{{- end -}}
{{- $kept | toYaml -}}
{{- end -}}
