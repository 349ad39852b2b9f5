#!/bin/sh
# Makes what compose.yaml needs: `.env` with names and secrets, and `generated/` with the files that have secrets in them.
#
#     compose/setup.sh example.org [mail@example.org]
#
# What is there already stays as it is, so that it can be run again: after an update it adds what is new. It prints no secret.
# It needs openssl and jq, and no network.
set -eu
umask 077
cd "$(dirname "$0")"

say() { printf '%s\n' "$*" >&2; }
die() {
    say "setup.sh: $*"
    exit 1
}
for tool in openssl jq sed; do
    command -v "$tool" >/dev/null || die "$tool is missing: install it first"
done

target=${SUITE_DIRECTORY:-.}
mkdir -p "$target"
env_file=$target/.env
[ -e "$env_file" ] || : >"$env_file"
chmod 600 "$env_file"

# What a setting is; empty where it isn't there.
value() { sed -n "s/^$1=//p" "$env_file" | tail -n 1; }
# Adds a setting unless it is there.
setting() {
    grep -q "^$1=" "$env_file" || printf '%s=%s\n' "$1" "$2" >>"$env_file"
}
# Adds a secret of 32 random bytes unless it is there: hexadecimal, so that it may stand in an address.
secret() { setting "$1" "$(openssl rand -hex 32)"; }

domain=${1:-$(value DOMAIN)}
case $domain in
"") die "say under which domain: $0 example.org" ;;
*[!a-z0-9.-]* | .* | *. | -*) die "$domain is no domain in small letters" ;;
esac
setting DOMAIN "$domain"
[ "$(value DOMAIN)" = "$domain" ] || die "this is the setup of $(value DOMAIN); another domain needs another directory"
setting ACME_EMAIL "${2:-admin@$domain}"
setting CHANCERY_HOST "chancery.$domain"
setting KEYCLOAK_HOST "id.$domain"
setting CHATWOOT_HOST "chat.$domain"
setting MATRIX_HOST "matrix.$domain"
# It stands in everybody's id and can't be changed later.
setting MATRIX_SERVER_NAME "$domain"
setting ELEMENT_HOST "element.$domain"
setting JITSI_HOST "meet.$domain"
# As whom Chancery and Synapse run: nobody in particular, or who has called this, for whom the files are.
if [ "$(id -u)" = 0 ]; then
    setting SUITE_UID 10001
    setting SUITE_GID 10001
else
    setting SUITE_UID "$(id -u)"
    setting SUITE_GID "$(id -g)"
fi

for name in POSTGRES_PASSWORD CHANCERY_OWNER_PASSWORD CHANCERY_APP_PASSWORD CHANCERY_WORKER_PASSWORD \
    KEYCLOAK_DATABASE_PASSWORD KEYCLOAK_ADMIN_PASSWORD CHATWOOT_DATABASE_PASSWORD CHATWOOT_REDIS_PASSWORD \
    CHATWOOT_SECRET_KEY_BASE SYNAPSE_DATABASE_PASSWORD SYNAPSE_OIDC_SECRET SYNAPSE_MACAROON_SECRET SYNAPSE_FORM_SECRET \
    REDIS_PASSWORD CHANCERY_SHELL_SECRET CHANCERY_SYNC_SECRET MATRIX_AS_TOKEN MATRIX_HS_TOKEN \
    JITSI_RESERVATION_SECRET JICOFO_AUTH_PASSWORD JVB_AUTH_PASSWORD; do
    secret "$name"
done
# What only Chatwoot can give, once somebody has signed in there (README.md), and what is the operator's.
for name in CHATWOOT_URL CHATWOOT_TOKEN CHATWOOT_BOT_TOKEN CHATWOOT_PLATFORM_TOKEN JVB_ADVERTISE_IPS \
    SMTP_ADDRESS SMTP_USERNAME SMTP_PASSWORD MAILER_SENDER_EMAIL; do
    setting "$name" ""
done

# Writes a file unless it is there, whole or not at all.
file() {
    path=$target/generated/$1
    if [ -e "$path" ]; then
        cat >/dev/null
        return
    fi
    cat >"$path.new"
    [ -s "$path.new" ] || die "nothing came of $1"
    mv "$path.new" "$path"
}
# A template with names and secrets put in. None of them has a character that means something to sed.
fill() {
    pattern=$(value MATRIX_SERVER_NAME | sed 's/\./\\\\\\\\./g')
    script="s/@MATRIX_SERVER_NAME_PATTERN@/$pattern/g"
    for name in MATRIX_SERVER_NAME MATRIX_HOST ELEMENT_HOST KEYCLOAK_HOST JITSI_HOST SYNAPSE_DATABASE_PASSWORD \
        SYNAPSE_OIDC_SECRET SYNAPSE_MACAROON_SECRET SYNAPSE_FORM_SECRET MATRIX_AS_TOKEN MATRIX_HS_TOKEN; do
        script="$script;s/@$name@/$(value "$name")/g"
    done
    sed "$script" "suite/$1"
}

mkdir -p "$target/generated/chancery" "$target/generated/synapse"
openssl rand -base64 32 | file chancery/master.key
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 2>/dev/null | file chancery/jitsi.pem
fill homeserver.yaml | file synapse/homeserver.yaml
fill registration.yaml | file synapse/chancery.yaml
fill log.yaml | file synapse/log.yaml
# An Ed25519 key as Synapse writes it: its version, and 32 bytes in base64 without padding.
printf 'ed25519 a_1 %s\n' "$(openssl rand -base64 32 | tr -d '=')" | file synapse/signing.key
fill element.json | file element.json
realm() {
    for name in CHANCERY_HOST MATRIX_HOST CHANCERY_SHELL_SECRET CHANCERY_SYNC_SECRET SYNAPSE_OIDC_SECRET; do
        export "$name=$(value "$name")"
    done
    jq --from-file suite/realm.jq ../keycloak/realm-chancery.json
}
realm | file realm.json

chmod 600 "$env_file"
find "$target/generated" -type d -exec chmod 700 {} +
find "$target/generated" -type f -exec chmod 600 {} +
# Element's has no secret in it, and its image runs as somebody else.
chmod 644 "$target/generated/element.json"
chmod 711 "$target/generated"
if [ "$(id -u)" = 0 ]; then
    chown -R "$(value SUITE_UID):$(value SUITE_GID)" "$target/generated/chancery" "$target/generated/synapse" "$target/generated/realm.json"
fi
say "$env_file and $target/generated are complete."
