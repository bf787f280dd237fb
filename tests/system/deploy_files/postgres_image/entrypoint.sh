#!/bin/sh
# What deploy/compose.yaml uses of the official image's entrypoint: at the first start a cluster is made,
# with the superuser's password from a file, and what lies in /docker-entrypoint-initdb.d is run; then,
# and at every later start, the server takes the place of this shell.
set -eu

if [ "$1" != postgres ]; then exec "$@"; fi
: "${PGDATA:?name the directory of the cluster}"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD_FILE:?name the file of the password}"
    # shellcheck disable=SC2086 # several words on purpose
    initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" ${POSTGRES_INITDB_ARGS:-} -D "$PGDATA"
    # For the socket alone, so that what is run at the first start meets nobody.
    pg_ctl -w -D "$PGDATA" -o "-c listen_addresses=''" start
    for file in /docker-entrypoint-initdb.d/*.sql; do
        PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE") psql --set ON_ERROR_STOP=1 --no-psqlrc --no-password \
            --username postgres --dbname postgres --file "$file"
    done
    pg_ctl -w -m fast -D "$PGDATA" stop
fi
exec "$@"
