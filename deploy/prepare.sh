#!/bin/sh
# Makes what the sample federation needs before it starts and what no repository may hold: passwords (.env) and
# certificates. What is there already stays as it is, so that it can be run again.
#   deploy/prepare.sh [FOLDER]       FOLDER is deploy/ itself when left out
# KX names the command to use; by default that of `make setup`, else the one on PATH.
set -eu
umask 077

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here}
kx=${KX:-$here/../.venv/bin/kx}
[ -x "$kx" ] || kx=$(command -v kx) || { echo 'no kx: run `make setup` first' >&2; exit 1; }
mkdir -p "$out"

if [ ! -e "$out/.env" ]; then
    while IFS= read -r line; do
        case $line in
            KX_*=) printf '%sk%s\n' "$line" "$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')" ;;
            *) printf '%s\n' "$line" ;;
        esac
    done < "$here/env.example" > "$out/.env.new"
    mv "$out/.env.new" "$out/.env"
    echo "made $out/.env"
fi

[ -e "$out/authority/ca.key" ] || "$kx" pki init "$out/authority" --name 'Kuaixiang sample federation'

certificate() {
    folder=$out/certificates/$1
    shift
    [ -e "$folder/tls.key" ] || "$kx" pki issue "$out/authority" --out "$folder" "$@"
}
certificate node-000000 --bureau 000000
certificate node-110000 --bureau 110000 --bureau 110101 --bureau 110102 --bureau 110108
certificate node-330000 --bureau 330000 --bureau 330100 --bureau 330102 --bureau 330106
certificate hub-000000 --hub 000000
# The host is how the provinces dial the national site.
certificate nats-000000 --nats 000000 --host nats-hq
certificate nats-110000 --nats 110000
certificate nats-330000 --nats 330000
# For whoever sits at a terminal: `kx case` and `kx hub` show it.
certificate office-000000 --office 000000
certificate office-110000 --office 110000 --office 110101 --office 110102 --office 110108
certificate office-330000 --office 330000 --office 330100 --office 330102 --office 330106

# The containers run as user 10001, who must be able to read the keys that are mounted. What is for people stays theirs.
if [ "$(id -u)" = 0 ]; then
    chmod 755 "$out/certificates"
    chown -R 10001:10001 "$out"/certificates/node-* "$out"/certificates/hub-*
    # nats-server runs as root in its image.
    if [ -n "${SUDO_UID:-}" ]; then
        chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$out/.env" "$out/authority" "$out"/certificates/office-*
    fi
else
    echo "now give the keys to the containers' user, as root:"
    echo "  chmod 755 $out/certificates && chown -R 10001:10001 $out/certificates/node-* $out/certificates/hub-*"
fi
