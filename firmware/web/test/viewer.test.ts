import { expect, test } from "vitest";
import type { Public } from "../src/api";
import { type Action, type Event, initial, PATIENCE_MS, phase, step, type Viewer, words } from "../src/viewer";

const IDLE: Public = {
  name: "Podium",
  state: "idle",
  live: false,
  since: null,
  title: "",
  latency_ms: null,
  ipns: "k51",
  root: null,
  root_is_vod: false,
  signal: "ok",
};
const LIVE: Public = { ...IDLE, state: "live", live: true, since: "2026-11-22T10:00:00Z", root: "bafy1" };
const NEXT: Public = { ...LIVE, since: "2026-11-22T12:00:00Z", root: "bafy2" };
const OVER: Public = { ...IDLE, root: "bafy1", root_is_vod: true };

const answer = (box: Public): Event => ({ type: "answer", box });

/** Runs events a second apart, or at their own time, and returns where that leads and what was done on the way. */
function run(events: (Event | [number, Event])[]): { viewer: Viewer; actions: Action[]; trace: string[] } {
  let viewer = initial();
  let now = 0;
  const actions: Action[] = [];
  const trace: string[] = [];
  for (const row of events) {
    const [at, event] = Array.isArray(row) ? row : [now + 1000, row];
    now = at;
    const [next, done] = step(viewer, now, event);
    viewer = next;
    actions.push(...done);
    trace.push(phase(viewer));
  }
  return { viewer, actions, trace };
}

const urls = (actions: Action[]) => actions.map((action) => (action.type === "load" ? action.url : "unload"));

test("waits, and begins by itself", () => {
  const { actions, trace } = run([
    answer(IDLE),
    answer({ ...IDLE, state: "starting" }),
    answer(LIVE),
    { type: "progress" },
    answer({ ...LIVE, signal: "lost" }),
    answer(LIVE),
    answer({ ...LIVE, state: "retrying" }),
  ]);
  expect(trace).toEqual(["waiting", "starting", "starting", "live", "lost", "live", "reconnecting"]);
  expect(urls(actions)).toEqual(["/live/index.m3u8"]);
});

test("the end offers the recording, and the same broadcast does not begin again", () => {
  const { actions, trace, viewer } = run([
    answer(LIVE),
    { type: "progress" },
    answer({ ...LIVE, state: "stopping" }),
    { type: "ended" },
    answer({ ...LIVE, state: "stopping" }),
    answer({ ...OVER, root_is_vod: false }),
    answer(OVER),
    { type: "watch-recording" },
    { type: "progress" },
    answer(NEXT),
    { type: "watch-live" },
  ]);
  expect(trace.slice(3)).toEqual(["ended", "ended", "ended", "ended", "recording", "recording", "recording", "starting"]);
  expect(urls(actions)).toEqual(["/live/index.m3u8", "unload", "/ipfs/bafy1/vod.m3u8", "/live/index.m3u8"]);
  expect(viewer.broadcast).toBe(NEXT.since);
});

test("without a sane clock a broadcast ends once and the next one begins", () => {
  const unsane = { ...LIVE, since: null };
  const { actions } = run([
    answer(unsane),
    { type: "progress" },
    { type: "ended" },
    answer(unsane),
    answer(OVER),
    answer(unsane),
  ]);
  expect(urls(actions)).toEqual(["/live/index.m3u8", "unload", "/live/index.m3u8"]);
});

test("a new broadcast takes over from the old one", () => {
  const { actions } = run([answer(LIVE), { type: "progress" }, answer(NEXT)]);
  expect(actions).toEqual([
    { type: "load", source: "box", url: "/live/index.m3u8", broadcast: LIVE.since },
    { type: "load", source: "box", url: "/live/index.m3u8", broadcast: NEXT.since },
  ]);
});

test("falls back to IPFS at once, then alternates with a growing pause", () => {
  const { actions, trace, viewer } = run([
    [0, answer(LIVE)],
    [100, { type: "failed" }],
    [200, { type: "failed" }],
    [300, { type: "tick" }],
    [2200, { type: "tick" }],
    [2300, { type: "failed" }],
    [6400, { type: "tick" }],
    [7000, { type: "progress" }],
  ]);
  expect(urls(actions)).toEqual(["/live/index.m3u8", "/ipns/k51/index.m3u8", "/live/index.m3u8", "/ipns/k51/index.m3u8"]);
  expect(trace).toEqual([
    "starting",
    "reconnecting",
    "reconnecting",
    "reconnecting",
    "reconnecting",
    "reconnecting",
    "reconnecting",
    "live",
  ]);
  expect(viewer.failures).toBe(0);
  expect(viewer.preferred).toBe("box");
});

test("the viewer's choice is kept, and is what is tried first", () => {
  const { actions } = run([
    { type: "prefer", source: "ipfs" },
    answer(LIVE),
    { type: "failed" },
    { type: "progress" },
    { type: "prefer", source: "ipfs" },
  ]);
  expect(urls(actions)).toEqual(["/ipns/k51/index.m3u8", "/live/index.m3u8", "/ipns/k51/index.m3u8"]);
});

test("a source without progress has failed, whatever the player believes; a pause is no failure", () => {
  const stuck = run([[0, answer(LIVE)], [1, { type: "progress" }], [PATIENCE_MS, { type: "tick" }], [PATIENCE_MS + 2, { type: "tick" }]]);
  expect(urls(stuck.actions)).toEqual(["/live/index.m3u8", "/ipns/k51/index.m3u8"]);
  const paused = run([[0, answer(LIVE)], [1, { type: "progress" }], [2, { type: "paused" }], [99_999, { type: "tick" }]]);
  expect(urls(paused.actions)).toEqual(["/live/index.m3u8"]);
  expect(paused.trace.at(-1)).toBe("live");
});

test("a failure after the box has gone off air is the end", () => {
  const { trace, actions } = run([answer(LIVE), { type: "progress" }, answer(OVER), { type: "failed" }]);
  expect(trace.at(-1)).toBe("ended");
  expect(actions.at(-1)).toEqual({ type: "unload" });
});

test("silence is said after three missed answers, and not while the picture moves", () => {
  const never = run([{ type: "silence" }, { type: "silence" }, { type: "silence" }]);
  expect(never.trace).toEqual(["connecting", "connecting", "connecting"]);
  expect(words(never.viewer).word).toBe("No answer");
  const moving = run([answer(LIVE), { type: "progress" }, { type: "silence" }, { type: "silence" }, { type: "silence" }]);
  expect(moving.trace.at(-1)).toBe("live");
  const stalled = run([answer(LIVE), { type: "progress" }, { type: "stalled" }]);
  expect(stalled.trace.at(-1)).toBe("reconnecting");
  const waiting = run([answer(IDLE), { type: "silence" }, { type: "silence" }, { type: "silence" }]);
  expect(waiting.trace.at(-1)).toBe("reconnecting");
});

test("a browser that cannot play is told so and left alone", () => {
  const { trace, actions } = run([answer(LIVE), { type: "unsupported" }, answer(LIVE), answer(NEXT)]);
  expect(trace.slice(1)).toEqual(["unsupported", "unsupported", "unsupported"]);
  expect(actions).toHaveLength(1);
});

test("a mirror says that its box is away, and that the recording is still coming", () => {
  const mirror = { gone: true, catching_up: true };
  const sentence = (events: Event[]) => words(run(events).viewer).sentence;
  const away = answer({ ...LIVE, signal: null, state: "retrying", mirror });
  expect(sentence([answer(LIVE), { type: "progress" }, away])).toContain("when the box is back");
  // The mirror itself is gone.
  const silence: Event = { type: "silence" };
  expect(sentence([answer(LIVE), { type: "progress" }, away, silence, silence, silence])).toContain("Reconnecting");
  const over = { ...OVER, signal: null, root_is_vod: false, mirror: { gone: false, catching_up: true } };
  expect(sentence([answer(LIVE), { type: "progress" }, { type: "ended" }, answer(over)])).toBe("This mirror is fetching the recording.");
});
