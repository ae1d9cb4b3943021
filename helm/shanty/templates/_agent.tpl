{{/* One agent as a service: Deployment, Service, disruption budget and scaling. In: root, component, agent, own. */}}

{{- define "shanty.agent" -}}
{{- $root := .root -}}
{{- $own := .own -}}
{{- $name := printf "%s-%s" (include "shanty.fullname" $root) .agent -}}
{{- $scaling := $own.autoscaling -}}
{{- $most := eq $scaling.kind "none" | ternary $own.replicas $scaling.maxReplicas -}}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- include "shanty.labels" . | nindent 4 }}
spec:
  {{- if eq $scaling.kind "none" }}
  replicas: {{ $own.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      {{- include "shanty.selector" . | nindent 6 }}
  strategy:
    {{- toYaml $own.strategy | nindent 4 }}
  template:
    metadata:
      labels:
        {{- include "shanty.selector" . | nindent 8 }}
        {{- with $own.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with merge (include "shanty.teamChecksum" $root | fromYaml) $own.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- $account := include "shanty.serviceAccount" (dict "root" $root "name" $own.serviceAccountName "suffix" .agent) }}
      {{- include "shanty.podSettings" (dict "root" $root "account" $account) | nindent 6 }}
      terminationGracePeriodSeconds: {{ add $own.drainS $own.graceMarginS }}
      {{- with $own.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $own.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $own.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $own.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $own.topologySpread }}
      {{- if .enabled }}
      topologySpreadConstraints:
        - topologyKey: {{ .topologyKey }}
          maxSkew: {{ .maxSkew }}
          whenUnsatisfiable: {{ .whenUnsatisfiable }}
          labelSelector:
            matchLabels:
              {{- include "shanty.selector" $ | nindent 14 }}
      {{- end }}
      {{- end }}
      containers:
        - name: {{ .component }}
          {{- include "shanty.image" (dict "root" $root "service" .component "image" $own.image) | nindent 10 }}
          env:
            {{- include "shanty.agentEnv" . | nindent 12 }}
          {{- with $own.envFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            - name: http
              containerPort: 8080
              protocol: TCP
          # Alive while it waits for NATS and for init-bus; ready once it takes mail.
          startupProbe:
            httpGet: {path: /healthz/live, port: http}
            periodSeconds: 2
            failureThreshold: 60
          livenessProbe:
            httpGet: {path: /healthz/live, port: http}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: /healthz/ready, port: http}
            periodSeconds: 3
            timeoutSeconds: 3
            failureThreshold: 2
          resources:
            {{- include "shanty.resources" $own.resources | nindent 12 }}
          securityContext:
            {{- toYaml $root.Values.securityContext | nindent 12 }}
          volumeMounts:
            {{- include "shanty.mounts" (dict "root" $root "team" true) | nindent 12 }}
            {{- with $own.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
        {{- with $own.extraContainers }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      volumes:
        {{- include "shanty.volumes" (dict "root" $root "principal" .agent "team" true) | nindent 8 }}
        {{- with $own.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "shanty.labels" . | nindent 4 }}
spec:
  # Nobody calls an agent: this is for who reads metrics, one address for each replica, whether it is ready or not.
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    {{- include "shanty.selector" . | nindent 4 }}
  ports:
    - name: http
      port: 8080
      targetPort: http
      protocol: TCP
{{- if and $own.pdb.enabled (gt (int $most) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels:
    {{- include "shanty.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ $own.pdb.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "shanty.selector" . | nindent 6 }}
{{- end }}
{{- if eq $scaling.kind "keda" }}
{{ include "shanty.scaledObject" . }}
{{- else if eq $scaling.kind "hpa" }}
{{ include "shanty.hpa" . }}
{{- end }}
{{- end -}}

{{- define "shanty.agentEnv" -}}
{{- $root := .root -}}
{{- $own := .own -}}
{{- $nats := include "shanty.natsEnv" (dict "root" $root "principal" .agent) -}}
{{- $model := "[]" -}}
{{- if ne .component "toolgateway" -}}
{{- $model = include "shanty.modelEnv" (dict "root" $root "model" (default $root.Values.model $own.model)) -}}
{{- end -}}
{{- $tracing := include "shanty.tracingEnv" (dict "root" $root) -}}
{{- $service := include "shanty.serviceEnv" . -}}
{{- include "shanty.env" (list $nats $service $model $tracing ($root.Values.extraEnv | toYaml) ($own.env | toYaml)) -}}
{{- end -}}

{{- define "shanty.serviceEnv" -}}
- name: SHANTY_TEAM
  value: {{ .root.Values.team.path }}
{{- if eq .component "specialist" }}
- name: SHANTY_AGENT
  value: {{ .agent }}
{{- if .root.Values.nats.zones }}
- name: SHANTY_NATS_ZONE
  value: agent
{{- end }}
{{- end }}
- name: SHANTY_LANES
  value: {{ include "shanty.lanes" . | quote }}
- name: SHANTY_CONCURRENCY
  value: {{ .own.concurrency | quote }}
- name: SHANTY_DRAIN_S
  value: {{ .own.drainS | quote }}
- name: SHANTY_START_WAIT_S
  value: {{ .root.Values.startWaitS | quote }}
- name: SHANTY_HTTP_HOST
  value: 0.0.0.0
- name: SHANTY_HTTP_PORT
  value: "8080"
- name: SHANTY_LOG_LEVEL
  value: {{ .root.Values.logLevel }}
- name: SHANTY_LOG_FORMAT
  value: {{ .root.Values.logFormat }}
{{- end -}}

{{/* The queues of an agent as a JSON list of {stream, consumer}: mail and timers, in each of its lanes. */}}
{{- define "shanty.queues" -}}
{{- $queues := list -}}
{{- range $lane := .own.lanes | default .root.Values.nats.lanes -}}
{{- $queues = append $queues (dict "stream" (printf "SHANTY_%s" $lane) "consumer" (printf "mail-%s" $.agent)) -}}
{{- $queues = append $queues (dict "stream" (printf "SHANTY_TIMERS_%s" $lane) "consumer" (printf "timers-%s" $.agent)) -}}
{{- end -}}
{{- $queues | toJson -}}
{{- end -}}

{{- define "shanty.scaledObject" -}}
{{- $scaling := .own.autoscaling -}}
{{- $keda := $scaling.keda -}}
{{- $first := .root.Values.nats.monitorUrl | splitList "," | first | trim -}}
{{- $monitor := default $first $keda.monitor -}}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ include "shanty.fullname" .root }}-{{ .agent }}
  labels:
    {{- include "shanty.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    name: {{ include "shanty.fullname" .root }}-{{ .agent }}
  minReplicaCount: {{ $scaling.minReplicas }}
  maxReplicaCount: {{ $scaling.maxReplicas }}
  pollingInterval: {{ $keda.pollingIntervalS }}
  cooldownPeriod: {{ $keda.cooldownS }}
  {{- if gt (int $keda.fallbackReplicas) 0 }}
  fallback:
    failureThreshold: {{ $keda.fallbackAfter }}
    replicas: {{ $keda.fallbackReplicas }}
  {{- end }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown:
          stabilizationWindowSeconds: {{ $scaling.stabilizationS }}
  triggers:
    # A timer that is due wakes an agent just as mail does.
    {{- range include "shanty.queues" . | fromJsonArray }}
    - type: nats-jetstream
      metadata:
        natsServerMonitoringEndpoint: {{ regexReplaceAll "^https?://|/+$" $monitor "" | quote }}
        useHttps: {{ hasPrefix "https://" $monitor | toString | quote }}
        account: {{ $.root.Values.nats.account | quote }}
        stream: {{ .stream }}
        consumer: {{ .consumer }}
        lagThreshold: {{ default $.own.concurrency $scaling.threadsPerReplica | int | quote }}
        activationLagThreshold: "0"
    {{- end }}
{{- end -}}

{{- define "shanty.hpa" -}}
{{- $scaling := .own.autoscaling -}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "shanty.fullname" .root }}-{{ .agent }}
  labels:
    {{- include "shanty.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "shanty.fullname" .root }}-{{ .agent }}
  minReplicas: {{ $scaling.minReplicas }}
  maxReplicas: {{ $scaling.maxReplicas }}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: {{ $scaling.stabilizationS }}
  metrics:
    {{- range include "shanty.queues" . | fromJsonArray }}
    - type: External
      external:
        metric:
          name: {{ $scaling.hpa.metric }}
          selector:
            matchLabels:
              {{- toYaml (merge (dict "stream" .stream "consumer" .consumer) $scaling.hpa.metricLabels) | nindent 14 }}
        target:
          type: AverageValue
          averageValue: {{ default $.own.concurrency $scaling.threadsPerReplica | int | quote }}
    {{- end }}
{{- end -}}
