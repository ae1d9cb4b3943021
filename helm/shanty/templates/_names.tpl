{{/* Names and labels. `scope` is a dict: root, component (lead, specialist, toolgateway, init-bus, test) and, for agents, agent. */}}

{{- define "shanty.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 30 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 30 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "shanty.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .agent }}
shanty/agent: {{ . }}
{{- end }}
{{- end -}}

{{- define "shanty.labels" -}}
{{ include "shanty.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: shanty
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The image of a service. In: root, service (lead, specialist, toolgateway or cli) and image, which overrides parts of it. */}}
{{- define "shanty.image" -}}
{{- $common := .root.Values.image -}}
{{- $own := default dict .image -}}
{{- $registry := hasKey $own "registry" | ternary $own.registry $common.registry -}}
{{- $repository := default (printf "%s/%s" $common.repository .service) $own.repository -}}
{{- $tag := coalesce $own.tag $common.tag .root.Chart.AppVersion -}}
image: {{ printf "%s%s:%s" (ternary (printf "%s/" $registry) "" (ne $registry "")) $repository $tag }}
imagePullPolicy: {{ default $common.pullPolicy $own.pullPolicy }}
{{- end -}}

{{- define "shanty.serviceAccount" -}}
{{- if .name -}}
{{- .name -}}
{{- else if .root.Values.serviceAccount.create -}}
{{- printf "%s-%s" (include "shanty.fullname" .root) .suffix -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* The key of a team's file in the ConfigMap, where a slash may not be: agents/lead.md is agents..lead.md. */}}
{{- define "shanty.fileKey" -}}
{{- . | replace "/" ".." -}}
{{- end -}}
