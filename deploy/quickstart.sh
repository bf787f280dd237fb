#!/usr/bin/env bash
# Keywheel's first command: builds a release, starts `keywheel up`, and shows a
# secret rotating inside running containers, being revoked and accounted for.
# Says what it installs and why, installs only what is missing, works as root
# and with sudo. It never prints a secret's value: no verb of Keywheel can.
set -Eeuo pipefail
# A person's own path lacks the programs of administrators, dockerd among them, also under sudo.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# Numbers are written and sorted with a point, whatever a person's language has.
export LC_ALL=C

readonly EXIT_USAGE=64 EXIT_UNAVAILABLE=69 EXIT_FAILED=70 EXIT_CANNOT_CREATE=73 EXIT_DENIED=77
readonly RUST_MINOR=95                  # rust-toolchain.toml pins 1.95
readonly FILE_ROTATIONS=120             # swaps for the figures; at least 100
readonly ENV_ROTATIONS=3                # each waits for its health gate
readonly BARE_RESTARTS=5
readonly READY_SECONDS=30 DOCKERD_SECONDS=30 CRON_PERIOD=15 CRON_PATIENCE=25 STOP_SECONDS=15

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
readonly PREFIX=keywheel-quickstart IMAGE=keywheel-quickstart
readonly C_FILE=$PREFIX-file C_ENV=$PREFIX-env C_BARE=$PREFIX-bare

if [ -n "${KEYWHEEL_QUICKSTART_DIR:-}" ]; then
  case $KEYWHEEL_QUICKSTART_DIR in
    /?*) ;;
    *) printf 'quickstart: KEYWHEEL_QUICKSTART_DIR must be an absolute path\n' >&2; exit $EXIT_USAGE ;;
  esac
  STATE=$KEYWHEEL_QUICKSTART_DIR RUN=$KEYWHEEL_QUICKSTART_DIR/run KEYS=$KEYWHEEL_QUICKSTART_DIR/key
else
  STATE=/var/lib/$PREFIX RUN=/run/$PREFIX KEYS=/etc/$PREFIX
fi
readonly STATE RUN KEYS
readonly DATA=$STATE/data SOCKET=$RUN/keywheel.sock UNSEAL_KEY=$KEYS/unseal.key
readonly UP_LOG=$STATE/up.log UP_PID=$STATE/up.pid REGISTERED=$STATE/runtime-registered
readonly MARKER=$STATE/made-by-keywheel-quickstart
readonly DOCKERD_PID=$STATE/dockerd.pid DOCKERD_LOG=$STATE/dockerd.log
export KEYWHEEL_ADDRESS=unix://$SOCKET

json=no
down=no
profile=release
dist=dist

help() {
  cat <<EOF
usage: deploy/quickstart.sh [--dev-build] [--json | --down]

Builds Keywheel and shows it at work on this machine, in about a minute after
the build: two containers, $FILE_ROTATIONS rotations by command, one by schedule, a revoke,
a verified audit, and a table of measured times. Run it as often as you like.

  --json   the last line of stdout is one JSON object with the figures;
           everything else goes to stderr
  --down   removes all it made: containers, image, process, runtime
           registration, state and key (packages and the build stay)
  --dev-build  builds as the tests do instead of a release: slower programs, but nothing to
           compile when the tests ran before; for work on Keywheel itself
  --help   this text

State: $STATE, $RUN, $KEYS.
KEYWHEEL_QUICKSTART_DIR=DIR keeps all of it below DIR instead.
EOF
}

for word in "$@"; do
  case $word in
    --json) json=yes ;;
    --down) down=yes ;;
    --dev-build) profile=dev dist=dist-dev ;;
    --help | -h) help; exit 0 ;;
    *) printf 'quickstart: unknown flag %s\n\n' "$word" >&2; help >&2; exit $EXIT_USAGE ;;
  esac
done
if [ "$json" = yes ] && [ "$down" = yes ]; then
  printf 'quickstart: --json and --down do not go together\n\n' >&2; help >&2; exit $EXIT_USAGE
fi

readonly KEYWHEEL=$ROOT/target/$dist/keywheel

# With --json only the JSON object goes to stdout.
exec 3>&1
if [ "$json" = yes ]; then exec 1>&2; fi

say() { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }
fail() { # CODE WHAT NEXT
  printf '\nquickstart: %s\n  next: %s\n' "$2" "$3" >&2
  exit "$1"
}
explain_failure() { # a command failed that nobody foresaw
  printf '\nquickstart: line %s failed: %s\n' "$1" "$2" >&2
  if [ -s "$UP_LOG" ]; then
    printf '  the last lines of %s:\n' "$UP_LOG" >&2
    tail -n 8 "$UP_LOG" | sed 's/^/    /' >&2
  fi
  printf '  next: read the lines above; `deploy/quickstart.sh --down` removes what was made\n' >&2
}
trap 'explain_failure "$LINENO" "$BASH_COMMAND"' ERR

# --- root -------------------------------------------------------------------

if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 ||
    fail $EXIT_DENIED "this needs root (it starts containers and registers a runtime) and sudo is missing" \
      "run it as root"
  say "quickstart: going on as root by sudo: it installs packages, starts containers and registers a runtime"
  exec sudo env "PATH=$PATH" "KEYWHEEL_QUICKSTART_DIR=${KEYWHEEL_QUICKSTART_DIR:-}" "$0" "$@" 1>&3
fi

# --- removal ----------------------------------------------------------------

docker_answers() { command -v docker >/dev/null 2>&1 && docker info >/dev/null 2>&1; }

# alive PIDFILE NAME: prints the pid when the file's process still is that program.
alive() {
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 1
  [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] && printf '%s' "$pid"
}

stop_process() { # PIDFILE NAME
  local pid i
  pid=$(alive "$1" "$2") || return 0
  kill -TERM "$pid" 2>/dev/null || true
  for ((i = 0; i < STOP_SECONDS * 10; i++)); do
    [ -d "/proc/$pid" ] || return 0
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
}

remove_containers() {
  docker_answers || return 0
  local name
  for name in $C_FILE $C_ENV $C_BARE; do
    docker rm -f "$name" >/dev/null 2>&1 || true
  done
  docker image rm -f "$IMAGE" >/dev/null 2>&1 || true
}

remove_registration() {
  [ -e "$REGISTERED" ] || return 0
  if [ -x "$KEYWHEEL" ]; then
    "$KEYWHEEL" setup docker --undo --yes >/dev/null && return 0
  fi
  say "the runtime registration could not be removed: delete \"keywheel\" and \"keywheel-default\" from"
  say "  \"runtimes\" in /etc/docker/daemon.json and reload Docker"
}

unmount_below() { # DIR: bundles live on a tmpfs of their own
  awk -v dir="$1/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r |
    while read -r mount; do umount "$mount" 2>/dev/null || umount -l "$mount"; done
}

remove_all() {
  remove_containers
  remove_registration
  stop_process "$UP_PID" keywheel
  unmount_below "$RUN"
  if alive "$DOCKERD_PID" dockerd >/dev/null; then
    if [ -z "$(docker ps -q 2>/dev/null)" ]; then
      stop_process "$DOCKERD_PID" dockerd
    else
      say "dockerd (pid $(cat "$DOCKERD_PID")), started by the quickstart, stays: other containers run under it"
    fi
  fi
  # Only what is known to be ours: the directory may have been named by a person.
  rm -rf --one-file-system "$DATA" "$RUN" "$KEYS"
  rm -f "$STATE"/{up.log,up.pid,runtime-registered,dockerd.pid,dockerd.log,made-by-keywheel-quickstart}
  rm -f "$STATE"/{manifest,cron,cron-off}.yaml "$STATE"/{swap,rotation,env,bare}.ms
  rmdir "$STATE" 2>/dev/null || true
}

# A directory that holds something else is nobody's to empty.
claim_state() {
  if [ -d "$STATE" ] && [ ! -e "$MARKER" ] && [ -n "$(ls -A "$STATE")" ]; then
    fail $EXIT_CANNOT_CREATE "$STATE is not empty and was not made by the quickstart" \
      "set KEYWHEEL_QUICKSTART_DIR to an empty or new directory"
  fi
  mkdir -p -m 0755 "$STATE"
  touch "$MARKER"
}

if [ "$down" = yes ]; then
  if [ ! -e "$MARKER" ]; then
    say "quickstart: nothing is here to remove ($STATE)"
    exit 0
  fi
  remove_all
  say "quickstart: all it made is gone ($STATE, $RUN, $KEYS, containers, image, registration)"
  exit 0
fi

# --- what is needed ---------------------------------------------------------

apt_updated=no
apt_install() { # PACKAGES WHY
  say "installing $1: $2"
  command -v apt-get >/dev/null 2>&1 ||
    fail $EXIT_UNAVAILABLE "apt-get is missing, so $1 cannot be installed" "install $1 by hand, then repeat"
  if [ "$apt_updated" = no ]; then
    apt-get update -qq
    apt_updated=yes
  fi
  # shellcheck disable=SC2086 # several packages in one word on purpose
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $1 >/dev/null
}

builder_home() { getent passwd "${SUDO_USER:-root}" | cut -d: -f6; }

need_rust() {
  local home minor
  for home in "${CARGO_HOME:-}" "$HOME/.cargo" "$(builder_home)/.cargo" /usr/local/cargo; do
    if [ -n "$home" ] && [ -x "$home/bin/cargo" ]; then PATH=$PATH:$home/bin; fi
  done
  export PATH
  command -v cargo >/dev/null 2>&1 ||
    fail $EXIT_UNAVAILABLE "Rust is missing: \`cargo\` is not in the PATH" \
      "install Rust 1.$RUST_MINOR or newer with rustup (the Rust website says how), open a new shell, repeat"
  minor=$(cd "$ROOT" && { as_builder cargo --version || true; } | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
  [ "${minor:-0}" -ge $RUST_MINOR ] ||
    fail $EXIT_UNAVAILABLE "cargo 1.$RUST_MINOR or newer is needed; this one says: 1.${minor:-(no version)}" \
      "run \`rustup update\`, or install Rust with rustup, then repeat"
}

need_compiler() {
  if command -v gcc >/dev/null 2>&1 && [ -e /usr/include/stdlib.h ]; then return 0; fi
  apt_install "gcc libc6-dev" "the bundled SQLite is C, and the static helper links the C library"
}

need_busybox() {
  if command -v busybox >/dev/null 2>&1 && ! ldd "$(command -v busybox)" >/dev/null 2>&1; then return 0; fi
  apt_install busybox-static "the containers' image is built from it, without a registry"
}

# A killed daemon leaves its pid file, and when the number was given to another process since, the
# next daemon refuses to start.
forget_dead_daemon() { # NAME PIDFILE
  local pid
  pid=$(cat "$2" 2>/dev/null || true)
  if [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$1" ]; then
    rm -f "$2"
  fi
}

start_dockerd_alone() { # EXTRA FLAGS
  forget_dead_daemon dockerd /var/run/docker.pid
  forget_dead_daemon containerd /var/run/docker/containerd/containerd.pid
  # shellcheck disable=SC2086 # flags are words
  nohup dockerd $1 >>"$DOCKERD_LOG" 2>&1 </dev/null 3>&- &
  local pid=$! i
  printf '%s\n' "$pid" >"$DOCKERD_PID"
  for ((i = 0; i < DOCKERD_SECONDS * 5; i++)); do
    if docker info >/dev/null 2>&1; then return 0; fi
    [ -d "/proc/$pid" ] || return 1
    sleep 0.2
  done
  return 1
}

need_docker() {
  if ! command -v dockerd >/dev/null 2>&1 && ! docker_answers; then
    apt_install docker.io "Docker runs the containers that use the secrets"
  fi
  if docker_answers; then return 0; fi
  if [ -d /run/systemd/system ]; then
    say "starting Docker by systemctl"
    systemctl start docker
    docker_answers && return 0
    fail $EXIT_UNAVAILABLE "Docker does not answer although systemd started it" "see \`journalctl -u docker\`"
  fi
  say "no service manager runs here: starting dockerd in the background (log: $DOCKERD_LOG)"
  start_dockerd_alone "" && return 0
  say "dockerd did not come up; once more without its network (the containers here need none)"
  start_dockerd_alone "--iptables=false --bridge=none" && return 0
  fail $EXIT_UNAVAILABLE "dockerd does not start" "read $DOCKERD_LOG"
}

# The build belongs to the person who owns the tree, not to root; what a run as root left there goes
# back to that person first.
as_builder() {
  if [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ] && [ "$(stat -c %U "$ROOT")" = "$SUDO_USER" ]; then
    if [ -d "$ROOT/target" ]; then chown -hR --from=root "$SUDO_USER:" "$ROOT/target"; fi
    sudo -u "$SUDO_USER" -H env "PATH=$PATH" "$@"
  else
    "$@"
  fi
}

# --- Keywheel ---------------------------------------------------------------

kw() { "$KEYWHEEL" "$@"; }

start_up() {
  mkdir -p -m 0700 "$DATA"
  mkdir -p -m 0755 "$RUN"
  mkdir -p -m 0700 "$KEYS"
  nohup "$KEYWHEEL" up --data-dir "$DATA" --socket "$SOCKET" --unseal-key-file "$UNSEAL_KEY" \
    >"$UP_LOG" 2>&1 </dev/null 3>&- &
  printf '%s\n' "$!" >"$UP_PID"
  local i
  for ((i = 0; i < READY_SECONDS * 10; i++)); do
    if kw status -o json >/dev/null 2>&1; then return 0; fi
    alive "$UP_PID" keywheel >/dev/null || break
    sleep 0.1
  done
  tail -n 8 "$UP_LOG" >&2
  fail $EXIT_FAILED "\`keywheel up\` is not ready after $READY_SECONDS s or has stopped" "read $UP_LOG"
}

register_runtime() {
  if docker info -f '{{range $name, $_ := .Runtimes}}{{println $name}}{{end}}' | grep -qx keywheel; then
    fail $EXIT_CANNOT_CREATE "a runtime named keywheel is registered already, by another Keywheel on this machine" \
      "\`keywheel setup docker --undo\` removes it, if that is what you want"
  fi
  say "registering the runtimes \"keywheel\" and \"keywheel-default\" in Docker's daemon.json and reloading"
  say "dockerd by SIGHUP: no container is touched, the default runtime stays; --down reverts it"
  touch "$REGISTERED"
  kw setup docker --yes
}

build_image() {
  local tree applet
  tree=$(mktemp -d)
  mkdir -p "$tree/bin" "$tree/run/secrets" "$tree/tmp" "$tree/proc" "$tree/dev" "$tree/sys" "$tree/etc"
  cp "$(command -v busybox)" "$tree/bin/busybox"
  for applet in sh cat sleep ls stat test; do ln -s busybox "$tree/bin/$applet"; done
  install_script "$tree/bin/app-file" "$ROOT/deploy/quickstart/app-file"
  install_script "$tree/bin/app-env" "$ROOT/deploy/quickstart/app-env"
  tar -C "$tree" -c . | docker import --change 'CMD ["/bin/app-file"]' - "$IMAGE" >/dev/null
  rm -rf "$tree"
  docker image inspect -f '{{.Id}}' "$IMAGE"
}

install_script() { cp "$2" "$1" && chmod 0755 "$1"; }

# The smallest JSON reader that does: our own output, one key, first match.
json_number() { grep -o "\"$1\": *-\?[0-9][0-9.eE+-]*" | head -n 1 | sed 's/^[^:]*: *//'; }
json_string() { grep -o "\"$1\": *\"[^\"]*\"" | head -n 1 | sed 's/^[^:]*: *"//; s/"$//'; }

apply_manifest() { # TEMPLATE: @HOST@ and @IMAGE@ are replaced
  sed "s|@HOST@|$host|; s|@IMAGE@|$digest|" "$ROOT/deploy/quickstart/$1" >"$STATE/$1"
  kw apply -f "$STATE/$1"
}

current_version() { # SECRET
  kw get secret "$1" -o json 2>/dev/null | json_number current || true
}

wait_current() { # SECRET VERSION SECONDS
  local i version
  for ((i = 0; i < $3 * 5; i++)); do
    version=$(current_version "$1")
    if [ "${version:-0}" -ge "$2" ]; then return 0; fi
    sleep 0.2
  done
  return 1
}

# --- measuring --------------------------------------------------------------

now_ms() { local t=${EPOCHREALTIME/[.,]/}; printf '%s' $((t / 1000)); }

quantile() { # PERCENT, numbers on stdin
  sort -n | awk -v p="$1" '{ v[NR] = $1 } END { i = int((NR * p + 99) / 100); if (i < 1) i = 1; printf "%.3g", v[i] }'
}

rotate_files() {
  local i answer
  : >"$STATE/swap.ms"; : >"$STATE/rotation.ms"
  for ((i = 1; i <= FILE_ROTATIONS; i++)); do
    answer=$(kw rotate quickstart/db-password --wait -o json)
    json_number promoted_to_swapped_ms <<<"$answer" >>"$STATE/swap.ms"
    json_number requested_to_acknowledged_ms <<<"$answer" >>"$STATE/rotation.ms"
    if [ $((i % 30)) -eq 0 ]; then say "  $i of $FILE_ROTATIONS rotations acknowledged"; fi
  done
  [ "$(wc -l <"$STATE/swap.ms")" -eq $FILE_ROTATIONS ] ||
    fail $EXIT_FAILED "a rotation's answer lacked its timings" "read $UP_LOG"
}

# The client's own start-up is no part of a restart: an `inspect` measures it.
bare_restart_ms() {
  local begun middle ended
  begun=$(now_ms); docker inspect "$C_BARE" >/dev/null
  middle=$(now_ms); docker restart "$C_BARE" >/dev/null
  ended=$(now_ms)
  printf '%s\n' $((ended - middle - (middle - begun)))
}

rotate_env() {
  local i
  : >"$STATE/env.ms"; : >"$STATE/bare.ms"
  for ((i = 1; i <= BARE_RESTARTS; i++)); do
    bare_restart_ms >>"$STATE/bare.ms"
    if [ $i -le $ENV_ROTATIONS ]; then
      kw rotate quickstart/api-token --wait -o json | json_number latency_ms >>"$STATE/env.ms"
    fi
  done
  [ "$(wc -l <"$STATE/env.ms")" -eq $ENV_ROTATIONS ] ||
    fail $EXIT_FAILED "a rotation's answer lacked its timings" "read $UP_LOG"
}

# Whether the schedule's rotation ended with every consumer on the new version.
cron_is_done() { [ "$(kw describe rotation quickstart/cron -o json | json_string state)" = completed ]; }

wait_for_cron() {
  local begun left shown=""
  begun=$(date +%s)
  while :; do
    left=$((CRON_PERIOD - $(date +%s) % CRON_PERIOD))
    if [ "$left" != "$shown" ] && { [ -t 1 ] || [ -z "$shown" ] || [ $((left % 5)) -eq 0 ]; }; then
      if [ -t 1 ]; then printf '\r  fires in %2d s ' "$left"; else say "  fires in $left s"; fi
      shown=$left
    fi
    if [ "$(current_version quickstart/cron)" -ge 2 ] 2>/dev/null && cron_is_done; then break; fi
    if [ $(($(date +%s) - begun)) -gt $CRON_PATIENCE ]; then
      fail $EXIT_FAILED "the schedule did not fire, or was not acknowledged, within $CRON_PATIENCE s" "read $UP_LOG"
    fi
    sleep 0.2
  done
  if [ -t 1 ]; then printf '\r'; fi
  say "  the schedule fired: quickstart/cron is at version 2, and its container acknowledged it"
}

# --- the show ---------------------------------------------------------------

step "1/9 What is needed"
claim_state
need_rust
need_compiler
need_busybox
need_docker
say "Rust, a C compiler, busybox and Docker are here"

step "2/9 Build ($profile)"
as_builder "$ROOT/deploy/build.sh" --profile "$profile" --without-injector

step "3/9 Start keywheel up"
if [ -e "$UP_PID" ] || [ -d "$DATA" ]; then
  say "an earlier quickstart is here: it is removed first"
  keep_dockerd=$(cat "$DOCKERD_PID" 2>/dev/null || true)
  rm -f "$DOCKERD_PID"
  remove_all
  claim_state
  if [ -n "$keep_dockerd" ]; then printf '%s\n' "$keep_dockerd" >"$DOCKERD_PID"; fi
fi
start_up
host=$(kw status -o json | json_string host)
[ -n "$host" ] || fail $EXIT_FAILED "\`keywheel status\` names no host" "read $UP_LOG"
say "one process (pid $(cat "$UP_PID")), SQLite in $DATA, socket $SOCKET, host \"$host\""

step "4/9 Register the runtime, build the image"
register_runtime
digest=$(build_image)
say "image $IMAGE is $digest"

step "5/9 Apply a manifest, start the containers"
apply_manifest manifest.yaml
wait_current quickstart/db-password 1 $READY_SECONDS && wait_current quickstart/api-token 1 $READY_SECONDS ||
  fail $EXIT_FAILED "the secrets have no first version" "read $UP_LOG"
docker run -d --name $C_FILE --network none --runtime keywheel --label app=quickstart-file "$IMAGE" /bin/app-file >/dev/null
docker run -d --name $C_ENV --network none --runtime keywheel --label app=quickstart-env \
  -e 'API_TOKEN={keywheel:quickstart/api-token}' "$IMAGE" /bin/app-env >/dev/null
docker run -d --name $C_BARE --network none "$IMAGE" /bin/app-env >/dev/null
say "$C_FILE reads /run/secrets/db_password; $C_ENV reads \$API_TOKEN; $C_BARE (plain runc) is the yardstick"
say "what Docker knows of the environment: $(docker inspect -f '{{range .Config.Env}}{{println .}}{{end}}' $C_ENV | grep API_TOKEN)"

step "6/9 Rotate by command"
rotate_files
docker logs --tail 2 $C_FILE 2>&1 | sed 's/^/  container: /'
say "now the environment's secret: its container restarts in place, same id, gated by 2 s of health"
rotate_env
docker logs --tail 1 $C_ENV 2>&1 | sed 's/^/  container: /'

step "7/9 Rotate by schedule (every $CRON_PERIOD s, for the show)"
apply_manifest cron.yaml
wait_current quickstart/cron 1 $READY_SECONDS || fail $EXIT_FAILED "quickstart/cron has no first version" "read $UP_LOG"
wait_for_cron
apply_manifest cron-off.yaml

step "8/9 Who holds which version; then revoke"
kw consumers
revoked=$(kw revoke quickstart/db-password --reason "the quickstart shows a revoke" --yes --wait -o json)
revoke_ms=$(json_number withdrawn_ms <<<"$revoked" | quantile 50)
if docker exec $C_FILE test -e /run/secrets/db_password; then
  fail $EXIT_FAILED "the file is still there after the revoke" "read $UP_LOG"
fi
say "revoked: the file is gone from the container, ${revoke_ms} ms after the request"
kw consumers

step "9/9 Verify"
kw journal verify
verified=$(kw audit verify -o json)
records=$(json_number records <<<"$verified")
grep -q '"verified": *true' <<<"$verified" || fail $EXIT_FAILED "the audit does not verify" "run \`keywheel audit verify\`"
say "audit: $records records, each in the tree whose root is signed, checked outside the server"

swap50=$(quantile 50 <"$STATE/swap.ms") swap99=$(quantile 99 <"$STATE/swap.ms")
rot50=$(quantile 50 <"$STATE/rotation.ms") rot99=$(quantile 99 <"$STATE/rotation.ms")
env_ms=$(quantile 50 <"$STATE/env.ms") bare_ms=$(quantile 50 <"$STATE/bare.ms")
ratio=$(awk -v a="$env_ms" -v b="$bare_ms" 'BEGIN { printf "%.2f", a / (b > 0 ? b : 1) }')
# One line per rotation that was acknowledged; the last is the schedule's.
rotations=$(($(cat "$STATE/swap.ms" "$STATE/env.ms" | wc -l) + 1))

printf '\n%-58s %10s %10s\n' "measured, in milliseconds" "p50" "p99"
printf '%-58s %10s %10s\n' "file: promote committed -> new file in the container" "$swap50" "$swap99"
printf '%-58s %10s %10s\n' "file: requested -> acknowledged by the container" "$rot50" "$rot99"
printf '%-58s %10s\n' "env: promote committed -> new process runs" "$env_ms"
printf '%-58s %10s   (x %s)\n' "     a bare docker restart of the same image" "$bare_ms" "$ratio"
printf '%-58s %10s\n' "revoke: requested -> gone from the container" "$revoke_ms"
say "$rotations rotations acknowledged, $records audit records verified"
say ""
say "It still runs. Look around:"
say "  export KEYWHEEL_ADDRESS=$KEYWHEEL_ADDRESS"
say "  $KEYWHEEL status            (or consumers, events list, audit list, describe secret NAME)"
say "Remove all of it:"
say "  ${KEYWHEEL_QUICKSTART_DIR:+KEYWHEEL_QUICKSTART_DIR=$KEYWHEEL_QUICKSTART_DIR }deploy/quickstart.sh --down"

if [ "$json" = yes ]; then
  printf '{"rotations":%s,"file_swap_ms":{"p50":%s,"p99":%s},"rotation_ms":{"p50":%s,"p99":%s},"env_restart_ms":%s,"env_restart_vs_docker_restart":%s,"revoke_ms":%s,"audit":{"records":%s,"verified":true},"socket":"%s"}\n' \
    "$rotations" "$swap50" "$swap99" "$rot50" "$rot99" "$env_ms" "$ratio" "$revoke_ms" "$records" "$SOCKET" >&3
fi
