// The viewer's page decides here, and only here, what to play. Pure: `step` takes the time and an event and returns what to
// do; `phase` says in one word what the viewer sees.
//
//   nothing loaded --box live--> live source --ENDLIST--> ended --viewer's wish--> recording
//   live source --fatal error or ten seconds without progress--> the other live source, then back and forth with a pause
//   anything --a new broadcast begins--> live source (a recording is left only when the viewer says so)

import type { Public } from "./api";

export type LiveSource = "box" | "ipfs";
export type Source = LiveSource | "recording";
export type Playback = "idle" | "loading" | "playing" | "paused" | "stalled" | "ended";

export type Phase =
  | "connecting"
  | "waiting"
  | "starting"
  | "live"
  | "lost"
  | "reconnecting"
  | "ended"
  | "recording"
  | "unsupported";

export interface Viewer {
  /** The box's last answer. */
  box: Public | null;
  /** Polls in a row that the box did not answer. */
  missed: number;
  /** What the viewer chose. */
  preferred: LiveSource;
  /** What is loaded. */
  source: Source | null;
  playback: Playback;
  /** Failures in a row since the picture last moved. */
  failures: number;
  /** When the picture was last seen to move, or loading began. */
  progressAtMs: number;
  /** When to load again after a failure. */
  retryAtMs: number | null;
  /** `since` of the broadcast that is, or was last, loaded; empty once the box has been off air after it. */
  broadcast: string | null;
  /** A broadcast was on and is over. */
  finished: boolean;
  unsupported: boolean;
}

export type Event =
  | { type: "answer"; box: Public }
  | { type: "silence" }
  | { type: "prefer"; source: LiveSource }
  | { type: "watch-recording" }
  | { type: "watch-live" }
  | { type: "progress" | "paused" | "stalled" | "ended" | "failed" | "unsupported" }
  | { type: "tick" };

export type Action = { type: "load"; source: Source; url: string; broadcast: string } | { type: "unload" };

/** Polls missed before the page says that the box is gone: one lost packet is not news. */
export const MISSED_LIMIT = 3;
/** A loaded source that shows no progress for so long has failed, whatever the player believes. */
export const PATIENCE_MS = 10_000;

export function initial(): Viewer {
  return {
    box: null,
    missed: 0,
    preferred: "box",
    source: null,
    playback: "idle",
    failures: 0,
    progressAtMs: 0,
    retryAtMs: null,
    broadcast: null,
    finished: false,
    unsupported: false,
  };
}

export function urlOf(source: Source, box: Public): string {
  switch (source) {
    case "box":
      return "/live/index.m3u8";
    case "ipfs":
      return `/ipns/${box.ipns}/index.m3u8`;
    case "recording":
      return `/ipfs/${box.root}/vod.m3u8`;
  }
}

/** Whether there is a recording to offer. */
export function hasRecording(viewer: Viewer): boolean {
  return viewer.box !== null && viewer.box.root !== null && viewer.box.root_is_vod;
}

function offAir(box: Public): boolean {
  return !box.live && box.state === "idle";
}

function load(viewer: Viewer, now: number, source: Source): [Viewer, Action[]] {
  const box = viewer.box;
  if (box === null || viewer.unsupported) return [viewer, []];
  const next: Viewer = {
    ...viewer,
    source,
    playback: "loading",
    progressAtMs: now,
    retryAtMs: null,
    broadcast: box.since,
    finished: source === "recording" ? viewer.finished : false,
  };
  return [next, [{ type: "load", source, url: urlOf(source, box), broadcast: box.since ?? "" }]];
}

function finish(viewer: Viewer): [Viewer, Action[]] {
  return [{ ...viewer, source: null, playback: "idle", failures: 0, retryAtMs: null, finished: true }, [{ type: "unload" }]];
}

/** The source to try after `failures` failures: the other one, the preferred one, the other one… */
function sourceAfter(viewer: Viewer, failures: number): LiveSource {
  if (viewer.box === null || viewer.box.ipns === "") return "box";
  const other: LiveSource = viewer.preferred === "box" ? "ipfs" : "box";
  return failures % 2 === 1 ? other : viewer.preferred;
}

function failed(viewer: Viewer, now: number): [Viewer, Action[]] {
  if (viewer.source === null || viewer.retryAtMs !== null) return [viewer, []];
  const live = viewer.source !== "recording";
  if (live && viewer.box !== null && viewer.missed === 0 && offAir(viewer.box)) return finish(viewer);
  const failures = viewer.failures + 1;
  const next: Viewer = { ...viewer, failures, playback: "stalled" };
  // The other source is tried at once; after that a pause grows to eight seconds, so that a room of viewers does not
  // hammer a box that is in trouble.
  if (live && failures === 1) return load(next, now, sourceAfter(next, failures));
  return [{ ...next, retryAtMs: now + Math.min(8000, 500 * 2 ** failures) }, []];
}

export function step(viewer: Viewer, now: number, event: Event): [Viewer, Action[]] {
  switch (event.type) {
    case "answer": {
      const next: Viewer = { ...viewer, box: event.box, missed: 0 };
      const { box } = event;
      if (next.source === "recording") return [next, []];
      if (box.live) {
        const fresh = next.source !== null && next.broadcast !== null && box.since !== null && box.since !== next.broadcast;
        // The box is live for a moment longer than its playlist: what has ended is not worth loading again.
        const over = next.source === null && next.finished && box.since === next.broadcast;
        if (fresh || (next.source === null && !over)) return load({ ...next, failures: 0 }, now, next.preferred);
        return [{ ...next, broadcast: next.broadcast ?? box.since }, []];
      }
      const moving = next.playback === "playing" || next.playback === "paused";
      if (next.source !== null && !moving && offAir(box)) return finish(next);
      return [next.source === null ? { ...next, broadcast: "" } : next, []];
    }
    case "silence":
      return [{ ...viewer, missed: viewer.missed + 1 }, []];
    case "prefer": {
      const next: Viewer = { ...viewer, preferred: event.source, failures: 0 };
      if (next.source === null || next.source === "recording" || next.source === event.source) return [next, []];
      return load(next, now, event.source);
    }
    case "watch-recording":
      return hasRecording(viewer) ? load({ ...viewer, failures: 0 }, now, "recording") : [viewer, []];
    case "watch-live":
      return viewer.box?.live ? load({ ...viewer, failures: 0 }, now, viewer.preferred) : [viewer, []];
    case "progress":
      if (viewer.source === null || viewer.retryAtMs !== null) return [viewer, []];
      return [{ ...viewer, playback: "playing", failures: 0, progressAtMs: now }, []];
    case "paused":
      return viewer.source === null || viewer.playback === "ended" ? [viewer, []] : [{ ...viewer, playback: "paused" }, []];
    case "stalled":
      return viewer.playback === "playing" ? [{ ...viewer, playback: "stalled" }, []] : [viewer, []];
    case "ended":
      if (viewer.source === null) return [viewer, []];
      if (viewer.source === "recording") return [{ ...viewer, playback: "ended" }, []];
      return finish(viewer);
    case "failed":
      return failed(viewer, now);
    case "unsupported":
      return [{ ...viewer, unsupported: true, source: null, playback: "idle" }, []];
    case "tick": {
      if (viewer.source === null) return [viewer, []];
      if (viewer.retryAtMs !== null) {
        if (now < viewer.retryAtMs) return [viewer, []];
        const source = viewer.source === "recording" ? "recording" : sourceAfter(viewer, viewer.failures);
        return load(viewer, now, source);
      }
      const waiting = viewer.playback === "loading" || viewer.playback === "stalled" || viewer.playback === "playing";
      return waiting && now - viewer.progressAtMs > PATIENCE_MS ? failed(viewer, now) : [viewer, []];
    }
  }
}

export function phase(viewer: Viewer): Phase {
  const { box, source, playback } = viewer;
  if (viewer.unsupported) return "unsupported";
  const gone = viewer.missed >= MISSED_LIMIT;
  if (source === "recording") {
    return viewer.failures > 0 || playback === "stalled" ? "reconnecting" : "recording";
  }
  if (source !== null && (playback === "playing" || playback === "paused")) {
    if (box?.state === "retrying") return "reconnecting";
    return box?.signal === "lost" ? "lost" : "live";
  }
  if (gone) return box === null ? "connecting" : "reconnecting";
  if (source !== null) return viewer.failures > 0 || playback === "stalled" ? "reconnecting" : "starting";
  if (box === null) return "connecting";
  if (box.state === "starting") return "starting";
  if (box.state === "retrying") return "reconnecting";
  return viewer.finished ? "ended" : "waiting";
}

/** One short word for the lamp, one sentence for the card and for screen readers. */
export function words(viewer: Viewer): { word: string; sentence: string } {
  switch (phase(viewer)) {
    case "connecting":
      return viewer.missed >= MISSED_LIMIT
        ? { word: "No answer", sentence: "The box does not answer. Trying again." }
        : { word: "Connecting", sentence: "Asking the box." };
    case "waiting":
      return { word: "Not live", sentence: "The picture starts here by itself. You can leave this page open." };
    case "starting":
      return { word: "Starting", sentence: "The broadcast is starting." };
    case "live":
      return viewer.playback === "paused"
        ? { word: "Live", sentence: "The broadcast is live. You have paused it." }
        : { word: "Live", sentence: "The broadcast is live." };
    case "lost":
      return { word: "Source lost", sentence: "The camera's signal is lost. The broadcast goes on and the picture will return." };
    case "reconnecting":
      return viewer.missed < MISSED_LIMIT && viewer.box?.mirror?.gone
        ? { word: "Box is away", sentence: "This mirror shows what it has. It goes on by itself when the box is back." }
        : { word: "Reconnecting", sentence: "The stream was interrupted. Reconnecting by itself." };
    case "ended":
      return {
        word: "Ended",
        sentence: hasRecording(viewer)
          ? "The recording is ready."
          : viewer.box?.mirror?.catching_up
            ? "This mirror is fetching the recording."
            : "The recording is being prepared.",
      };
    case "recording":
      return { word: "Recording", sentence: "You are watching the recording." };
    case "unsupported":
      return { word: "Cannot play", sentence: "This browser cannot play the stream. A current Chrome, Edge, Firefox or Safari can." };
  }
}
