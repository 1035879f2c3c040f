import { expect, test } from "vitest";
import { extentOf, firstUri, PlaylistGuard, StandingEnds, startingAt } from "../src/playlist";

function playlist(mediaSequence: number, segments: number, extra = ""): string {
  const head = `#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:${mediaSequence}\n${extra}`;
  return head + "#EXTINF:2.0,\nseg.m4s\n".repeat(segments);
}

const MULTIVARIANT = '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=3000000\nvideo.m3u8\n';

test("without hls.js only what comes after the picture was found standing is new", () => {
  const ends = new StandingEnds();
  const look = (box: number, ipfs: number) => [ends.hasNews("box", box), ends.hasNews("ipfs", ipfs)];
  expect(look(100, 97)).toEqual([false, false]);
  // The copy has come to where the box was.
  expect(look(100, 100)).toEqual([false, false]);
  expect(look(101, 100)).toEqual([true, false]);
  // Loaded again, and nothing has moved.
  expect(look(101, 101)).toEqual([true, true]);
  ends.clear();
  expect(look(101, 101)).toEqual([false, false]);
});

test("extent", () => {
  const rows: [string, ReturnType<typeof extentOf>][] = [
    [playlist(572, 6), { mediaSequence: 572, end: 578 }],
    [playlist(572, 6).replaceAll("\n", "\r\n"), { mediaSequence: 572, end: 578 }],
    [playlist(10, 2, "#EXT-X-SKIP:SKIPPED-SEGMENTS=4\n"), { mediaSequence: 10, end: 16 }],
    ["#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na\n", { mediaSequence: 0, end: 1 }],
    [MULTIVARIANT, null],
    ["<html>not found</html>", null],
    ["", null],
  ];
  for (const [text, extent] of rows) expect(extentOf(text)).toEqual(extent);
});

test("what goes back is replaced by the newest seen, and leaves no trace", () => {
  const guard = new PlaylistGuard();
  const url = "/live/video.m3u8";
  const rows: [string, string][] = [
    [playlist(542, 6), playlist(542, 6)],
    [playlist(572, 6), playlist(572, 6)],
    [playlist(542, 6), playlist(572, 6)],
    // The same start with fewer segments is older too: an EVENT playlist never moves its start.
    [playlist(572, 5), playlist(572, 6)],
    [playlist(573, 6), playlist(573, 6)],
    [MULTIVARIANT, MULTIVARIANT],
    ["", ""],
  ];
  for (const [loaded, passed] of rows) expect(guard.pass(url, loaded)).toBe(passed);
});

test("each playlist counts for itself, whatever its delivery directives", () => {
  const guard = new PlaylistGuard();
  guard.pass("/live/video.m3u8?_HLS_msn=20&_HLS_part=1", playlist(14, 6));
  expect(guard.pass("/live/audio.m3u8", playlist(13, 6))).toBe(playlist(13, 6));
  expect(guard.pass("/live/video.m3u8?_HLS_msn=21", playlist(13, 6))).toBe(playlist(14, 6));
});

test("a delta update is no stand-in", () => {
  const guard = new PlaylistGuard();
  guard.pass("/live/video.m3u8", playlist(10, 2, "#EXT-X-SKIP:SKIPPED-SEGMENTS=4\n"));
  expect(guard.pass("/live/video.m3u8", playlist(9, 6))).toBeNull();
});

test("a source begins where another was left, unless much more is new", () => {
  const at = (text: string, number: number, whateverMissed = false) => /TIME-OFFSET=([\d.]+)/.exec(startingAt(text, number, whateverMissed))?.[1] ?? null;
  const rows: [string, number, string | null][] = [
    [playlist(10, 6), 15, "10.00000"],
    [playlist(10, 6), 13, "6.00000"],
    // As far behind as a viewer begins anyway, or not in it.
    [playlist(10, 6), 12, null],
    [playlist(10, 6), 9, null],
    [playlist(10, 6), 17, null],
    // The very end: nothing is new.
    [playlist(10, 6), 16, "12.00000"],
    [playlist(10, 2, "#EXT-X-SKIP:SKIPPED-SEGMENTS=4\n"), 15, null],
    [MULTIVARIANT, 3, null],
  ];
  for (const [text, number, offset] of rows) expect(at(text, number)).toBe(offset);
  expect(at(playlist(10, 6), 11, true)).toBe("2.00000");
  // Nothing else changes.
  const lines = startingAt(playlist(10, 6), 15).split("\n");
  expect(lines.filter((line) => !line.startsWith("#EXT-X-START")).join("\n")).toBe(playlist(10, 6));
});

test("what a multivariant playlist names first", () => {
  expect(firstUri(MULTIVARIANT)).toBe("video.m3u8");
  expect(firstUri("#EXTM3U\n")).toBeNull();
  expect(firstUri("no such page")).toBeNull();
});
