#!/usr/bin/env bash
# The old way of streaming over IPFS, brought up to date: what ffmpeg's HLS muxer has finished is added to Kubo, segment by segment,
# and so is a playlist that names them, whose address is published under the node's name. Until it is killed.
#
#   old-way.sh DIR IPFS    DIR has what ffmpeg writes (live.m3u8, init.mp4, …); IPFS is the program, and IPFS_PATH its repository
#
# As it was: one `ipfs add` a segment, a loop that watches ffmpeg's playlist. Better than it was: it looks at all new lines and not at
# the last one only, the playlist has a window and is never half written, IPNS goes over PubSub, and looking costs no process.
set -euo pipefail
cd "$1"
ipfs=$2
window=30

add() { "$ipfs" add -Q --cid-version=1 "$1"; }

declare -A known
lines=() # of the segments so far, two each
first=0  # number of the oldest in the window
map=
exec {never}<> <(:)
while true; do
    # Built into the shell, unlike sleep.
    read -rt 0.05 -u "$never" || true
    [ live.m3u8 -nt seen ] || continue
    touch -r live.m3u8 seen
    extinf= new=
    while IFS= read -r line; do
        case $line in
            '#EXT-X-TARGETDURATION:'*) target=$line ;;
            '#EXT-X-MAP:'*) [ -n "$map" ] || map="#EXT-X-MAP:URI=\"/ipfs/$(add init.mp4)\"" ;;
            '#EXTINF:'*) extinf=$line ;;
            '#'*) ;;
            *)
                if [ -n "$line" ] && [ -z "${known[$line]:-}" ]; then
                    known[$line]=yes new=yes
                    lines+=("$extinf" "/ipfs/$(add "$line")")
                    if [ ${#lines[@]} -gt $((2 * window)) ]; then
                        lines=("${lines[@]:2}")
                        first=$((first + 1))
                    fi
                fi
                ;;
        esac
    done <live.m3u8
    [ -n "$new" ] || continue
    printf '%s\n' '#EXTM3U' '#EXT-X-VERSION:7' "$target" "#EXT-X-MEDIA-SEQUENCE:$first" "$map" "${lines[@]}" >ipfs.m3u8
    "$ipfs" name publish -Q --resolve=false --allow-offline --ttl=2s "/ipfs/$(add ipfs.m3u8)" >/dev/null
done
