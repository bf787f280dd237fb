#!/bin/sh
# Sends each role's part of a new deployment to its machine, and starts it there.
#
#   deploy/place.sh ROLE=MACHINE...
#
# MACHINE is the beginning of a command line that runs a command there as root: "ssh root@ctl-1", or
# "sudo" for this machine. From DEPLOYMENT (the --out of `keywheel init`) and KEYS (where its unseal
# keys are) a machine gets what this role needs and nothing else.
set -eu

case ${1:---help} in -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
: "${DEPLOYMENT:?name the directory that keywheel init made}" "${KEYS:?name the directory of the unseal keys}"

send() {
    # shellcheck disable=SC2046 # a list of names
    case $1 in
        bus-*) tar -C "$DEPLOYMENT" -cf - "nats/$1" ;;
        gateway | store-sync)
            tar -C "$DEPLOYMENT" -cf - "$1" "$1.toml" $(password "$1") -C "$KEYS" "$1-unseal.key"
            ;;
        *) tar -C "$DEPLOYMENT" -cf - "$1" "$1.toml" ;;
    esac
}

# Without a database there is none.
password() {
    case $1 in gateway) name=journal.password ;; *) name=cache.password ;; esac
    if [ -e "$DEPLOYMENT/$name" ]; then echo "$name"; fi
}

for pair in "$@"; do
    role=${pair%%=*} machine=${pair#*=}
    if [ "$role" = "$pair" ]; then
        echo "place.sh: $pair names no machine; next: write ROLE=MACHINE" >&2
        exit 2
    fi
    # MACHINE is several words on purpose.
    send "$role" | $machine keywheel-node place "$role"
    $machine keywheel-node start "$role"
done
