#!/bin/sh
# Builds the images of deploy/compose.yaml from programs that are here, without a registry.
#
#   deploy/docker/build.sh
#
# keywheel:local      `keywheel` and the libraries it loads, nothing else: no shell
# keywheel-bus:local  the bus server, which is static
#
# Programs come from DIST (else target/dist), the bus server from NATS_SERVER (else the PATH).
set -eu

case ${1:-} in -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/../.."
dist=${DIST:-${CARGO_TARGET_DIR:-target}/dist}
nats=${NATS_SERVER:-$(command -v nats-server || true)}
if [ ! -x "$dist/keywheel" ] || [ -z "$nats" ]; then
    echo "docker/build.sh: $dist/keywheel or a bus server is missing; next: deploy/build.sh, and name a static nats-server by NATS_SERVER" >&2
    exit 1
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp deploy/docker/Dockerfile "$context/"
for image in keywheel keywheel-bus; do
    mkdir -p "$context/$image/usr/local/bin" "$context/$image/etc/keywheel/nats" "$context/$image/tmp"
    # Volumes begin as what lies there in the image, its owner included.
    mkdir -p "$context/$image-state/keywheel" "$context/$image-state/nats"
done
# So does that of the database's socket, from whichever image is first to mount it.
mkdir -p "$context/keywheel-run/keywheel" "$context/keywheel-run/postgresql"
cp "$nats" "$context/keywheel-bus/usr/local/bin/nats-server"
cp "$dist/keywheel" "$context/keywheel/usr/local/bin/keywheel"
if command -v strip >/dev/null; then strip --strip-debug "$context/keywheel/usr/local/bin/keywheel"; fi
# The loader and the libraries, at the paths that the program names.
ldd "$dist/keywheel" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' |
    while read -r library; do
        mkdir -p "$context/keywheel$(dirname "$library")"
        cp -L "$library" "$context/keywheel$library"
    done

docker build --quiet --target keywheel --tag keywheel:local "$context"
docker build --quiet --target keywheel-bus --tag keywheel-bus:local "$context"
