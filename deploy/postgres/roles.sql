-- Databases for journal and cache, and their users, each with its own database and nothing else.
-- For psql, as a superuser; may be run again. Passwords come from what `keywheel init --database` made:
--   psql ADMIN --file deploy/postgres/roles.sql --file DEPLOYMENT/postgres/passwords.sql
\set ON_ERROR_STOP on
SET client_min_messages = warning;

SELECT 'CREATE ROLE ' || name FROM (VALUES ('keywheel_journal'), ('keywheel_cache')) AS wanted (name)
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
-- A gateway or a store-sync keeps at most a handful of connections; forty are room for several of each.
ALTER ROLE keywheel_journal LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  NOINHERIT CONNECTION LIMIT 40;
ALTER ROLE keywheel_cache LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  NOINHERIT CONNECTION LIMIT 40;

-- The databases stay with the administrator: their users cannot drop, rename or hand them on.
SELECT 'CREATE DATABASE ' || name || ' TEMPLATE template0 ENCODING ''UTF8'''
  FROM (VALUES ('keywheel_journal'), ('keywheel_cache')) AS wanted (name)
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec

-- Each makes a schema of its own at its first start; a journal's user never sees the cache.
REVOKE ALL ON DATABASE keywheel_journal FROM PUBLIC;
REVOKE ALL ON DATABASE keywheel_cache FROM PUBLIC;
GRANT CONNECT, CREATE ON DATABASE keywheel_journal TO keywheel_journal;
GRANT CONNECT, CREATE ON DATABASE keywheel_cache TO keywheel_cache;

-- What is acknowledged is on the disk, whatever the server's default is.
ALTER ROLE keywheel_journal SET synchronous_commit = 'on';
ALTER ROLE keywheel_cache SET synchronous_commit = 'on';
