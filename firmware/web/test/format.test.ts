import { expect, test } from "vitest";
import { addressOf, bitrate, bytes, delay, duration, encoder, level, machine, record, seenBy, signed, syncWords, uplink, videoFormat, viewers, witness, witnessName } from "../src/format";

test("an address on the viewers' port", () => {
  expect(addressOf("/ipns/k51/", "http://192.168.1.7:8080/")).toBe("http://192.168.1.7:8080/ipns/k51/");
  expect(addressOf("/sync", "")).toBeNull();
});

test("duration", () => {
  const rows: [number, string][] = [
    [0, "0:00"],
    [7_999, "0:07"],
    [754_000, "12:34"],
    [3_723_000, "1:02:03"],
    [36_000_000, "10:00:00"],
    [-5, "0:00"],
  ];
  for (const [ms, text] of rows) expect(duration(ms)).toBe(text);
});

test("delay", () => {
  const rows: [number | null, string][] = [
    [null, "–"],
    [Number.NaN, "–"],
    [-0.2, "0.0 s"],
    [1.94, "1.9 s"],
    [9.94, "9.9 s"],
    [9.96, "10 s"],
    [61.4, "61 s"],
  ];
  for (const [seconds, text] of rows) expect(delay(seconds)).toBe(text);
});

test("bitrate", () => {
  expect(bitrate(null)).toBe("–");
  expect(bitrate(640)).toBe("640 kb/s");
  expect(bitrate(3012)).toBe("3.01 Mb/s");
});

test("bytes", () => {
  const rows: [number, string][] = [
    [0, "0 B"],
    [999, "999 B"],
    [999.9e3, "1.0 MB"],
    [1_340_000_000, "1.3 GB"],
    [128e9, "128 GB"],
    [5e15, "5000 TB"],
  ];
  for (const [count, text] of rows) expect(bytes(count)).toBe(text);
});

test("picture format", () => {
  expect(videoFormat(null)).toBe("none");
  expect(videoFormat({ width: 1280, height: 720, fps_num: 30, fps_den: 1 })).toBe("1280×720, 30 fps");
  expect(videoFormat({ width: 1920, height: 1080, fps_num: 30000, fps_den: 1001 })).toBe("1920×1080, 29.97 fps");
});

test("level", () => {
  expect(level(-90)).toBe("silent");
  expect(level(-17.6)).toBe("−18 dB");
  expect(level(-0.2)).toBe("0 dB");
});

test("what is late and what is early", () => {
  expect([12.4, -3.2, -0.3, null].map((value) => signed(value, "ms"))).toEqual(["+12 ms", "−3 ms", "0 ms", "–"]);
  const measured = (left_ms: number) => syncWords({ word: "measured", left_ms });
  expect([12.4, -80, 2].map(measured)).toEqual(["The sound is 12 ms late.", "The sound is 80 ms early.", "Sound and picture fit."]);
  expect(syncWords({ word: "looking", pairs: 0, left_ms: null })).toBe("Looking for flashes and beeps.");
});

test("encoder and machine", () => {
  expect(encoder({ element: "x264enc", preset: "faster", reason: "measured" })).toBe("x264 faster, the best that was tried");
  expect(encoder({ element: "v4l2h264enc", reason: "configured" })).toBe("hardware, as configured");
  const silent = {
    temperature_c: null,
    undervoltage: null,
    throttled: null,
    storage: { worn_percent: null, spare: null },
    clock: { battery: null, synchronised: null },
  };
  expect(machine(silent)).toBe("has no sensors that could be read");
  const said = { ...silent, temperature_c: 61.4, undervoltage: "past" as const, throttled: "never" as const, clock: { battery: false, synchronised: true } };
  expect(machine(said)).toBe("61 °C, power too weak before, clock from the network, clock battery empty");
});

test("the stream from outside", () => {
  const sent = { peers_bytes: 2_500_000, viewers_bytes: 1_000_000, local_bytes: 4_000_000, peers_kbps: 900, viewers_kbps: 80, local_kbps: 700, cap_kbps: null, used_percent: null };
  expect(uplink(sent)).toBe("viewers 1.0 MB, now 80 kb/s; viewers here 4.0 MB, now 700 kb/s; peers 2.5 MB, now 900 kb/s");
  expect(uplink({ ...sent, cap_kbps: 2000, used_percent: 52 })).toBe("viewers 1.0 MB, now 80 kb/s; viewers here 4.0 MB, now 700 kb/s; peers 2.5 MB, now 900 kb/s; 52 % of 2.00 Mb/s");
  expect(viewers({ connections: 12, max_connections: 512, refused: 0 })).toBe("12 connections (a browser opens up to six), at most 512");
  expect(viewers({ connections: 512, max_connections: 512, refused: 9 })).toBe("512 connections (a browser opens up to six), at most 512; 9 turned away");
  expect(seenBy(null)).toBe("–");
  expect(seenBy({ seen: 2, of: 3, behind_ms: 8_200 })).toBe("Seen by 2 of 3, 8 s behind");
  expect(seenBy({ seen: 0, of: 1, behind_ms: null })).toBe("Seen by 0 of 1");
  const peer = { kind: "peer" as const, name: "12D3", agent: null, address: null, seen: null, sequence: null, behind_ms: null, error: null };
  expect(witness(peer)).toBe("unknown: cannot be dialled");
  expect(witness({ ...peer, address: "/ip4/192.0.2.1/tcp/4001" })).toBe("not asked yet");
  expect(witness({ ...peer, seen: true, behind_ms: 400 })).toBe("has it, 0 s behind");
  expect(witness({ ...peer, seen: false, behind_ms: 18_000, error: "answers 504" })).toBe("answers 504, 18 s behind");
  const id = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
  expect(witnessName({ kind: "peer", name: id, agent: "kubo/0.37.0" })).toBe("…eQAJU5SA kubo/0.37.0");
  expect(witnessName({ kind: "mirror", name: id, agent: null })).toBe(`…${id.slice(-8)}`);
  expect(witnessName({ kind: "gateway", name: "https://gateway.example", agent: null })).toBe("https://gateway.example");
  const none = { sequence: null, age_ms: null, listeners: 0, dht_ms: null, dht_taken: null, http_ms: null, another_ms: null };
  expect(record(none)).toBe("none yet, nobody listens on PubSub");
  expect(record({ ...none, age_ms: 1900, listeners: 2, dht_ms: 240_000, dht_taken: true, http_ms: 3000 })).toBe(
    "signed 2 s ago, 2 listen on PubSub, taken by the DHT 4 min ago, asked for over HTTP 3 s ago",
  );
  expect(record({ ...none, another_ms: 4000 })).toBe("none yet, nobody listens on PubSub, signed by another box, too, 4 s ago");
});
