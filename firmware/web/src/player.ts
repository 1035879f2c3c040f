// One <video> and whatever feeds it: hls.js where Media Source Extensions exist, else the browser's own HLS.

import Hls, { type Fragment, type LoadPolicy } from "hls.js";
import workerUrl from "hls.js/dist/hls.worker.js?url";
import { guardedLoader } from "./loader";
import { extentOf, firstUri, PlaylistGuard, StandingEnds, startingAt } from "./playlist";
import type { Action, From, Source } from "./viewer";

export type PlayerEvent = "progress" | "paused" | "resumed" | "blocked" | "stalled" | "ended" | "unsupported";

/** A pause in the picture shorter than this is not worth a word on the screen. */
const STALL_MS = 1500;
// hls.js gives up at once when a connection is refused or cut (status 0). A box that restarts its network is back within the
// buffer's length, so that is worth waiting for; a verdict (4xx) is not.
const PATIENT: LoadPolicy = {
  default: {
    maxTimeToFirstByteMs: 8000,
    maxLoadTimeMs: 20_000,
    // hls.js cuts a blocking reload off after less than a segment, and a store that hangs for longer is no reason to leave.
    timeoutRetry: { maxNumRetry: 6, retryDelayMs: 0, maxRetryDelayMs: 0 },
    errorRetry: {
      maxNumRetry: 4,
      retryDelayMs: 500,
      maxRetryDelayMs: 2000,
      shouldRetry: (config, count, _isTimeout, response, retry) =>
        retry || (!!config && count < config.maxNumRetry && response?.code === 0),
    },
  },
};
// hls.js catches up by playing faster only while it is less than this and a target duration behind where it wants to be.
const REACH_SECONDS = 1;
/** A seek by less is not a wish to see something again. */
const BACK_SECONDS = 0.5;
/** A picture that stops so shortly before a segment's end has shown it: sound and picture do not end together. */
const END_SECONDS = 0.3;
/** Between two jumps to the live edge: where one does not help, a viewer prefers a picture that runs to one that jumps. */
const JUMP_PAUSE_MS = 20_000;
/** Who has not answered by then has nothing to give. */
const PLAYLIST_MS = 4000;
const NATIVE_TYPE = "application/vnd.apple.mpegurl";

type Load = Extract<Action, { type: "load" }>;

/** Height of the picture, or the sound alone; `null` leaves the height to what the link carries. */
export type Quality = number | "sound" | null;

/** A playlist's text; `null` where there is none, whatever the reason. */
async function playlist(url: string): Promise<string | null> {
  try {
    const response = await fetch(url, { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(PLAYLIST_MS) });
    return response.ok ? await response.text() : null;
  } catch {
    return null;
  }
}

/** Address of the video's playlist. */
async function mediaPlaylist(url: string): Promise<string | null> {
  const uri = firstUri((await playlist(url)) ?? "");
  return uri === null ? null : new URL(uri, new URL(url, location.href)).href;
}

/** Whether what a multivariant playlist names first is there. It may be long, so it is not fetched. */
export async function isThere(url: string): Promise<boolean> {
  const media = await mediaPlaylist(url);
  if (media === null) return false;
  try {
    return (await fetch(media, { method: "HEAD", credentials: "omit", signal: AbortSignal.timeout(PLAYLIST_MS) })).ok;
  } catch {
    return false;
  }
}

export class Player {
  hls: Hls | null = null;
  /** Why the last source failed, for people who look closely. */
  lastError: string | null = null;
  private guard = new PlaylistGuard();
  private guarded = "";
  private stallTimer: number | undefined;
  private recoveredAt = -Infinity;
  private jumpedAt = -Infinity;
  /** The viewer went back or paused, and wants to be behind. */
  private behind = false;
  private position = 0;
  /** Seconds into a recording: where it was on show, or sought. */
  private reached = 0;
  /** The viewer has paused. */
  private held = false;
  private wanted: Quality = null;
  /** What the multivariant playlist offers. */
  private url = "";
  private heights: number[] = [];
  private soundUrl: string | null = null;
  private soundOnly = false;
  /** Number of the first segment that was not seen to its end, of this broadcast; `null` before the first one. */
  private unseen: number | null = null;
  /** The same of what is on show, which may be from the start. */
  private showing: number | null = null;
  /** What is told where there is no hls.js, and so no segment on show. */
  private readonly ends = new StandingEnds();
  /** The segment on show. */
  private fragment: Fragment | null = null;

  constructor(
    readonly video: HTMLVideoElement,
    private readonly on: (event: PlayerEvent) => void,
    /** With the HTTP status, where the source was refused. */
    private readonly failed: (status: number | null) => void,
  ) {
    video.addEventListener("timeupdate", () => {
      if (video.paused || video.seeking || video.readyState < 3) return;
      this.clearStall();
      this.position = video.currentTime;
      this.reached = video.currentTime;
      this.ends.clear();
      this.keepUp();
      this.note();
      on("progress");
    });
    video.addEventListener("seeking", () => {
      this.reached = video.currentTime;
      // hls.js itself only seeks forward: over a gap, and to the live edge.
      if (video.currentTime < this.position - BACK_SECONDS) this.behind = true;
      else if (video.currentTime > (this.hls?.liveSyncPosition ?? Infinity) - REACH_SECONDS) this.behind = false;
    });
    video.addEventListener("waiting", () => {
      this.stallTimer ??= window.setTimeout(() => on("stalled"), STALL_MS);
    });
    video.addEventListener("pause", () => {
      // The pause that comes with the end is not the viewer's.
      if (video.ended || !this.loaded) return;
      this.behind = true;
      this.held = true;
      on("paused");
    });
    video.addEventListener("play", () => {
      if (!this.loaded) return;
      this.held = false;
      on("resumed");
    });
    video.addEventListener("ended", () => on("ended"));
    video.addEventListener("error", () => {
      if (this.hls === null && this.loaded) this.fail(video.error?.message ?? "media error", null);
    });
  }

  private loaded = false;

  load({ source, url, broadcast, from, play }: Load): void {
    this.unload();
    this.loaded = true;
    this.held = this.behind = !play;
    this.position = 0;
    // A new broadcast may count anew; within one broadcast the guard outlives every reload.
    if (this.guarded !== broadcast) {
      this.guard = new PlaylistGuard();
      this.guarded = broadcast;
      this.unseen = null;
    }
    if (from === "start") {
      this.showing = null;
      this.reached = 0;
    }
    if (Hls.isSupported()) this.loadWithHls(source, url, from);
    else if (this.video.canPlayType(NATIVE_TYPE) !== "") {
      this.video.src = url;
      if (source === "recording") this.video.currentTime = this.reached;
      this.begin();
    } else {
      this.loaded = false;
      this.on("unsupported");
    }
  }

  unload(): void {
    this.note();
    this.loaded = false;
    this.clearStall();
    this.hls?.destroy();
    this.hls = null;
    this.fragment = null;
    this.heights = [];
    this.soundUrl = null;
    if (this.video.hasAttribute("src")) {
      this.video.removeAttribute("src");
      this.video.load();
    }
  }

  private begin(): void {
    if (this.held) this.on("paused");
    else this.play();
  }

  play(): void {
    // A browser that refuses even muted autoplay leaves the play button to the viewer.
    this.video.play().catch((error: unknown) => {
      if (error instanceof DOMException && error.name === "NotAllowedError") this.on("blocked");
    });
  }

  /** What a viewer can choose beside `null`: the largest picture first. */
  get qualities(): Quality[] {
    const heights = this.heights.length > 1 ? this.heights : [];
    return [...heights, ...(this.soundUrl === null ? [] : (["sound"] as const))];
  }

  /** What the viewer wants: another height comes with the next segment. */
  set quality(quality: Quality) {
    this.wanted = quality;
    const { hls } = this;
    if (hls === null) return;
    const sound = quality === "sound" ? this.soundUrl : null;
    if ((sound !== null) !== this.soundOnly) {
      this.soundOnly = sound !== null;
      // A recording goes on where it is; what is live, at the edge; what has only begun to load, where it was to begin.
      const { latestLevelDetails: details } = hls;
      if (details !== null) hls.config.startPosition = details.live ? -1 : this.video.currentTime;
      this.behind = false;
      this.position = 0;
      hls.loadSource(sound ?? this.url);
    } else if (sound === null) {
      // -1, which is also what a height that this source does not have leads to, is hls.js's own choice.
      hls.loadLevel = hls.levels.findIndex((level) => level.height === quality);
    }
  }

  get quality(): Quality {
    return this.wanted;
  }

  /** To where the stream is now. */
  seekToLive(): void {
    const { seekable } = this.video;
    const end = seekable.length > 0 ? seekable.end(seekable.length - 1) : null;
    const target = this.hls?.liveSyncPosition ?? end;
    if (target !== null && target !== undefined) this.video.currentTime = target;
    this.behind = false;
    this.play();
  }

  /** A start or a stall on a busy machine leaves the picture so late that hls.js takes it for the viewer's wish. */
  private keepUp(): void {
    const { hls } = this;
    const details = hls?.latestLevelDetails;
    if (!hls?.lowLatencyMode || !details?.live || !details.partTarget || hls.targetLatency === null || this.behind) return;
    const late = hls.latency - hls.targetLatency;
    if (late < REACH_SECONDS + details.targetduration || performance.now() - this.jumpedAt < JUMP_PAUSE_MS) return;
    this.jumpedAt = performance.now();
    this.seekToLive();
  }

  /** Seconds between the end of the playlist and the picture; `null` when that has no meaning. */
  get edgeSeconds(): number | null {
    if (this.hls === null) return null;
    const details = this.hls.latestLevelDetails;
    return details?.live && this.video.readyState >= 2 ? this.hls.latency : null;
  }

  /** EXT-X-PROGRAM-DATE-TIME of the picture on show, milliseconds since 1970. */
  get programDateTimeMs(): number | null {
    if (this.hls !== null) return this.hls.playingDate?.getTime() ?? null;
    // Safari's own player tells the date of time zero.
    const start = (this.video as { getStartDate?: () => Date }).getStartDate?.().getTime();
    return start === undefined || Number.isNaN(start) ? null : start + this.video.currentTime * 1000;
  }

  /** Takes down what has been seen: what comes next is told by numbers, which are the same in every source. */
  private note(): void {
    const { fragment, video } = this;
    if (fragment === null || typeof fragment.sn !== "number") return;
    this.showing = fragment.sn + (video.currentTime > fragment.end - END_SECONDS ? 1 : 0);
    this.unseen = Math.max(this.unseen ?? 0, this.showing);
  }

  /** Whether a source has a segment that was not seen, of what is on show or of all that was. `null` where it has no playlist. */
  async hasNews(url: string, of: "showing" | "all"): Promise<boolean | null> {
    // A picture that stands has moved since it was last heard of.
    this.note();
    const media = await mediaPlaylist(url);
    const text = media === null ? null : await playlist(media);
    const extent = text === null ? null : extentOf(text);
    if (extent === null) return null;
    if (!Hls.isSupported()) return this.ends.hasNews(url, extent.end);
    return extent.end > ((of === "all" ? this.unseen : this.showing) ?? extent.mediaSequence);
  }

  private loadWithHls(source: Source, url: string, from: From): void {
    const number = from !== "seen" ? null : source === "start" ? this.showing : this.unseen;
    const edit = (text: string) => (number === null ? text : startingAt(text, number, source === "start"));
    const hls = new Hls({
      workerPath: workerUrl,
      pLoader: guardedLoader(this.guard, edit),
      lowLatencyMode: source === "box",
      liveDurationInfinity: true,
      // A playlist that stands still is no fault of the player: who has something new is found out beside it.
      liveMaxUnchangedPlaylistRefresh: Infinity,
      ...(source === "start" && number === null && { startPosition: 0 }),
      ...(source === "recording" && { startPosition: this.reached }),
      // A stall makes hls.js stay further behind for good. A second, its default, is as much as the parts have won.
      ...(source === "box" && { liveSyncOnStallIncrease: 0.25 }),
      // Catches up after a start or a hiccup on a busy machine: a second and a half in fifteen seconds, hardly heard.
      maxLiveSyncPlaybackRate: 1.1,
      // A box that runs for a day must not fill the memory of the browsers that watch it.
      backBufferLength: 60,
      playlistLoadPolicy: PATIENT,
      fragLoadPolicy: PATIENT,
      enableInterstitialPlayback: false,
    });
    this.hls = hls;
    // Ten segments behind is no longer live: go back to the edge instead of drifting (viewers of others reach a minute). Set
    // here, because hls.js wants to see its companion beside it, and with that it ignores the origin's PART-HOLD-BACK.
    hls.config.liveMaxLatencyDurationCount = source === "start" ? Infinity : 10;
    this.url = url;
    this.soundOnly = false;
    hls.on(Hls.Events.MANIFEST_PARSED, (_, data) => {
      if (!this.soundOnly) {
        this.heights = [...new Set(data.levels.map((level) => level.height))].sort((a, b) => b - a);
        this.soundUrl = data.audioTracks[0]?.url ?? null;
        // The viewer's choice outlives a change of the source.
        if (this.wanted !== null) this.quality = this.wanted;
      }
      this.begin();
    });
    hls.on(Hls.Events.FRAG_CHANGED, (_, data) => {
      this.fragment = data.frag;
      this.note();
    });
    hls.on(Hls.Events.ERROR, (_, data) => {
      if (!data.fatal) return;
      // One repair a source and ten seconds; what breaks again at once is not repaired by trying.
      if (data.type === Hls.ErrorTypes.MEDIA_ERROR && performance.now() - this.recoveredAt > 10_000) {
        this.recoveredAt = performance.now();
        hls.recoverMediaError();
        // An element that is given a new source is paused, and says nothing of it.
        this.begin();
        return;
      }
      this.fail(`${data.details}: ${data.error.message}`, data.response?.code ?? null);
    });
    hls.loadSource(url);
    hls.attachMedia(this.video);
  }

  private fail(reason: string, status: number | null): void {
    this.lastError = reason;
    this.failed(status);
  }

  private clearStall(): void {
    window.clearTimeout(this.stallTimer);
    this.stallTimer = undefined;
  }
}
