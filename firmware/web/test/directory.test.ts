import { expect, test } from "vitest";
import { choose, comesBack, isFinished } from "../src/directory";

test.each([
  ["127.0.0.1", "/ipfs/bafy/player.html", false, "event.m3u8"],
  ["127.0.0.1", "/ipfs/bafy/", true, "vod.m3u8"],
  ["bafy.ipfs.example.org", "/", false, "event.m3u8"],
  ["127.0.0.1", "/ipns/k51/", false, "index.m3u8"],
  ["k51.ipns.example.org", "/", false, "index.m3u8"],
  ["k51.ipns.example.org", "/", true, "vod.m3u8"],
  // A directory within a name, and a copy on a web server.
  ["k51.ipns.example.org", "/ipfs/x/", false, "index.m3u8"],
  ["example.org", "/talks/7/player.html", false, "index.m3u8"],
])("%s%s, finished %s: %s", (hostname, pathname, finished, playlist) => {
  expect(choose({ hostname, pathname }, finished).playlist).toBe(playlist);
});

test.each([
  [200, true],
  [404, false],
  // Offline, too many viewers, too many questions: no reason to take a recording for what goes on.
  [null, null],
  [503, null],
  [429, null],
])("a recording whose playlist is answered with %s is finished: %s", (status, expected) => {
  expect(isFinished(status)).toBe(expected);
});

test.each([
  // The box keeps a root for ten minutes after the next.
  ["snapshot", 404, false],
  // It has it, and something else is wrong.
  ["snapshot", 200, true],
  // It restarts, or has too many viewers.
  ["snapshot", null, true],
  ["snapshot", 503, true],
  // A name goes on, under the same address.
  ["live", 404, true],
  ["recording", 404, true],
] as const)("a %s whose directory is answered with %s comes back: %s", (kind, directory, expected) => {
  expect(comesBack(kind, directory)).toBe(expected);
});
