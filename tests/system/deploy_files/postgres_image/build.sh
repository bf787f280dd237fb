#!/bin/sh
# An image of the PostgreSQL that is installed on this machine, without a registry. It keeps as much of the
# official image's contract as deploy/compose.yaml relies on: variables, paths, owners.
#
#   build.sh TAG
set -eu

here=$(cd "$(dirname "$0")" && pwd)
programs=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin | sort -V | tail -n 1)
version=$(basename "$(dirname "$programs")")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"

mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/proc" "$root/dev" "$root/sys" "$root/run/secrets" \
    "$root/run/postgresql" "$root/var/lib/postgresql/data" "$root/docker-entrypoint-initdb.d" "$root/usr/local/bin"
ln -s ../run "$root/var/run"
cp /bin/busybox "$root/bin/"
for applet in sh cat mkdir; do ln -s busybox "$root/bin/$applet"; done
cp "$here/entrypoint.sh" "$root/usr/local/bin/docker-entrypoint.sh"
chmod 0755 "$root/usr/local/bin/docker-entrypoint.sh"
# Whoever runs a server has to have a name.
echo 'postgres:x:65532:65532::/var/lib/postgresql:/bin/sh' >"$root/etc/passwd"

# Without the compiler of queries: it is a hundred megabytes of libraries, and the server does without.
mkdir -p "$root/usr/lib/postgresql/$version/lib" "$root/usr/share/postgresql" "$root/usr/share/zoneinfo"
cp -R "$programs" "$root/usr/lib/postgresql/$version/"
for library in plpgsql dict_snowball; do
    cp "/usr/lib/postgresql/$version/lib/$library.so" "$root/usr/lib/postgresql/$version/lib/"
done
cp -R "/usr/share/postgresql/$version" "$root/usr/share/postgresql/"
# Clients set their time zone by name.
cp -L /usr/share/zoneinfo/UTC "$root/usr/share/zoneinfo/"
for program in postgres initdb pg_ctl psql; do ldd "$programs/$program"; done |
    sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' | sort -u |
    while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done

# As the official image has them: anybody may be told to run it.
chown 999:999 "$root/run/postgresql" "$root/var/lib/postgresql/data"
chmod 3777 "$root/run/postgresql"
chmod 1777 "$root/var/lib/postgresql/data"
tar -C "$root" -cf - . | docker import \
    --change "ENV PATH=/usr/lib/postgresql/$version/bin:/usr/local/bin:/bin" \
    --change 'ENTRYPOINT ["docker-entrypoint.sh"]' --change 'CMD ["postgres"]' - "$1"
