#!/bin/sh
# Installs programs, keywheel-node and systemd units on machines.
#
#   deploy/install.sh MACHINE...
#
# MACHINE is the beginning of a command line that runs a command there as root: "ssh root@web-1", or
# "sudo" for this machine. Programs come from DIST (else target/dist, made by deploy/build.sh), the bus
# server from NATS_SERVER (else nats-server on the PATH). What runs goes on with the old programs
# until it is started again.
set -eu

# On the machine: everything lies beside this script.
install_here() {
    here=$(cd "$(dirname "$0")" && pwd)
    root=${KEYWHEEL_ROOT:-}
    root=${root%/}
    mkdir -p "$root/usr/local/bin"
    for program in keywheel keywheel-injector keywheel-nsjoin keywheel-runtime keywheel-node nats-server; do
        # Copy beside and rename: a running program keeps its own file.
        if [ -e "$here/$program" ]; then
            cp "$here/$program" "$root/usr/local/bin/.$program.new"
            chmod 0755 "$root/usr/local/bin/.$program.new"
            mv -f "$root/usr/local/bin/.$program.new" "$root/usr/local/bin/$program"
        fi
    done
    if [ -n "$root" ] || [ ! -d /run/systemd/system ]; then return; fi
    install -D -m 0644 -t /usr/local/lib/systemd/system "$here"/systemd/*.service
    install -D -m 0644 "$here/systemd/keywheel.sysusers" /usr/local/lib/sysusers.d/keywheel.conf
    systemd-sysusers keywheel.conf
    systemctl daemon-reload
}

case ${1:---help} in
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --here) install_here; exit 0 ;;
esac

cd "$(dirname "$0")/.."
dist=${DIST:-${CARGO_TARGET_DIR:-target}/dist}
nats=${NATS_SERVER:-$(command -v nats-server || true)}
if [ ! -x "$dist/keywheel" ]; then
    echo "install.sh: $dist holds no programs; next: deploy/build.sh" >&2
    exit 1
fi
if [ -z "$nats" ]; then
    echo "install.sh: there is no bus server; next: unpack a nats-server 2.12.7 or newer and name it by NATS_SERVER" >&2
    exit 1
fi

parcel=$(mktemp -d)
trap 'rm -rf "$parcel"' EXIT
for program in keywheel keywheel-injector keywheel-nsjoin keywheel-runtime; do
    cp "$dist/$program" "$parcel/"
done
cp "$nats" "$parcel/nats-server"
cp deploy/node.sh "$parcel/keywheel-node"
cp deploy/install.sh "$parcel/"
cp -R deploy/systemd "$parcel/"

for machine in "$@"; do
    # MACHINE is several words on purpose.
    there=$($machine mktemp -d)
    tar -C "$parcel" -cf - . | $machine tar -C "$there" --no-same-owner -xf -
    $machine sh "$there/install.sh" --here
    $machine rm -rf "$there"
    echo "installed by: $machine"
done
