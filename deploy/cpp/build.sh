#!/usr/bin/env bash
# Builds the C++ programs against the torch of this Python; PYTHON names another, BUILD a folder, JOBS how many at once.
set -euo pipefail
cd "$(dirname "$0")"
build=${BUILD:-$PWD/build}
torch=$("${PYTHON:-python3}" -c 'import importlib.util; print(importlib.util.find_spec("torch").submodule_search_locations[0])')
generator=()
if command -v ninja > /dev/null; then generator=(-G Ninja); fi
cmake -S . -B "$build" "${generator[@]}" -DTORCH_FOLDER="$torch" > "$build.log" || { cat "$build.log"; exit 1; }
cmake --build "$build" --parallel "${JOBS:-2}"
