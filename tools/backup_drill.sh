#!/usr/bin/env bash
# Takes a backup, restores it into a fresh database, and verifies it there. The fresh database is removed when all is well.
#
#   tools/backup_drill.sh sqlite:DIR            needs sqlite3
#   tools/backup_drill.sh postgres://…          needs pg_dump, pg_restore, psql; the role must be allowed to create databases
#
# ALPES names the binary when it is not on the PATH.
set -euo pipefail
url=${1:?usage: backup_drill.sh sqlite:DIR or postgres://…}
alpes=${ALPES:-alpes}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case $url in
sqlite:*)
  directory=${url#sqlite:}
  sqlite3 "$directory/alpes.db" ".backup $work/alpes.db"
  "$alpes" verify --data "$work"
  ;;
postgres://* | postgresql://*)
  fresh="alpes_drill_$$"
  pg_dump --format=custom --file "$work/backup" "$url"
  psql --quiet "$url" --command "CREATE DATABASE $fresh"
  trap 'psql --quiet "$url" --command "DROP DATABASE IF EXISTS $fresh"; rm -rf "$work"' EXIT
  restored="${url%/*}/$fresh"
  pg_restore --no-owner --dbname "$restored" "$work/backup"
  ALPES_DATABASE="$restored" "$alpes" verify
  ;;
*)
  echo "backup_drill.sh: it begins with neither sqlite: nor postgres://" >&2
  exit 2
  ;;
esac
echo "The backup was restored and verifies."
