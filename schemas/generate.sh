#!/bin/sh
# Makes transport/peer/wire/ from peer.proto. `sh schemas/generate.sh --check` only says whether they agree.
set -eu
cd "$(dirname "$0")/.."
out=transport/peer/wire
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
flags="-t static-module -w es6 --force-number --no-create --no-verify --no-convert --no-delimited --no-typeurl --no-service --no-beautify"
# The typings come out of the comments; the code that ships needs none.
npx --no-install pbjs $flags -o "$new/documented.js" schemas/peer.proto
npx --no-install pbts -o "$new/peer.d.ts" "$new/documented.js"
npx --no-install pbjs $flags --no-comments -o "$new/peer.js" schemas/peer.proto
if [ "${1:-}" = --check ]; then
  cmp "$new/peer.js" "$out/peer.js" && cmp "$new/peer.d.ts" "$out/peer.d.ts"
else
  mkdir -p "$out" && cp "$new/peer.js" "$new/peer.d.ts" "$out/"
fi
