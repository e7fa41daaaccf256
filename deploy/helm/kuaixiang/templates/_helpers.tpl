{{/* Names of a part of the release: (list . "node"). */}}
{{- define "kuaixiang.name" -}}
{{- $root := index . 0 -}}
{{- printf "%s-%s" $root.Release.Name (index . 1) | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* By which Services and policies know the pods of a part. */}}
{{- define "kuaixiang.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: kuaixiang
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "kuaixiang.labels" -}}
{{- $root := index . 0 -}}
{{ include "kuaixiang.selector" . }}
app.kubernetes.io/part-of: kuaixiang
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version }}
kuaixiang.internal/tier: {{ $root.Values.tier }}
{{- end -}}

{{/* What a service is told when its values say nothing else: where things are in its container. */}}
{{- define "kuaixiang.settings" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- $own := index $root.Values $part -}}
{{- $port := eq $part "node" | ternary "7440" "7450" -}}
{{- $metrics := eq $part "node" | ternary 9440 9450 -}}
{{- $given := dict "certificates" "/etc/kuaixiang/certificates" "listen" (printf "0.0.0.0:%s" $port)
      "metrics_host" "0.0.0.0" "metrics_port" $metrics -}}
{{- if not $own.environment -}}
{{- $_ := set $given "database" (printf "sqlite:////var/lib/kuaixiang/%s.db" $part) -}}
{{- end -}}
{{- if eq $part "node" -}}
{{- $_ := set $given "data_key" "/var/lib/kuaixiang-keys/data.key" -}}
{{- if $root.Values.files.calendar -}}{{- $_ := set $given "calendar" "/etc/kuaixiang/files/calendar.csv" -}}{{- end -}}
{{- end -}}
{{- if $root.Values.files.tree -}}{{- $_ := set $given "tree" "/etc/kuaixiang/files/tree.csv" -}}{{- end -}}
{{- if $own.staff -}}{{- $_ := set $given "staff" "/etc/kuaixiang/staff/staff.toml" -}}{{- end -}}
{{- if $own.backup.enabled -}}{{- $_ := set $given "backups" "/var/backups/kuaixiang" -}}{{- end -}}
{{- mustMergeOverwrite $given (deepCopy $own.settings) | toJson -}}
{{- end -}}

{{/* A settings file: JSON's strings, numbers, truths and lists are TOML's too, a table is not, a nothing is left out. */}}
{{- define "kuaixiang.toml" -}}
{{- range $name, $value := include "kuaixiang.settings" . | fromJson }}
{{- if kindIs "map" $value }}
{{- $pairs := list }}
{{- range $key, $one := $value }}
{{- $pairs = append $pairs (printf "%s = %s" (toRawJson $key) (toRawJson $one)) }}
{{- end }}
{{ $name }} = { {{- join ", " $pairs -}} }
{{- else if not (kindIs "invalid" $value) }}
{{ $name }} = {{ toRawJson $value }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The port at the end of host:port. */}}
{{- define "kuaixiang.port" -}}{{- regexFind "[0-9]+$" . -}}{{- end -}}

{{/* Ports of a node or a hub, by name, as JSON. */}}
{{- define "kuaixiang.ports" -}}
{{- $settings := include "kuaixiang.settings" . | fromJson -}}
{{- $ports := dict "grpc" (include "kuaixiang.port" $settings.listen) "metrics" (toString $settings.metrics_port) -}}
{{- range $page := list "desk" "gateway" "board" -}}
{{- with index $settings $page -}}{{- $_ := set $ports $page (include "kuaixiang.port" .) -}}{{- end -}}
{{- end -}}
{{- $ports | toJson -}}
{{- end -}}

{{- define "kuaixiang.pod-security" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
# Only a volume that is new is given to the group: else every start would open the files of keys to it.
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "kuaixiang.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What the containers of a node or a hub have mounted, and the volumes that are not claimed by the set. */}}
{{- define "kuaixiang.mounts" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- $own := index $root.Values $part -}}
- {name: settings, mountPath: /etc/kuaixiang/settings, readOnly: true}
- {name: certificates, mountPath: /etc/kuaixiang/certificates, readOnly: true}
{{- if or $root.Values.files.tree $root.Values.files.calendar }}
- {name: files, mountPath: /etc/kuaixiang/files, readOnly: true}
{{- end }}
{{- if $own.staff }}
- {name: staff, mountPath: /etc/kuaixiang/staff, readOnly: true}
{{- end }}
- {name: data, mountPath: /var/lib/kuaixiang}
{{- if eq $part "node" }}
- {name: keys, mountPath: /var/lib/kuaixiang-keys}
{{- end }}
{{- if $own.backup.enabled }}
- {name: backups, mountPath: /var/backups/kuaixiang}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "kuaixiang.volumes" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- $own := index $root.Values $part -}}
- name: settings
  configMap: {name: {{ include "kuaixiang.name" . }}}
- name: certificates
  # Root's, and readable by the pod's group alone.
  secret: {secretName: {{ $own.certificates }}, defaultMode: 0440}
{{- if or $root.Values.files.tree $root.Values.files.calendar }}
- name: files
  configMap: {name: {{ include "kuaixiang.name" (list $root "files") }}}
{{- end }}
{{- if $own.staff }}
- name: staff
  secret: {secretName: {{ $own.staff }}, defaultMode: 0440}
{{- end }}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
{{- end -}}

{{/* Settings, Service and StatefulSet of a node or a hub: (list . "node"). */}}
{{- define "kuaixiang.service" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- $own := index $root.Values $part -}}
{{- $name := include "kuaixiang.name" . -}}
{{- $settings := include "kuaixiang.settings" . | fromJson -}}
{{- $ports := include "kuaixiang.ports" . | fromJson -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}
  labels: {{- include "kuaixiang.labels" . | nindent 4 }}
data:
  settings.toml: |
    {{- include "kuaixiang.toml" . | trim | nindent 4 }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels: {{- include "kuaixiang.labels" . | nindent 4 }}
  {{- with $own.service.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $own.service.type }}
  selector: {{- include "kuaixiang.selector" . | nindent 4 }}
  # There is one pod. While one of its ledgers is held back its health is NOT_SERVING, and neighbours must reach it.
  publishNotReadyAddresses: true
  ports:
    {{- range $port, $number := omit $ports "metrics" }}
    - {name: {{ $port }}, port: {{ $number }}, targetPort: {{ $port }}, protocol: TCP}
    {{- end }}
---
# What only the cluster is to reach.
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}-inside
  labels: {{- include "kuaixiang.labels" . | nindent 4 }}
    # What rules and dashboards know it by.
    kuaixiang.internal/job: kuaixiang-{{ $part }}
spec:
  clusterIP: None
  selector: {{- include "kuaixiang.selector" . | nindent 4 }}
  publishNotReadyAddresses: true
  ports:
    - {name: grpc, port: {{ $ports.grpc }}, targetPort: grpc, protocol: TCP}
    - {name: metrics, port: {{ $ports.metrics }}, targetPort: metrics, protocol: TCP}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}
  labels: {{- include "kuaixiang.labels" . | nindent 4 }}
spec:
  # One process to a ledger and to a hub's figures.
  replicas: 1
  serviceName: {{ $name }}-inside
  selector:
    matchLabels: {{- include "kuaixiang.selector" . | nindent 6 }}
  template:
    metadata:
      labels: {{- include "kuaixiang.labels" . | nindent 8 }}
      annotations:
        kuaixiang.internal/settings: {{ include "kuaixiang.toml" . | sha256sum }}
    spec:
      automountServiceAccountToken: false
      # A Service called kx-node would else give the container KX_NODE_PORT, which is no setting.
      enableServiceLinks: false
      # What is under way ends in five seconds, after drain_seconds; then it publishes and closes its ledger.
      terminationGracePeriodSeconds: {{ add 60 (int (default 0 $settings.drain_seconds)) }}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - {name: {{ . }}}
        {{- end }}
      {{- end }}
      securityContext: {{- include "kuaixiang.pod-security" . | nindent 8 }}
      containers:
        - name: {{ $part }}
          image: {{ printf "%s:%s" $root.Values.image.repository (default $root.Chart.AppVersion $root.Values.image.tag) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [{{ $part }}, serve, --config, /etc/kuaixiang/settings/settings.toml]
          {{- with $own.environment }}
          envFrom:
            - secretRef: {name: {{ . }}}
          {{- end }}
          ports:
            {{- range $port, $number := $ports }}
            - {name: {{ $port }}, containerPort: {{ $number }}, protocol: TCP}
            {{- end }}
          # gRPC's health service behind mutual TLS, which the cluster's own probe cannot speak.
          startupProbe:
            exec: &health
              command: [python, /opt/kuaixiang/healthcheck.py, "127.0.0.1:{{ $ports.grpc }}", {{ $settings.certificates }}]
            periodSeconds: 10
            timeoutSeconds: 10
            # A schema is brought up to date at the start; an hour for a ledger of many years.
            failureThreshold: 360
          readinessProbe:
            exec: *health
            periodSeconds: 15
            timeoutSeconds: 10
            failureThreshold: 2
          # NOT_SERVING is no reason to begin anew, only to look; a process that takes no connection is.
          livenessProbe:
            tcpSocket: {port: grpc}
            periodSeconds: 20
            timeoutSeconds: 5
            failureThreshold: 6
          securityContext: {{- include "kuaixiang.container-security" . | nindent 12 }}
          resources: {{- toYaml $own.resources | nindent 12 }}
          volumeMounts: {{- include "kuaixiang.mounts" . | nindent 12 }}
      volumes: {{- include "kuaixiang.volumes" . | nindent 8 }}
  volumeClaimTemplates:
    {{- include "kuaixiang.claim" (list "data" $own.storage.size $own.storage.class) | nindent 4 }}
    {{- if eq $part "node" }}
    {{- include "kuaixiang.claim" (list "keys" $own.storage.keys $own.storage.class) | nindent 4 }}
    {{- end }}
    {{- if $own.backup.enabled }}
    {{- include "kuaixiang.claim" (list "backups" $own.backup.size $own.storage.class) | nindent 4 }}
    {{- end }}
---
{{ include "kuaixiang.disruption" . }}
{{- if $own.backup.enabled }}
---
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {{ $name }}-backup
  labels: {{- include "kuaixiang.labels" (list $root (printf "%s-backup" $part)) | nindent 4 }}
spec:
  schedule: {{ $own.backup.schedule | quote }}
  timeZone: Asia/Shanghai
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 14400
  jobTemplate:
    spec:
      backoffLimit: 2
      activeDeadlineSeconds: 21600
      template:
        metadata:
          labels: {{- include "kuaixiang.labels" (list $root (printf "%s-backup" $part)) | nindent 12 }}
        spec:
          restartPolicy: Never
          automountServiceAccountToken: false
          enableServiceLinks: false
          # The volumes are at one machine at a time: where the service is.
          affinity:
            podAffinity:
              requiredDuringSchedulingIgnoredDuringExecution:
                - topologyKey: kubernetes.io/hostname
                  labelSelector:
                    matchLabels: {{- include "kuaixiang.selector" . | nindent 22 }}
          {{- with $root.Values.image.pullSecrets }}
          imagePullSecrets:
            {{- range . }}
            - {name: {{ . }}}
            {{- end }}
          {{- end }}
          securityContext: {{- include "kuaixiang.pod-security" . | nindent 12 }}
          containers:
            - name: backup
              image: {{ printf "%s:%s" $root.Values.image.repository (default $root.Chart.AppVersion $root.Values.image.tag) }}
              imagePullPolicy: {{ $root.Values.image.pullPolicy }}
              args: [backup, {{ $part }}, --config, /etc/kuaixiang/settings/settings.toml]
              {{- with $own.environment }}
              envFrom:
                - secretRef: {name: {{ . }}}
              {{- end }}
              securityContext: {{- include "kuaixiang.container-security" . | nindent 16 }}
              resources: {{- toYaml $own.resources | nindent 16 }}
              volumeMounts: {{- include "kuaixiang.mounts" . | nindent 16 }}
          volumes:
            {{- include "kuaixiang.volumes" . | nindent 12 }}
            {{- range $claim := eq $part "node" | ternary (list "data" "keys" "backups") (list "data" "backups") }}
            - name: {{ $claim }}
              persistentVolumeClaim: {claimName: {{ $claim }}-{{ $name }}-0}
            {{- end }}
{{- end }}
{{- end -}}

{{/* A volume that a set claims: (list name size class). */}}
{{- define "kuaixiang.claim" -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata: {name: {{ index . 0 }}}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with index . 2 }}
    storageClassName: {{ . }}
    {{- end }}
    resources: {requests: {storage: {{ index . 1 }}}}
{{- end -}}

{{- define "kuaixiang.disruption" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "kuaixiang.name" . }}
  labels: {{- include "kuaixiang.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "kuaixiang.selector" . | nindent 6 }}
{{- end -}}
