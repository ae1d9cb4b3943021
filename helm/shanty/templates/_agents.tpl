{{/*
Who is to be deployed, as a JSON list of {component, agent, own}: `own` holds the values of specialistDefaults with what
the lead, the specialist or the tool gateway says laid over them.
*/}}
{{- define "shanty.agents" -}}
{{- $agents := list -}}
{{- if .Values.lead.enabled -}}
{{- $usual := omit (deepCopy .Values.specialistDefaults) "image" "replicas" -}}
{{- $_ := set $usual.autoscaling "kind" "none" -}}
{{- $own := mergeOverwrite $usual (deepCopy .Values.lead) -}}
{{- $agents = append $agents (dict "component" "lead" "agent" .Values.lead.agent "own" $own) -}}
{{- end -}}
{{- range .Values.specialists -}}
{{- $own := mergeOverwrite (deepCopy $.Values.specialistDefaults) (deepCopy .) -}}
{{- $agents = append $agents (dict "component" "specialist" "agent" .name "own" $own) -}}
{{- end -}}
{{- if .Values.toolgateway.enabled -}}
{{- $usual := omit (deepCopy .Values.specialistDefaults) "image" "replicas" "lanes" -}}
{{- $_ := set $usual.autoscaling "kind" "none" -}}
{{- $own := mergeOverwrite $usual (deepCopy .Values.toolgateway) -}}
{{- $agents = append $agents (dict "component" "toolgateway" "agent" "toolgateway" "own" $own) -}}
{{- end -}}
{{- $agents | toJson -}}
{{- end -}}

{{- define "shanty.lanes" -}}
{{- .own.lanes | default .root.Values.nats.lanes | join "," -}}
{{- end -}}

{{/* What no schema can tell: values that do not go together. */}}
{{- define "shanty.checks" -}}
{{- $seen := dict "init-bus" "init-bus" "test" "helm test" -}}
{{- range $agent := include "shanty.agents" . | fromJsonArray -}}
{{- if hasKey $seen $agent.agent -}}
{{- fail (printf "specialists: the name %q is taken already, by %s; every agent needs a name of its own" $agent.agent (get $seen $agent.agent)) -}}
{{- end -}}
{{- $_ := set $seen $agent.agent (get (dict "lead" "the lead (lead.agent)" "specialist" "another specialist" "toolgateway" "the tool gateway") $agent.component) -}}
{{- range $lane := $agent.own.lanes -}}
{{- if not (has $lane $.Values.nats.lanes) -}}
{{- fail (printf "agent %s: lanes has %q, which nats.lanes does not have (%s)" $agent.agent $lane (join ", " $.Values.nats.lanes)) -}}
{{- end -}}
{{- end -}}
{{- with $agent.own.autoscaling -}}
{{- if and (eq .kind "hpa") (lt (int .minReplicas) 1) -}}
{{- fail (printf "agent %s: autoscaling.minReplicas is %v, and an HPA needs 1 or more; autoscaling.kind=keda goes down to 0" $agent.agent .minReplicas) -}}
{{- end -}}
{{- if and (ne .kind "none") (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "agent %s: autoscaling.minReplicas is %v, more than maxReplicas, which is %v" $agent.agent .minReplicas .maxReplicas) -}}
{{- end -}}
{{- if and (eq .kind "keda") (not .keda.monitor) (not $.Values.nats.monitorUrl) -}}
{{- fail (printf "agent %s: autoscaling.kind is keda, and KEDA needs nats.monitorUrl or autoscaling.keda.monitor" $agent.agent) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.nats.durability "required") (not .Values.nats.monitorUrl) -}}
{{- fail "nats.durability is required, and without nats.monitorUrl nobody can see whether an ack means the disk: set it, or nats.durability=relaxed" -}}
{{- end -}}
{{- if and .Values.nats.zones (eq .Values.nats.auth.kind "none") -}}
{{- fail "nats.zones is true, and with nats.auth.kind=none nobody has an account of its own: set nats.auth.kind" -}}
{{- end -}}
{{- if and .Values.nats.tls.mutual (not .Values.nats.tls.secretName) -}}
{{- fail "nats.tls.mutual is true, and nats.tls.secretName does not name the Secret with the client certificate" -}}
{{- end -}}
{{- include "shanty.teamChecks" . -}}
{{- end -}}

{{- define "shanty.teamChecks" -}}
{{- with .Values.team.files -}}
{{- $size := 0 -}}
{{- range $path, $content := . -}}
{{- $size = add $size (len $path) (len $content) -}}
{{- end -}}
{{- if gt (int $size) 1000000 -}}
{{- fail (printf "team.files: the team has %d bytes, and a ConfigMap holds 1 MiB: put it into images of yours (FROM shanty/specialist, COPY my-team /team), leave team.files empty and name them with lead.image and specialistDefaults.image" $size) -}}
{{- end -}}
{{- if not (hasKey . "team.yaml") -}}
{{- fail (printf "team.files has no team.yaml, only %s: write it with `shanty team-values DIR`" (keys . | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $team := get . "team.yaml" | fromYaml -}}
{{- if hasKey $team "Error" -}}
{{- fail (printf "team.files: team.yaml is not YAML: %s" $team.Error) -}}
{{- end -}}
{{- $lead := default "lead" $team.lead -}}
{{- if and $.Values.lead.enabled (ne $.Values.lead.agent $lead) -}}
{{- fail (printf "lead.agent is %q, and the lead of the team in team.files is %q" $.Values.lead.agent $lead) -}}
{{- end -}}
{{- range $.Values.specialists -}}
{{- if not (has .name (default list $team.specialists)) -}}
{{- fail (printf "specialists: the team in team.files has no %q; there are %s" .name (default list $team.specialists | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
