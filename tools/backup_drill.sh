#!/usr/bin/env bash
# Takes a backup, restores it into a fresh database, and verifies it there. The fresh database is removed afterwards, and
# so is the backup; the database itself is only read.
#
#   tools/backup_drill.sh sqlite:DIR            needs sqlite3
#   tools/backup_drill.sh postgres://…          needs pg_dump, pg_restore, psql; the role must be allowed to create databases
#   tools/backup_drill.sh mysql://…             needs mariadb-dump, mariadb; the user must be allowed to create databases
#
# ALPES names the binary when it is not on the PATH.
set -euo pipefail
url=${1:?usage: backup_drill.sh sqlite:DIR, postgres://… or mysql://…}
alpes=${ALPES:-alpes}
work=$(mktemp -d)
fresh="alpes_drill_$$"
undo() { :; }
trap 'undo; rm -rf "$work"' EXIT

case $url in
sqlite:*)
  directory=${url#sqlite:}
  sqlite3 "$directory/alpes.db" ".backup $work/alpes.db"
  "$alpes" verify --data "$work"
  ;;
postgres://* | postgresql://*)
  pg_dump --format=custom --file "$work/backup" "$url"
  psql --quiet --no-psqlrc "$url" --command "CREATE DATABASE $fresh"
  undo() { psql --quiet --no-psqlrc "$url" --command "DROP DATABASE IF EXISTS $fresh WITH (FORCE)"; }
  restored="${url%/*}/$fresh"
  pg_restore --no-owner --dbname "$restored" "$work/backup"
  ALPES_DATABASE="$restored" "$alpes" verify
  ;;
mysql://*)
  if [[ ! $url =~ ^mysql://([^:@/]+):([^@/]*)@([^:/]+)(:([0-9]+))?/([^/?]+)$ ]]; then
    echo "backup_drill.sh: expected mysql://user:password@host:port/database" >&2
    exit 2
  fi
  export MYSQL_PWD=${BASH_REMATCH[2]}
  server=(--user="${BASH_REMATCH[1]}" --host="${BASH_REMATCH[3]}" --port="${BASH_REMATCH[5]:-3306}" --protocol=tcp)
  # One consistent view; binary columns as text that every client reads back alike.
  mariadb-dump "${server[@]}" --single-transaction --hex-blob "${BASH_REMATCH[6]}" > "$work/backup"
  # The table's character set and collation come with the dump, the database's own with this.
  mariadb "${server[@]}" --execute "CREATE DATABASE $fresh"
  undo() { mariadb "${server[@]}" --execute "DROP DATABASE IF EXISTS $fresh"; }
  mariadb "${server[@]}" "$fresh" < "$work/backup"
  ALPES_DATABASE="${url%/*}/$fresh" "$alpes" verify
  ;;
*)
  echo "backup_drill.sh: it begins with none of sqlite:, postgres:// and mysql://" >&2
  exit 2
  ;;
esac
echo "The backup was restored and verifies."
