#!/usr/bin/env bash
# Every variable KAFKA_SOME_NAME becomes the property some.name; the storage is formatted at the first start.
set -euo pipefail
properties=/opt/kafka/config/server.properties
: > "$properties"
for variable in $(compgen -e KAFKA_); do
    case "$variable" in
        KAFKA_HEAP_OPTS) ;;
        *)
            name="${variable#KAFKA_}"
            name="${name//_/.}"
            echo "${name,,}=${!variable}" >> "$properties"
            ;;
    esac
done

# shellcheck disable=SC2206 # several options
java=(/opt/java/bin/java ${KAFKA_HEAP_OPTS:--Xmx512m} -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError
    -Dlog4j2.configurationFile=/opt/kafka/config/log4j2.xml -cp '/opt/kafka/libs/*')
"${java[@]}" kafka.tools.StorageTool format --ignore-formatted \
    --cluster-id "${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}" --config "$properties"
exec "${java[@]}" kafka.Kafka "$properties"
