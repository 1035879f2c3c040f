import { expect, test } from "vitest";
import type { Public } from "../src/api";
import { type Action, type Event, initial, LOOK_MS, type News, PATIENCE_MS, phase, step, type Viewer, words } from "../src/viewer";

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

const FAILED: Event = { type: "failed", status: null };
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

const urls = (actions: Action[]) => actions.flatMap((action) => (action.type === "load" ? [action.url] : action.type === "unload" ? ["unload"] : []));

const NOTHING: News = { box: false, ipfs: false, start: null };
const news = (of: Partial<News>): Event => ({ type: "news", news: { ...NOTHING, ...of } });

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
    { type: "load", source: "box", url: "/live/index.m3u8", broadcast: LIVE.since, from: "edge", play: true },
    { type: "load", source: "box", url: "/live/index.m3u8", broadcast: NEXT.since, from: "edge", play: true },
  ]);
});

test("falls back to IPFS at once, then alternates with a growing pause", () => {
  const both = news({ box: true, ipfs: true });
  const { actions, trace, viewer } = run([
    [0, answer(LIVE)],
    [100, FAILED],
    [150, both],
    [200, FAILED],
    [300, { type: "tick" }],
    [2800, { type: "tick" }],
    [2850, both],
    [2900, FAILED],
    [6800, { type: "tick" }],
    [6900, { type: "tick" }],
    [6950, both],
    [7000, { type: "progress" }],
  ]);
  const done = actions.map((action) => (action.type === "load" ? `${action.source} from ${action.from}` : action.type));
  expect(done).toEqual(["box from edge", "look", "ipfs from seen", "look", "box from seen", "look", "ipfs from seen"]);
  expect(trace).toEqual(["starting", ...Array(10).fill("reconnecting"), "live"]);
  expect(viewer.failures).toBe(0);
  expect(viewer.preferred).toBe("box");
});

test("the viewer's choice is kept, and is what is tried first", () => {
  const { actions } = run([
    { type: "prefer", source: "ipfs" },
    answer(LIVE),
    FAILED,
    news({ box: true }),
    { type: "progress" },
    { type: "prefer", source: "ipfs" },
  ]);
  expect(urls(actions)).toEqual(["/ipns/k51/index.m3u8", "/live/index.m3u8", "/ipns/k51/index.m3u8"]);
});

test("a source without progress has failed, whatever the player believes; a pause is no failure", () => {
  const both = news({ box: true, ipfs: true });
  const stuck = run([
    [0, answer(LIVE)],
    [1000, { type: "progress" }],
    [1000 + PATIENCE_MS + 1, { type: "tick" }],
    [1000 + PATIENCE_MS + 2, { type: "tick" }],
    [1000 + PATIENCE_MS + 3, both],
    // It has had time since it is known to have something.
    [1002 + 2 * PATIENCE_MS, { type: "tick" }],
    [1003 + 2 * PATIENCE_MS, both],
    [5000 + 2 * PATIENCE_MS, { type: "tick" }],
    [5001 + 2 * PATIENCE_MS, both],
  ]);
  expect(urls(stuck.actions)).toEqual(["/live/index.m3u8", "/ipns/k51/index.m3u8"]);
  const paused = run([[0, answer(LIVE)], [1, { type: "progress" }], [2, { type: "paused" }], [99_999, { type: "tick" }]]);
  expect(urls(paused.actions)).toEqual(["/live/index.m3u8"]);
  expect(paused.trace.at(-1)).toBe("live");
});

test("a recording that breaks off goes on where it was, whatever the box has begun since", () => {
  const { actions, trace } = run([
    answer(OVER),
    { type: "watch-recording" },
    { type: "progress" },
    answer(NEXT),
    FAILED,
    [99_000, { type: "tick" }],
    FAILED,
    [199_000, { type: "tick" }],
    { type: "watch-live" },
  ]);
  const loads = actions.flatMap((action) => (action.type === "load" ? [[action.url, action.broadcast, action.from]] : []));
  expect(loads).toEqual([
    ["/ipfs/bafy1/vod.m3u8", "", "start"],
    ["/ipfs/bafy1/vod.m3u8", "", "seen"],
    ["/ipfs/bafy1/vod.m3u8", "", "seen"],
    ["/live/index.m3u8", NEXT.since, "seen"],
  ]);
  expect(trace.slice(4, 8)).toEqual(Array(4).fill("reconnecting"));
});

test("a recording that is no longer kept ends, and is not offered again", () => {
  const watching: Event[] = [answer(OVER), { type: "watch-recording" }, { type: "progress" }];
  const deleted: Event = { type: "failed", status: 404 };
  const tick: [number, Event] = [99_000, { type: "tick" }];
  // At once, or after a failure that could have been anything.
  for (const before of [watching, [...watching, FAILED, [50_000, { type: "tick" }] satisfies [number, Event]]]) {
    const { actions, trace, viewer } = run([...before, deleted, tick]);
    expect(trace.slice(-2)).toEqual(["ended", "ended"]);
    expect(urls(actions).slice(-2)).toEqual(["/ipfs/bafy1/vod.m3u8", "unload"]);
    expect(words(viewer).sentence).toBe("This recording is no longer kept.");
  }
  expect(run([...watching, { type: "failed", status: 410 }]).trace.at(-1)).toBe("ended");
  // Too many viewers, or a disk in trouble.
  expect(run([...watching, { type: "failed", status: 503 }]).trace.at(-1)).toBe("reconnecting");
  // The one that the box names may have changed meanwhile.
  const other = run([...watching, deleted, answer({ ...OVER, root: "bafy2" })]);
  expect(words(other.viewer).sentence).toBe("This recording is no longer kept. Another one is ready.");
  // What is live plays: at once, or as soon as it is.
  expect(run([...watching, answer(NEXT), deleted]).actions.at(-1)).toMatchObject({ source: "box", from: "edge", broadcast: NEXT.since });
  const unsane = { ...NEXT, since: null };
  for (const next of [NEXT, unsane]) {
    expect(run([...watching, deleted, answer(next)]).actions.at(-1)).toMatchObject({ source: "box", from: "edge" });
  }
  // And its end is told as every other.
  const later = run([...watching, deleted, answer(NEXT), { type: "progress" }, { type: "ended" }, answer({ ...OVER, root: "bafy2" })]);
  expect(words(later.viewer).sentence).toBe("The recording is ready.");
});

const PAUSED: Event[] = [answer(LIVE), { type: "progress" }, { type: "paused" }];

test("a pause is kept, whatever is loaded, until the viewer says otherwise", () => {
  const plays = (events: Event[]) => run(events).actions.flatMap((action) => (action.type === "load" ? [action.play] : []));
  const broken: Event[] = [...PAUSED, FAILED, news({ box: true })];
  expect(plays(broken)).toEqual([true, false]);
  expect(run([...broken, { type: "paused" }]).trace.at(-1)).toBe("live");
  expect(plays([...PAUSED, answer(NEXT)])).toEqual([true, false]);
  expect(plays([...PAUSED, answer(OVER), FAILED, answer(NEXT)])).toEqual([true, false]);
  const recording: Event[] = [answer(OVER), { type: "watch-recording" }, { type: "progress" }, { type: "paused" }, FAILED];
  expect(run([...recording, [99_000, { type: "tick" }], { type: "paused" }]).trace.slice(-3)).toEqual(["reconnecting", "reconnecting", "recording"]);
  // What the viewer asks for plays.
  expect(plays([...PAUSED, { type: "resumed" }, answer(NEXT)])).toEqual([true, true]);
  expect(plays([...PAUSED, answer(OVER), { type: "watch-recording" }])).toEqual([true, true]);
  // Nobody has paused here: the browser waited for a tap, and may not the next time.
  expect(plays([answer(LIVE), { type: "blocked" }, answer(NEXT)])).toEqual([true, true]);
});

test("what is resumed and does not move has stalled, as anything that plays", () => {
  const { trace, actions } = run([
    ...PAUSED,
    [99_000, { type: "resumed" }],
    [99_001 + PATIENCE_MS, { type: "tick" }],
    [99_002 + PATIENCE_MS, { type: "tick" }],
  ]);
  expect(trace.slice(-3)).toEqual(["live", "reconnecting", "reconnecting"]);
  expect(actions.at(-1)).toEqual({ type: "look" });
});

test.each(["paused", "blocked"] as const)("who has %s is told of the end, and offered the recording", (type) => {
  const end: Event[] = [answer(LIVE), { type: "progress" }, { type }, answer({ ...OVER, root_is_vod: false }), answer(OVER)];
  const { trace, viewer, actions } = run(end);
  expect(trace.slice(2)).toEqual(["live", "over", "over"]);
  expect(words(viewer)).toEqual({ word: "Ended", sentence: "The recording is ready." });
  // What is left of it can still be played.
  expect(urls(actions)).toEqual(["/live/index.m3u8"]);
  expect(run([...end, { type: "resumed" }, { type: "ended" }]).trace.slice(-2)).toEqual(["live", "ended"]);
  // Without a sane clock nothing but the end tells the next one from this.
  const unsane = { ...LIVE, since: null };
  expect(urls(run([answer(unsane), { type: "progress" }, { type }, answer(OVER), answer(unsane)]).actions)).toHaveLength(2);
});

test("a box that turns viewers away is full, and not away", () => {
  const full: Event = { type: "full" };
  const never = run([full, full, full, full]);
  expect(never.trace).toEqual(Array(4).fill("full"));
  expect(words(never.viewer).word).toBe("Full");
  expect(run([full, answer(LIVE)]).trace).toEqual(["full", "starting"]);
  expect(run([full, { type: "silence" }, { type: "silence" }, { type: "silence" }]).trace.at(-1)).toBe("connecting");
  // Nothing is said while the picture moves, and what has ended stays so.
  expect(run([answer(LIVE), { type: "progress" }, full, { type: "stalled" }]).trace.slice(-2)).toEqual(["live", "full"]);
  expect(run([answer(LIVE), { type: "progress" }, { type: "ended" }, full]).trace.at(-1)).toBe("ended");
});

const AWAY: Public = { ...LIVE, signal: null, state: "retrying", mirror: { gone: true, behind_ms: 0, catching_up: false } };

/** The picture stands, and nobody has anything new for `seconds`. */
function standing(seconds: number): [number, Event][] {
  const ticks: [number, Event][] = Array.from({ length: 2 * seconds }, (_, i) => [3000 + i * 500, i % 2 === 0 ? { type: "tick" } : news({ start: false })]);
  return [[0, answer(LIVE)], [1000, { type: "progress" }], [2900, { type: "stalled" }], [2950, answer(AWAY)], ...ticks];
}

test("where nothing is new the last picture stays, and goes on by itself", () => {
  const { actions, trace, viewer } = run([...standing(600), [603_500, { type: "progress" }], [603_600, answer(LIVE)]]);
  expect(urls(actions)).toEqual(["/live/index.m3u8"]);
  expect(trace.slice(-4)).toEqual(["away", "away", "away", "live"]);
  expect(viewer.hasStart).toBe(true);
  // It looks, and not in each tick.
  const looks = actions.filter((action) => action.type === "look").length;
  expect(looks).toBeGreaterThan(100);
  expect(looks).toBeLessThan(1 + 600_000 / LOOK_MS);
});

test("a player that gave up is loaded again when there is something new, behind what was seen", () => {
  const { actions } = run([
    [0, answer(LIVE)],
    [1000, { type: "progress" }],
    [2000, FAILED],
    [2100, news({})],
    // What was still buffered plays on.
    [2200, { type: "progress" }],
    [4700, { type: "tick" }],
    [4800, news({})],
    [9000, { type: "tick" }],
    [9100, news({ box: true })],
  ]);
  const loads = actions.filter((action) => action.type === "load");
  expect(loads.map((action) => [action.source, action.from])).toEqual([["box", "edge"], ["box", "seen"]]);
});

test("the other source is not opened for what was seen already", () => {
  const asked = [...standing(20), [24_000, { type: "prefer", source: "ipfs" }], [24_100, news({ start: false })]] satisfies [number, Event][];
  expect(urls(run(asked).actions)).toEqual(["/live/index.m3u8"]);
  const { actions } = run([...asked, [27_000, { type: "tick" }], [27_100, news({ ipfs: true, start: false })]]);
  expect(actions.at(-1)).toMatchObject({ source: "ipfs", from: "seen" });
});

test("what stands can be seen from the start, and is left for what is live", () => {
  const none = run([...standing(1), [5000, { type: "watch-start" }]]);
  expect(urls(none.actions)).toEqual(["/live/index.m3u8"]);
  const start: [number, Event][] = [...standing(20), [30_000, { type: "watch-start" }], [30_100, { type: "progress" }]];
  const watching = run(start);
  expect(watching.actions.at(-1)).toMatchObject({ source: "start", url: "/ipns/k51/event.m3u8", from: "start" });
  expect(watching.trace.at(-1)).toBe("recording");
  expect(words(watching.viewer).word).toBe("From the start");
  // At its end the same holds.
  const end = run([...start, [40_000, { type: "stalled" }], [60_000, { type: "tick" }], [60_100, news({ start: false })]]);
  expect(end.trace.at(-1)).toBe("away");
  expect(end.viewer.source).toBe("start");
  expect(end.actions.at(-1)).toEqual({ type: "look" });
  const live = run([...start, [31_000, answer(LIVE)], [32_000, { type: "watch-live" }]]);
  expect(live.actions.at(-1)).toMatchObject({ source: "box", from: "seen" });
  // Another broadcast has the name then.
  const next = run([...start, [31_000, answer(NEXT)]]);
  expect(next.actions.at(-1)).toMatchObject({ source: "box", from: "edge", broadcast: NEXT.since });
});

test("what has ended stays ended, though the box is switched off", () => {
  const silence: Event = { type: "silence" };
  const end: Event[] = [answer(LIVE), { type: "progress" }, { type: "ended" }, silence, silence, silence, silence];
  const { viewer, trace } = run(end);
  expect(trace.slice(2)).toEqual(Array(5).fill("ended"));
  expect(words(viewer).sentence).toContain("does not answer");
  expect(words(run([...end, answer(OVER)]).viewer).sentence).toBe("The recording is ready.");
});

test("a failure after the box has gone off air is the end", () => {
  const { trace, actions } = run([answer(LIVE), { type: "progress" }, answer(OVER), FAILED]);
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
  const sentence = (events: Event[]) => words(run(events).viewer).sentence;
  const away = [answer(LIVE), { type: "progress" }, answer(AWAY)] satisfies Event[];
  expect(sentence(away)).toContain("The box is away");
  // The mirror itself is gone.
  const silence: Event = { type: "silence" };
  expect(sentence([...away, silence, silence, silence, { type: "stalled" }])).toContain("interrupted");
  const over = { ...OVER, signal: null, root_is_vod: false, mirror: { gone: false, behind_ms: 0, catching_up: true } };
  expect(sentence([answer(LIVE), { type: "progress" }, { type: "ended" }, answer(over)])).toBe("This mirror is fetching the recording.");
});
