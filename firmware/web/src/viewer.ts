// The viewer's page decides here, and only here, what to play. Pure: `step` takes the time and an event and returns what to
// do; `phase` says in one word what the viewer sees.
//
//   nothing loaded --box live--> live source --ENDLIST--> ended --viewer's wish--> recording
//   live source --fatal error or ten seconds without progress--> what has something new: the other live source, then back and
//     forth with a pause. Where none has, the last picture stays: nobody is shown the same seconds again.
//   live source, paused --box off air--> over: the picture stays, and the recording is offered
//   recording --it is no longer kept--> live source if the box is live, else ended; any other failure --pause--> the same again
//   stalled --viewer's wish--> start: the broadcast from its beginning, as far as there is something
//   anything --a new broadcast begins--> live source (a recording is left only when the viewer says so)
//
// Whoever has paused stays paused, whatever is loaded, until they say otherwise.

import type { Public } from "./api";

export type LiveSource = "box" | "ipfs";
/** `start` is what is published of a broadcast that goes on, from its beginning. */
export type Source = LiveSource | "start" | "recording";
export type Playback = "idle" | "loading" | "playing" | "paused" | "stalled" | "ended";

export type Phase =
  | "connecting"
  | "waiting"
  | "starting"
  | "live"
  | "lost"
  | "reconnecting"
  | "away"
  | "full"
  | "over"
  | "ended"
  | "recording"
  | "unsupported";

export interface Viewer {
  /** The box's last answer. */
  box: Public | null;
  /** Polls in a row that the box did not answer. */
  missed: number;
  /** The box has turned the last poll away: it has as many viewers as it takes. */
  full: boolean;
  /** What the viewer chose. */
  preferred: LiveSource;
  /** What is loaded. */
  source: Source | null;
  /** Its address. A recording keeps it: the box's root is another one as soon as the next broadcast begins. */
  url: string;
  playback: Playback;
  /** The viewer has paused: nothing but the viewer plays again. */
  wantsPause: boolean;
  /** Failures in a row since the picture last moved. */
  failures: number;
  /** When the picture was last seen to move, or loading began. */
  progressAtMs: number;
  /** When to load the recording again after a failure. */
  retryAtMs: number | null;
  /** The player has given up on what is loaded; what was buffered may still play. */
  broken: boolean;
  /** When to look again whether a source has something new; `null` while that is being looked up. */
  lookAtMs: number | null;
  /** Since when the source that is loaded has had something that the player does not show. */
  newsAtMs: number | null;
  /** Whether the broadcast can be seen from its beginning, as far as was looked. */
  hasStart: boolean;
  /** `since` of the broadcast that is, or was last, loaded; empty once the box has been off air after it. */
  broadcast: string | null;
  /** Address of the recording that was on show and is no longer kept, until something else is loaded. */
  gone: string | null;
  /** A broadcast was on and is over; what was paused in it may still be loaded. */
  finished: boolean;
  unsupported: boolean;
}

export type Event =
  | { type: "answer"; box: Public }
  | { type: "silence" | "full" }
  | { type: "prefer"; source: LiveSource }
  | { type: "watch-recording" }
  | { type: "watch-live" }
  | { type: "watch-start" }
  | { type: "news"; news: News }
  /** `paused` and `resumed` are the viewer's wishes, `blocked` is the browser's: it waits for the viewer. */
  | { type: "progress" | "paused" | "resumed" | "blocked" | "stalled" | "ended" | "unsupported" }
  /** `status` is the HTTP status that the player got; `null` where it got none, or was not refused. */
  | { type: "failed"; status: number | null }
  | { type: "tick" };

/** Which source has something that this viewer has not seen. */
export interface News {
  box: boolean;
  ipfs: boolean;
  /** After what is on show from the start; `null` where the broadcast cannot be seen from there. */
  start: boolean | null;
}

/** Where a source begins: where live viewers are, at what was seen last (what is live never before it), or at its beginning. */
export type From = "edge" | "seen" | "start";

export type Action =
  | { type: "load"; source: Source; url: string; broadcast: string; from: From; play: boolean }
  | { type: "unload" }
  /** Find out who has something new, and say so with `news`. */
  | { type: "look" };

/** Polls missed before the page says that the box is gone: one lost packet is not news. */
export const MISSED_LIMIT = 3;
/** A loaded source that shows no progress for so long has failed, whatever the player believes. */
export const PATIENCE_MS = 10_000;
/** A picture that stands for so long makes the page look for something new, and again after each such pause. */
export const LOOK_MS = 2500;
/** The gateway serves only what the box keeps: of a recording these are verdicts. */
const NOT_FOUND = 404;
const GONE = 410;

export function initial(): Viewer {
  return {
    box: null,
    missed: 0,
    full: false,
    preferred: "box",
    source: null,
    url: "",
    playback: "idle",
    wantsPause: false,
    failures: 0,
    progressAtMs: 0,
    retryAtMs: null,
    broken: false,
    lookAtMs: 0,
    newsAtMs: null,
    hasStart: false,
    broadcast: null,
    gone: null,
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
    case "start":
      // By the name, which goes on, and not by a root, which does not.
      return `/ipns/${box.ipns}/event.m3u8`;
    case "recording":
      return `/ipfs/${box.root}/vod.m3u8`;
  }
}

/** Whether there is a recording to offer. */
export function hasRecording(viewer: Viewer): boolean {
  const { box } = viewer;
  if (viewer.missed >= MISSED_LIMIT || box === null || box.root === null || !box.root_is_vod) return false;
  // The box's last answer may be older than what the player found.
  return urlOf("recording", box) !== viewer.gone;
}

function offAir(box: Public): boolean {
  return !box.live && box.state === "idle";
}

/** What a viewer asks for by name shall play. */
function wish(viewer: Viewer, now: number, source: Source, from: From): [Viewer, Action[]] {
  return load({ ...viewer, failures: 0, wantsPause: false }, now, source, from);
}

function isLive(source: Source | null): source is LiveSource {
  return source === "box" || source === "ipfs";
}

function load(viewer: Viewer, now: number, source: Source, from: From): [Viewer, Action[]] {
  const box = viewer.box;
  if (box === null || viewer.unsupported) return [viewer, []];
  const again = source === "recording" && viewer.source === source;
  const url = again ? viewer.url : urlOf(source, box);
  const broadcast = again ? viewer.broadcast : box.since;
  const next: Viewer = {
    ...viewer,
    source,
    url,
    playback: "loading",
    progressAtMs: now,
    retryAtMs: null,
    broken: false,
    lookAtMs: 0,
    newsAtMs: null,
    broadcast,
    gone: null,
    finished: source === "recording" ? viewer.finished : false,
  };
  return [next, [{ type: "load", source, url, broadcast: broadcast ?? "", from, play: !viewer.wantsPause }]];
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

/** So that a room of viewers does not hammer a box that is in trouble. */
function pause(failures: number): number {
  return Math.min(8000, 500 * 2 ** failures);
}

/** The recording on show is no longer kept, and asking again will not bring it back. */
function gone(viewer: Viewer, now: number): [Viewer, Action[]] {
  const next: Viewer = { ...viewer, failures: 0, retryAtMs: null };
  if (viewer.missed === 0 && viewer.box?.live) return load(next, now, viewer.preferred, "edge");
  const [ended, actions] = finish(next);
  // Whatever is live next is another broadcast.
  return [{ ...ended, broadcast: "", gone: viewer.url }, actions];
}

function failed(viewer: Viewer, now: number, status: number | null): [Viewer, Action[]] {
  if (viewer.source === null || viewer.retryAtMs !== null || viewer.broken) return [viewer, []];
  const recording = viewer.source === "recording";
  if (recording && (status === NOT_FOUND || status === GONE)) return gone(viewer, now);
  if (!recording && viewer.box !== null && viewer.missed === 0 && offAir(viewer.box)) return finish(viewer);
  const failures = viewer.failures + 1;
  const next: Viewer = { ...viewer, failures, playback: "stalled" };
  if (recording) return [{ ...next, retryAtMs: now + pause(failures) }, []];
  // The first time at once, then with a pause that grows to eight seconds.
  if (failures > 1) return [{ ...next, broken: true, lookAtMs: now + pause(failures) }, []];
  return look({ ...next, broken: true });
}

function look(viewer: Viewer): [Viewer, Action[]] {
  return viewer.lookAtMs === null ? [viewer, []] : [{ ...viewer, lookAtMs: null }, [{ type: "look" }]];
}

/** The picture does not move, and that is not the viewer's wish. */
export function stands(viewer: Viewer): boolean {
  return viewer.broken || viewer.playback === "loading" || viewer.playback === "stalled";
}

/** What to do while the picture stands, now that it is known who has something new. */
function heard(viewer: Viewer, now: number, news: News): [Viewer, Action[]] {
  // Asked for another source than the one that is loaded by now.
  if (viewer.lookAtMs !== null) return [viewer, []];
  const { source, preferred } = viewer;
  const next: Viewer = { ...viewer, hasStart: news.start !== null, lookAtMs: now + LOOK_MS, newsAtMs: null };
  if (source === null || source === "recording" || !stands(viewer)) return [next, []];
  const has = (it: Source) => it !== "recording" && news[it] === true;
  // The viewer wants the other one, and there is a reason to change.
  if (isLive(source) && source !== preferred && viewer.failures === 0 && has(preferred)) return load(next, now, preferred, "seen");
  if (!viewer.broken) {
    // The player goes on by itself where it can.
    next.newsAtMs = has(source) ? (viewer.newsAtMs ?? now) : null;
    const since = Math.max(viewer.progressAtMs, next.newsAtMs ?? 0);
    if (now - since <= PATIENCE_MS) return [next, []];
  }
  const failures = viewer.failures + (viewer.broken ? 0 : 1);
  const first = isLive(source) ? sourceAfter(viewer, failures) : "start";
  const candidates: Source[] = first === "start" ? ["start"] : [first, first === "box" ? "ipfs" : "box"];
  const found = candidates.find(has);
  if (found !== undefined) return load({ ...next, failures }, now, found, "seen");
  return [{ ...next, lookAtMs: now + Math.max(LOOK_MS, viewer.broken ? pause(failures) : 0) }, []];
}

export function step(viewer: Viewer, now: number, event: Event): [Viewer, Action[]] {
  switch (event.type) {
    case "answer": {
      const next: Viewer = { ...viewer, box: event.box, missed: 0, full: false };
      const { box } = event;
      if (next.source === "recording") return [next, []];
      if (box.live) {
        const other = next.broadcast !== null && box.since !== null && box.since !== next.broadcast;
        const fresh = next.source !== null && (next.finished || other);
        // The box is live for a moment longer than its playlist: what has ended is not worth loading again.
        const over = next.source === null && next.finished && box.since === next.broadcast;
        if (fresh || (next.source === null && !over)) return load({ ...next, failures: 0, hasStart: false }, now, next.preferred, "edge");
        return [{ ...next, broadcast: next.broadcast ?? box.since }, []];
      }
      if (next.source !== null && offAir(box)) {
        if (next.playback === "paused") return [{ ...next, finished: isLive(next.source) }, []];
        if (next.playback !== "playing") return finish(next);
      }
      return [next.source === null ? { ...next, broadcast: "" } : next, []];
    }
    case "silence":
      return [{ ...viewer, missed: viewer.missed + 1, full: false }, []];
    case "full":
      return [{ ...viewer, missed: 0, full: true }, []];
    case "prefer": {
      const next: Viewer = { ...viewer, preferred: event.source, failures: 0 };
      if (!isLive(next.source) || next.source === event.source) return [next, []];
      // What stands here stands there, too, as far as is known: a change must not cost the picture.
      if (next.playback === "stalled") return look(next);
      return load(next, now, event.source, "edge");
    }
    case "watch-recording":
      return hasRecording(viewer) ? wish(viewer, now, "recording", "start") : [viewer, []];
    case "watch-live":
      return viewer.box?.live ? wish(viewer, now, viewer.preferred, "seen") : [viewer, []];
    case "watch-start":
      return viewer.hasStart && viewer.source !== null ? wish(viewer, now, "start", "start") : [viewer, []];
    case "news":
      return heard(viewer, now, event.news);
    case "progress":
      if (viewer.source === null || viewer.retryAtMs !== null || viewer.broken) return [viewer, []];
      return [{ ...viewer, playback: "playing", failures: 0, progressAtMs: now, newsAtMs: null }, []];
    case "paused":
    case "blocked":
      if (viewer.source === null || viewer.playback === "ended") return [viewer, []];
      return [{ ...viewer, playback: "paused", wantsPause: viewer.wantsPause || event.type === "paused" }, []];
    case "resumed": {
      const next: Viewer = { ...viewer, wantsPause: false };
      return [viewer.playback === "paused" ? { ...next, playback: "playing", progressAtMs: now } : next, []];
    }
    case "stalled":
      return viewer.playback === "playing" ? [{ ...viewer, playback: "stalled" }, []] : [viewer, []];
    case "ended":
      if (viewer.source === null) return [viewer, []];
      if (!isLive(viewer.source)) return [{ ...viewer, playback: "ended" }, []];
      return finish(viewer);
    case "failed":
      return failed(viewer, now, event.status);
    case "unsupported":
      return [{ ...viewer, unsupported: true, source: null, playback: "idle" }, []];
    case "tick": {
      if (viewer.source === null) return [viewer, []];
      if (viewer.retryAtMs !== null) return now < viewer.retryAtMs ? [viewer, []] : load(viewer, now, "recording", "seen");
      const silent = now - viewer.progressAtMs;
      const waiting = viewer.playback === "playing" || stands(viewer);
      if (viewer.source === "recording") return waiting && silent > PATIENCE_MS ? failed(viewer, now, null) : [viewer, []];
      if (viewer.playback === "playing" && !viewer.broken) return silent > PATIENCE_MS ? [{ ...viewer, playback: "stalled" }, []] : [viewer, []];
      const due = viewer.lookAtMs !== null && now >= viewer.lookAtMs;
      return stands(viewer) && silent > LOOK_MS && due ? look(viewer) : [viewer, []];
    }
  }
}

/** The mirror is there, and what it follows is not. */
function boxIsAway(viewer: Viewer): boolean {
  return viewer.missed < MISSED_LIMIT && viewer.box?.live === true && viewer.box.mirror?.gone === true;
}

export function phase(viewer: Viewer): Phase {
  const { box, source, playback } = viewer;
  if (viewer.unsupported) return "unsupported";
  const gone = viewer.missed >= MISSED_LIMIT;
  const interrupted = boxIsAway(viewer) ? "away" : "reconnecting";
  if (source === "recording" || (source === "start" && !viewer.broken && playback !== "stalled")) {
    return playback !== "paused" && (viewer.failures > 0 || playback === "stalled") ? "reconnecting" : "recording";
  }
  if (source !== null && playback === "paused" && viewer.finished) return "over";
  if (source !== null && (playback === "playing" || playback === "paused")) {
    if (box?.state === "retrying") return interrupted;
    return box?.signal === "lost" ? "lost" : "live";
  }
  // What a viewer was told to be over stays over, also where the box is switched off then.
  if ((gone || viewer.full) && source === null && viewer.finished) return "ended";
  if (viewer.full) return "full";
  if (gone) return box === null ? "connecting" : "reconnecting";
  if (source !== null) return viewer.failures > 0 || playback === "stalled" ? interrupted : "starting";
  if (box === null) return "connecting";
  if (box.state === "starting") return "starting";
  if (box.state === "retrying") return interrupted;
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
      return viewer.wantsPause
        ? { word: "Live", sentence: "The broadcast is live. You have paused it." }
        : { word: "Live", sentence: "The broadcast is live." };
    case "lost":
      return { word: "Source lost", sentence: "The camera's signal is lost. The broadcast goes on and the picture will return." };
    case "reconnecting":
      return { word: "Reconnecting", sentence: "The stream was interrupted. It goes on by itself." };
    case "away":
      return { word: "Box is away", sentence: "The box is away. The picture goes on by itself when it is back." };
    case "full":
      return { word: "Full", sentence: "All places are taken. This page tries again by itself." };
    case "over":
    case "ended":
      if (viewer.gone !== null) {
        return { word: "Ended", sentence: `This recording is no longer kept.${hasRecording(viewer) ? " Another one is ready." : ""}` };
      }
      if (viewer.missed >= MISSED_LIMIT) {
        const who = viewer.box?.mirror ? "This mirror" : "The box";
        return { word: "Ended", sentence: `${who} does not answer any more. The recording is offered here when it does.` };
      }
      return {
        word: "Ended",
        sentence: hasRecording(viewer)
          ? "The recording is ready."
          : viewer.box?.mirror?.catching_up
            ? "This mirror is fetching the recording."
            : "The recording is being prepared.",
      };
    case "recording":
      return viewer.source === "start"
        ? { word: "From the start", sentence: "You are watching the broadcast from its start." }
        : { word: "Recording", sentence: "You are watching the recording." };
    case "unsupported":
      return { word: "Cannot play", sentence: "This browser cannot play the stream. A current Chrome, Edge, Firefox or Safari can." };
  }
}
