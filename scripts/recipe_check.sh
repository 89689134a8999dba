#!/usr/bin/env bash
# The shell recipes of docs/archive-format.md give back what was backed up, without our program.
#
#   recipe_check.sh PREDICTOR
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
predictor=$(realpath "$1")
scripts/packages.sh jq=jq age=age diff=diffutils
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
volume=$work/volume

recipe() { # NAME: the code block that follows its mark
  awk -v mark="<!-- recipe: $1 -->" '$0 == mark {on = 1; next} on && /^```$/ {exit} on && !/^```/' docs/archive-format.md
}
run() { # NAME: runs it with the variables of the page
  recipe "$1" >"$work/$1.sh"
  [ -s "$work/$1.sh" ] || { echo "docs/archive-format.md has no recipe '$1'" >&2; exit 1; }
  export full incremental encrypted key out
  bash -euo pipefail "$work/$1.sh"
}
backup() { "$predictor" storage backup --root "$volume" "$@" >"$work/log" 2>&1 || [ $? -eq 3 ] || { cat "$work/log" >&2; exit 1; }; }
newest() { find "$1" -maxdepth 1 -name "stock_prediction_backup_*$2" | sort | tail -n 1; }
same() { # NAME: the recipe's result is the volume
  diff -r --no-dereference -x backups -x .stockpredictor -x monitoring "$volume" "$out"
  local left right
  left=$(cd "$volume" && find . \( -path ./backups -o -path ./.stockpredictor -o -path ./monitoring \) -prune -o -printf '%P %y %m %T@ %l\n' | tail -n +2 | sort)
  right=$(cd "$out" && find . -printf '%P %y %m %T@ %l\n' | tail -n +2 | sort)
  diff <(echo "$left") <(echo "$right")
  echo "recipe '$1': the same tree"
}

"$predictor" storage setup --root "$volume" --samples >/dev/null
odd="$volume/config/a \"quoted\" name"$'\n\xff'
echo x >"$odd"
mkdir "$volume/notes"
echo x >"$volume/notes/becomes a link"
echo x >"$volume/notes/becomes a directory"
mkdir -p "$volume/notes/becomes a file/with content"
backup
full=$(newest "$volume/backups" .tar.gz)
out=$work/full
run full
same full

rm -rf "$odd" "$volume/scalers/feature_scalers" "$volume"/notes/*
ln -s ../config "$volume/notes/becomes a link"
mkdir "$volume/notes/becomes a directory"
echo y >"$volume/notes/becomes a directory/new"
echo y >"$volume/notes/becomes a file"
echo y >"$volume/config/"$'new \xfe'
backup --mode incremental
incremental=$(newest "$volume/backups" .tar.gz)
[ "$incremental" != "$full" ]
out=$work/incremental
run incremental
same incremental

key=$work/key.txt
age-keygen -o "$key" 2>/dev/null
mkdir "$work/encrypted"
backup --destination "$work/encrypted" --encrypt-to "$(age-keygen -y "$key")"
encrypted=$(newest "$work/encrypted" .tar.gz.age)
full=$work/decrypted.tar.gz
run encrypted
out=$work/from-encrypted
run full
same encrypted
