#!/usr/bin/env bash
# The storage commands of the users' guide, by make: set up, test, back up, look, clean up, list, restore.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/persistent_data
fail() { echo "guide_check.sh: $*" >&2; exit 1; }
storage() { # TARGET [VARIABLE…]: runs `make storage-TARGET` on the volume, and keeps what it says
  make --no-print-directory "storage-$1" ROOT="$root" "${@:2}" >"$work/said" 2>&1 </dev/null || { cat "$work/said" >&2; fail "make storage-$1 failed"; }
}
says() { grep -qF -- "$1" "$work/said" || { cat "$work/said" >&2; fail "'$1' was not said"; }; }

storage setup
storage test
says '✓'
storage backup
says '✅ Backup completed successfully!'
archive=$(sed -n 's|.*File: backups/||p' "$work/said")
[ -f "$root/backups/$archive" ] || fail "backups/$archive is not there"
storage monitor
for part in 'Data Usage Report' 'Overall Disk Usage' 'Directory Breakdown' 'Recent Activity' 'Data Health Check' '1 backup(s) available' "$archive"; do
  says "$part"
done
touch -d '2 days ago' "$root/ml_cache/old"
storage cleanup
[ ! -e "$root/ml_cache/old" ] || fail 'the old cache file is still there'
storage restore
says "$archive"

# A restore asks. Without a terminal it refuses and changes nothing; at one, the answer decides.
before=$(sha256sum "$root/config/ml_config.json")
echo '{}' >"$root/config/ml_config.json"
if make --no-print-directory storage-restore ROOT="$root" BACKUP="$archive" >"$work/said" 2>&1 </dev/null; then
  fail 'a restore went on without an answer'
fi
says '--yes'
[ "$(cat "$root/config/ml_config.json")" = '{}' ] || fail 'a restore without an answer changed the volume'
answer() { echo "$1" | script -qec "make --no-print-directory storage-restore ROOT='$root' BACKUP='$archive'" /dev/null >"$work/said" 2>&1; }
answer no || true
[ "$(cat "$root/config/ml_config.json")" = '{}' ] || { cat "$work/said" >&2; fail "'no' was taken for yes"; }
answer yes || { cat "$work/said" >&2; fail 'the restore failed'; }
[ "$(sha256sum "$root/config/ml_config.json")" = "$before" ] || { cat "$work/said" >&2; fail 'the restore did not bring the file back'; }
echo "the guide's make targets do what it says"
