#!/bin/sh
# A machine made of namespaces, with systemd as its first process, which can reach nothing outside.
#
#   machine.sh start NAME DIRECTORY SYSTEMD SOCKETS   in a mount namespace of its own, as root
#   machine.sh forget NAME DIRECTORY                  the cgroup it had; also in one of its own
#
# SYSTEMD is where systemd was unpacked (its packages' own tree), or nothing where it is installed; SOCKETS
# the directory of PostgreSQL's socket. What the machine sees: a root in memory, this machine's /usr to read,
# that one directory; devices, processes, network, names and control groups of its own. Everything
# ends with the process that `start` becomes.
set -eu

# What reaches beyond namespaces: clock, kernel, devices, the kernel's log and audit.
BEYOND=-sys_time,-sys_module,-sys_boot,-sys_rawio,-mknod,-syslog,-audit_control,-audit_read,-audit_write,-mac_admin,-mac_override,-wake_alarm,-block_suspend

NAMESPACES='mnt net ipc uts pid cgroup'

# The cgroup of this machine: below our own, in a hierarchy that is mounted here and nowhere else.
mount_cgroups() {
    mkdir -p "$2/cgroup"
    mount -t cgroup2 cgroup "$2/cgroup"
    cgroup=$2/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/$1
}

start() {
    mount_cgroups "$1" "$2"
    # One that a killed run left, under the same number.
    rmdir "$cgroup" 2>/dev/null || :
    mkdir "$cgroup"
    # Of whoever asks for the machine; the number of a namespace that is left is given to another.
    outside=$(for kind in $NAMESPACES; do readlink "/proc/$PPID/ns/$kind"; done | tr '\n' ' ')
    exec unshare --mount --net --ipc --uts --pid --fork --kill-child sh "$0" enter "$cgroup" "$2" "$3" "$4" "$outside"
}

enter() {
    echo 0 >"$1/cgroup.procs"
    shift
    exec unshare --cgroup --mount sh "$0" boot "$@"
}

forget() {
    mount_cgroups "$1" "$2"
    if [ -d "$cgroup" ]; then find "$cgroup" -depth -type d -exec rmdir {} +; fi
}

memory() { mount -t tmpfs -o "mode=$1,nosuid${3:-}" machine "$2"; }

read_only() { mount --bind "$1" "$2" && mount -o remount,bind,ro,nosuid,nodev "$2"; }

make_files() {
    mkdir etc home root old tmp var usr run dev proc sys
    for name in bin sbin lib lib64; do ln -s "usr/$name" "$name"; done
    if [ -n "$1" ]; then
        mount -t overlay -o "ro,nosuid,nodev,lowerdir=$1/usr:$1:/usr" machine usr
    else
        read_only /usr usr
    fi
    memory 0755 usr/local ,nodev
    mkdir -p usr/local/bin usr/local/sbin
    memory 0755 run ,nodev
    memory 1777 tmp ,nodev
    memory 0755 var ,nodev
    mkdir -p var/lib var/log var/cache run/postgresql
    mkdir -m 1777 var/tmp
    ln -s ../run var/run
    mount --bind "$2" run/postgresql
}

make_devices() {
    memory 0755 dev ,noexec
    mknod -m 0666 dev/null c 1 3
    mknod -m 0666 dev/zero c 1 5
    mknod -m 0666 dev/full c 1 7
    mknod -m 0666 dev/random c 1 8
    mknod -m 0666 dev/urandom c 1 9
    mknod -m 0666 dev/tty c 5 0
    mkdir dev/pts dev/shm dev/mqueue
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
    memory 1777 dev/shm ,nodev,noexec
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%%:*}" "dev/${number#*:}"; done
}

make_kernel_views() {
    mount -t proc -o nosuid,nodev,noexec proc proc
    for name in sys irq bus fs sysrq-trigger; do
        if [ -e "proc/$name" ]; then read_only "proc/$name" "proc/$name"; fi
    done
    for name in kcore keys timer_list; do
        if [ -e "proc/$name" ]; then mount --bind dev/null "proc/$name"; fi
    done
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup sys/fs/cgroup
}

target() { printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n%s\n' "$1" "${2:-}" >"etc/systemd/system/$1.target"; }

make_settings() {
    mkdir -p etc/systemd/system etc/docker
    cp -R "$1"/etc/. etc/
    : >etc/fstab
    echo machine >etc/hostname
    tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
    cp -a /etc/alternatives etc/
    # None of Debian's units but the journal's is known here, so that nothing else acts.
    target sysinit 'Wants=systemd-journald.service'
    target basic "$(printf 'Requires=sysinit.target\nAfter=sysinit.target')"
    for name in sockets shutdown umount network-online network; do target "$name"; done
    target multi-user "$(printf 'Requires=basic.target\nAfter=basic.target\nAllowIsolate=yes')"
    ln -s multi-user.target etc/systemd/system/default.target
    for unit in systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; do
        cp "usr/lib/systemd/system/$unit" etc/systemd/system/
    done
}

refuse() {
    echo "machine.sh: $1: not started" >&2
    exit 1
}

# What is written here stays here, or the machine does not start.
prove_private() {
    while read -r _ _ _ _ point options rest; do
        kind=${rest#*- }
        case "${kind%% *}:$point:$options" in
            tmpfs:* | devpts:/dev/pts:* | proc:/proc:* | cgroup2:/sys/fs/cgroup:* | *:/run/postgresql:*) ;;
            proc:/proc/*:ro* | sysfs:/sys:ro* | *:/usr:ro*) ;;
            *) refuse "$point is mounted ($options, ${kind%% *})" ;;
        esac
    done </proc/self/mountinfo
    [ "$$" = 1 ] || refuse "process $$ is not the first one"
    [ "$(sed -n 's/^0:://p' /proc/self/cgroup)" = / ] || refuse "the control groups of others are seen"
    while read -r process; do
        [ "$process" = 1 ] || refuse "another process is in this control group"
    done </sys/fs/cgroup/cgroup.procs
    for kind in $NAMESPACES; do
        case " $1 " in *" $(readlink "/proc/self/ns/$kind") "*) refuse "the namespace $kind is shared" ;; esac
    done
    for path in /sys /proc/sys/kernel/hostname /proc/sys/vm/swappiness /usr; do
        if [ -w "$path" ]; then refuse "$path can be written"; fi
    done
}

boot() {
    here=$(cd "$(dirname "$0")" && pwd)
    directory=$1
    mkdir -p "$directory/root"
    memory 0755 "$directory/root" ,nodev
    cd "$directory/root"
    make_files "$2" "$3"
    make_devices
    make_kernel_views
    make_settings "$here"
    pivot_root . old
    cd /
    umount -l /old
    rmdir /old
    # As systemd does where it is no guest: what is mounted here is seen by services with a view of their own.
    mount --make-rshared /
    prove_private "$4"
    # Units are found in two places only, and no generator makes others.
    exec setpriv --bounding-set "$BEYOND" --inh-caps "$BEYOND" env -i container=keywheel \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        SYSTEMD_UNIT_PATH=/etc/systemd/system:/usr/local/lib/systemd/system \
        SYSTEMD_GENERATOR_PATH=/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/none \
        /usr/lib/systemd/systemd
}

verb=$1
shift
"$verb" "$@"
