#!/bin/sh
# Builds the four programs that are installed beside each other and collects them in one directory.
#
#   deploy/build.sh [--profile release|dev] [--without-injector]
#
# keywheel          the daemon and command line
# keywheel-injector one host's injector by itself, where services run apart; one machine with
#                   `keywheel up` needs none
# keywheel-runtime  the OCI runtime wrapper, static
# keywheel-nsjoin   the namespace helper, static: it must not load a library while it is near a container
set -eu

profile=release with_injector=yes
while [ $# -gt 0 ]; do
    case $1 in
        --profile) profile=${2:?--profile needs release or dev}; shift 2 ;;
        --profile=*) profile=${1#--profile=}; shift ;;
        --without-injector) with_injector=no; shift ;;
        -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "build.sh: unknown argument $1; next: deploy/build.sh --help" >&2; exit 2 ;;
    esac
done
case $profile in
    release) flags=--release dir=release injector=injector dist=dist ;;
    dev) flags='' dir=debug injector=debug dist=dist-dev ;;
    *) echo "build.sh: unknown profile $profile; next: use release or dev" >&2; exit 2 ;;
esac

# Under another cargo (a test of the quickstart) these name its package. Build scripts that watch them
# would run again, and everything above them.
for name in $(env | sed -n 's/^\(CARGO_\(PKG\|MANIFEST\)_[A-Z_]*\)=.*/\1/p'); do
    unset "$name"
done

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
host=$(rustc -vV | sed -n 's/^host: //p')

if [ "$profile" = dev ]; then
    # The same selection as the tests': with another one Cargo resolves other features and builds
    # nearly every dependency twice.
    cargo build --workspace --all-targets
else
    cargo build --release -p keywheel-cli --bins
    if [ "$with_injector" = yes ]; then
        # Its own profile, for its memory: it compiles its dependencies anew.
        cargo build --profile injector -p keywheel-injector --bins
    fi
fi
# shellcheck disable=SC2086
RUSTFLAGS="-C target-feature=+crt-static" cargo build $flags --target "$host" \
    -p keywheel-sys --bin keywheel-nsjoin \
    -p keywheel-oci-runtime --bin keywheel-runtime

mkdir -p "$target/$dist"
# Copy beside and rename: a running daemon keeps its own file.
collect() {
    cp "$1" "$target/$dist/.$(basename "$1").new"
    mv -f "$target/$dist/.$(basename "$1").new" "$target/$dist/$(basename "$1")"
}
collect "$target/$dir/keywheel"
if [ "$with_injector" = yes ]; then
    collect "$target/$injector/keywheel-injector"
fi
collect "$target/$host/$dir/keywheel-nsjoin"
collect "$target/$host/$dir/keywheel-runtime"

for program in keywheel-nsjoin keywheel-runtime; do
    if LC_ALL=C ldd "$target/$dist/$program" 2>&1 | grep -q '=>'; then
        echo "build.sh: $program is not static; next: install the C library's static archive (libc6-dev)" >&2
        exit 1
    fi
done
(cd "$target/$dist" && pwd)
