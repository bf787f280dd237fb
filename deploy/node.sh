#!/bin/sh
# One machine's part of a deployment whose services run apart. Installed as keywheel-node.
#
#   keywheel-node place ROLE < TAR    take what deploy/place.sh sent for this role
#   keywheel-node start ROLE...       start, and wait until each serves
#   keywheel-node stop ROLE...        stop, and wait until each is gone
#   keywheel-node join < TOKEN        make this machine a host: credentials, Docker's runtime, injector
#   keywheel-node status              which roles run here
#
# ROLE is bus-N, gateway, store-sync, scheduler, audit-sink or injector. Where systemd runs, the units
# of deploy/systemd do the work. Elsewhere, and always when KEYWHEEL_ROOT is set, programs run in the
# background with a pid file and a log; then everything lies below KEYWHEEL_ROOT.
set -eu

ROOT=${KEYWHEEL_ROOT:-}
ROOT=${ROOT%/}
ETC=$ROOT/etc/keywheel
STATE=$ROOT/var/lib/keywheel
RUN=$ROOT/run/keywheel
# Of its own: the gateway's directory belongs to the gateway's user.
INJECTOR_RUN=$ROOT/run/keywheel-injector
LOGS=$ROOT/var/log/keywheel
PATH=$ROOT/usr/local/bin:$PATH
export PATH
# How long a program may take to serve, or to end.
WAIT_SECONDS=60

fail() {
    echo "keywheel-node: $1; next: $2" >&2
    exit 1
}

has_systemd() { [ -z "$ROOT" ] && [ -d /run/systemd/system ]; }

check_role() {
    case $1 in
        gateway | store-sync | scheduler | audit-sink | injector) ;;
        bus-[0-9] | bus-[0-9][0-9]) ;;
        *) fail "$1 is no role" "use bus-N, gateway, store-sync, scheduler, audit-sink or injector" ;;
    esac
}

unit() {
    case $1 in
        bus-*) echo "keywheel-bus@$1.service" ;;
        *) echo "keywheel-$1.service" ;;
    esac
}

# The user that a role runs under where systemd runs; deploy/systemd/keywheel.sysusers makes them.
user() {
    case $1 in
        bus-*) echo keywheel-bus ;;
        *) echo "keywheel-$1" ;;
    esac
}

# What a role owns below /etc/keywheel. Its unseal key stays with root: systemd hands that over.
owned() {
    case $1 in
        bus-*) echo "nats/$1" ;;
        gateway) echo "gateway gateway.toml journal.password" ;;
        store-sync) echo "store-sync store-sync.toml cache.password" ;;
        *) echo "$1 $1.toml" ;;
    esac
}

# Credentials renew themselves: older ones must not come back over them.
place() {
    check_role "$1"
    for name in $(owned "$1"); do
        if [ -e "$ETC/$name" ]; then
            fail "$ETC/$name is there already" "go on with it, or stop $1 and move it away"
        fi
    done
    umask 077
    mkdir -p "$ETC"
    chmod 0755 "$ETC"
    tar -C "$ETC" --no-same-owner -xf -
    has_systemd || return 0
    case $1 in bus-*) chmod 0755 "$ETC/nats" ;; esac
    for name in $(owned "$1"); do
        if [ -e "$ETC/$name" ]; then chown -R "$(user "$1"):" "$ETC/$name"; fi
    done
}

# When a process began, in the kernel's ticks; nothing when it is gone or only waits to be buried.
began() {
    [ -r "/proc/$1/stat" ] || return 0
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'
}

# The process id from a role's pid file, if that very process still runs.
running() {
    [ -f "$RUN/$1.pid" ] || return 0
    read -r pid at <"$RUN/$1.pid" || return 0
    if [ -n "$at" ] && [ "$(began "$pid")" = "$at" ]; then echo "$pid"; fi
}

ready_words() {
    case $1 in
        bus-*) echo 'Server is ready' ;;
        *) echo ' serving' ;;
    esac
}

# launch ROLE PROGRAM ARGUMENTS...: in the background; waits until its log says that it serves. One that
# ends before is started again as long as the wait goes on, as the units are: bus servers that were
# just started choose their leader first.
launch() {
    role=$1
    shift
    log=$LOGS/$role.log
    tries=$((WAIT_SECONDS * 10))
    touch "$log"
    from=$(($(wc -c <"$log") + 1))
    spawn "$@"
    until tail -c "+$from" "$log" | grep -q "$(ready_words "$role")"; do
        [ "$tries" -gt 0 ] || give_up "$role does not serve after $WAIT_SECONDS s"
        if [ -z "$(running "$role")" ]; then
            tries=$((tries - 20))
            [ "$tries" -gt 0 ] || give_up "$role ended before it served"
            sleep 2
            spawn "$@"
        fi
        tries=$((tries - 1))
        sleep 0.1
    done
    echo "$role serves (pid $pid, log $log)"
}

spawn() {
    setsid "$@" >>"$log" 2>&1 </dev/null &
    pid=$!
    echo "$pid $(began $pid)" >"$RUN/$role.pid"
}

give_up() {
    tail -n 5 "$log" >&2
    fail "$1" "correct what $log says, then start it again"
}

# A first try may come too early, for example before a bus server takes clients; systemd tries again.
start_unit() {
    systemctl enable --now "$1" || true
    tries=$WAIT_SECONDS
    until systemctl is-active --quiet "$1"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "$1 does not serve after $WAIT_SECONDS s" "journalctl -u $1"
        sleep 1
    done
}

start() {
    check_role "$1"
    if has_systemd; then
        start_unit "$(unit "$1")"
        return
    fi
    if [ -n "$(running "$1")" ]; then
        echo "$1 runs already"
        return
    fi
    umask 077
    mkdir -p "$STATE" "$LOGS"
    (umask 022 && mkdir -p "$RUN")
    case $1 in
        bus-*)
            mkdir -p "$ROOT/var/lib/nats"
            launch "$1" nats-server -c "$ETC/nats/$1/nats.conf"
            ;;
        injector)
            mkdir -p "$INJECTOR_RUN"
            KEYWHEEL_IDENTITY_DIR=$ETC/host KEYWHEEL_DATA_DIR=$STATE/injector \
                KEYWHEEL_RUN_DIR=$INJECTOR_RUN launch injector keywheel-injector run
            ;;
        *) launch "$1" keywheel server "$1" --config "$ETC/$1.toml" ;;
    esac
}

stop() {
    check_role "$1"
    if has_systemd; then
        systemctl disable --now "$(unit "$1")"
        return
    fi
    pid=$(running "$1")
    if [ -z "$pid" ]; then
        echo "$1 does not run"
        return
    fi
    kill "$pid"
    tries=$((WAIT_SECONDS * 10))
    while [ -n "$(running "$1")" ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "$1 does not end after $WAIT_SECONDS s" "read $LOGS/$1.log"
        sleep 0.1
    done
    rm -f "$RUN/$1.pid"
    echo "$1 has ended"
}

join() {
    mkdir -p "$ETC"
    chmod 0755 "$ETC"
    keywheel-injector join --token-file - --identity-dir "$ETC/host"
    start injector
    keywheel setup docker --yes --injector-socket "$INJECTOR_RUN/injector.sock"
}

status() {
    if has_systemd; then
        systemctl list-units --all 'keywheel-*'
        return
    fi
    for file in "$RUN"/*.pid; do
        [ -e "$file" ] || continue
        role=$(basename "$file" .pid)
        pid=$(running "$role")
        echo "$role ${pid:+runs as $pid}${pid:-is gone}"
    done
}

verb=${1:-help}
[ $# -eq 0 ] || shift
case $verb in
    place)
        [ $# -eq 1 ] || fail "place takes one role" "keywheel-node place ROLE < TAR"
        place "$1"
        ;;
    start | stop)
        [ $# -gt 0 ] || fail "$verb takes roles" "keywheel-node $verb ROLE..."
        for each in "$@"; do "$verb" "$each"; done
        ;;
    join) join ;;
    status) status ;;
    -h | --help | help) sed -n '2,13s/^# \{0,1\}//p' "$0" ;;
    *) fail "$verb is no verb" "keywheel-node --help" ;;
esac
