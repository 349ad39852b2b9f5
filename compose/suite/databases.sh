#!/bin/sh
# Run by the image of PostgreSQL once, on an empty volume: a database and a login for each, none of which may enter another's.
set -eu

database() {
    psql --no-psqlrc --set=ON_ERROR_STOP=1 --username postgres --set=name="$1" --set=password="$2" <<SQL
CREATE ROLE :"name" LOGIN ${3:-} PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name" TEMPLATE template0 ENCODING 'UTF8' LOCALE '${4:-C.UTF-8}';
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

# The owner makes the two logins that serve (docs/OPERATIONS.md).
database chancery "$CHANCERY_OWNER_PASSWORD" CREATEROLE
database keycloak "$KEYCLOAK_DATABASE_PASSWORD"
database chatwoot "$CHATWOOT_DATABASE_PASSWORD"
# Synapse takes no other collation than C.
database synapse "$SYNAPSE_DATABASE_PASSWORD" "" C

# Chatwoot's migrations want these, and its login may not make all of them.
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username postgres --dbname chatwoot <<'SQL'
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS pgcrypto;
CREATE EXTENSION IF NOT EXISTS vector;
SQL
