# Sourced by the scripts beside it. They run from the root of the checkout, where make starts them.

# One short line on what happens now, numbered where a make target sets STEP.
say() { printf '%s%s\n' "${STEP:+[$STEP] }" "$*" >&2; }

# One line on what is wrong and what to do, then stop.
stop() { printf 'podium: %s\n' "$*" >&2; exit 2; }

have() { command -v "$1" >/dev/null 2>&1; }

# npm_ci DIR WHAT: the packages of DIR's lock file, fetched only when that file changed since the last time. The stamp lies
# inside node_modules, so that it goes when they go.
npm_ci() {
    local dir=$1 what=$2 stamp=$1/node_modules/.podium-lock lock
    lock=$(sha256sum <"$dir/package-lock.json")
    if [ "$(cat "$stamp" 2>/dev/null)" = "$lock" ]; then return; fi
    say "fetching $what from npm (about a minute)"
    (cd "$dir" && npm ci --no-fund --no-audit --loglevel=error)
    # Debian 12's npm 9 drops this link while it discards the other architecture's Node.
    local node
    for node in "$dir"/node_modules/node-linux-*/bin/node; do
        if [ -x "$node" ]; then ln -sf "../${node#"$dir"/node_modules/}" "$dir/node_modules/.bin/node"; fi
    done
    printf '%s\n' "$lock" >"$stamp"
}

# Puts a Node that can build the web pages (Vite asks for 20.19) first on PATH. Debian 12's is 18, and its npm leaves out
# what an older Node could not run, so both come from the npm registry there.
modern_node() {
    if [ "$(printf '%s\n' v20.19 "$(node --version)" | sort -V | head -n1)" = v20.19 ]; then return; fi
    npm_ci tests/setup/node "a newer Node ($(node --version) is too old)"
    PATH=$PWD/tests/setup/node/node_modules/.bin:$PATH
}
