import { expect, test } from "vitest";
import { extentOf, PlaylistGuard } from "../src/playlist";

function playlist(mediaSequence: number, segments: number, extra = ""): string {
  const head = `#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:${mediaSequence}\n${extra}`;
  return head + "#EXTINF:2.0,\nseg.m4s\n".repeat(segments);
}

const MULTIVARIANT = '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=3000000\nvideo.m3u8\n';

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
