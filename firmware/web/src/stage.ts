// The picture with everything that lies on it, and the loop that keeps it going: ask the box, step the viewer, act.
// The watch page and the embedded player are this and differ in what they put around it.

import "media-chrome/dist/media-control-bar.js";
import "media-chrome/dist/media-controller.js";
import "media-chrome/dist/media-fullscreen-button.js";
import "media-chrome/dist/media-live-button.js";
import "media-chrome/dist/media-loading-indicator.js";
import "media-chrome/dist/media-mute-button.js";
import "media-chrome/dist/media-pip-button.js";
import "media-chrome/dist/media-play-button.js";
import "media-chrome/dist/media-time-display.js";
import "media-chrome/dist/media-time-range.js";
import "media-chrome/dist/media-volume-range.js";
import "./stage.css";

import type Hls from "hls.js";
import { get, HttpError, type Public } from "./api";
import { BoxClock, latency } from "./clock";
import { delay } from "./format";
import { actionOf, pathOf } from "./keys";
import { isThere, Player, type Quality } from "./player";
import {
  type Event as ViewerEvent,
  hasRecording,
  initial,
  type LiveSource,
  type Phase,
  phase,
  type Source,
  stands,
  step,
  urlOf,
  type Viewer,
  words,
} from "./viewer";

const POLL_MS = 2000;
/** What the box answers to one connection too many. */
const TURNED_AWAY = 503;
const TICK_MS = 500;
const SEEK_SECONDS = 5;
const VOLUME_STEP = 0.1;

/** What automated judges may read; everything in it is read-only. */
export interface Hook {
  readonly hls: Hls | null;
  readonly video: HTMLVideoElement;
  readonly state: Phase;
  readonly source: Source | null;
  /** Seconds from the camera to the screen; `null` when nothing live plays. */
  readonly latency: number | null;
  readonly lastError: string | null;
}

declare global {
  interface Window {
    podium?: Hook;
  }
}

const MARKUP = `
  <media-controller id="media" class="media" fullscreenelement="stage" defaultstreamtype="live"
    nohotkeys novolumepref nomutedpref nosubtitleslangpref autohide="3">
    <video slot="media" playsinline muted></video>
    <media-loading-indicator slot="centered-chrome" noautohide></media-loading-indicator>
    <div class="timeline"><media-time-range></media-time-range></div>
    <media-control-bar>
      <media-play-button></media-play-button>
      <media-mute-button></media-mute-button>
      <media-volume-range></media-volume-range>
      <media-live-button></media-live-button>
      <media-time-display showduration></media-time-display>
      <span class="spacer"></span>
      <select class="quality" aria-label="Quality" title="Quality" hidden></select>
      <media-pip-button></media-pip-button>
      <media-fullscreen-button></media-fullscreen-button>
    </media-control-bar>
  </media-controller>
  <div class="badges" aria-hidden="true">
    <span class="badge lamp"></span><span class="badge delay" hidden></span>
  </div>
  <p class="banner" hidden></p>
  <p class="sound-only" hidden>Sound only</p>
  <button id="watch-live" class="pill again" type="button" hidden>Live again: watch now</button>
  <button id="watch-start" class="pill from-start" type="button" hidden>Watch from the start</button>
  <button id="sound" class="pill sound" type="button" hidden>
    <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 9v6h4l5 4V5L8 9zm12.5 0 5 6m0-6-5 6"/></svg>
    Tap for sound
  </button>
  <div class="card" hidden>
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true"><path d="M3 18h8v10H3zm9-6h8v16h-8zm9 9h8v7h-8z"/><circle cx="16" cy="6" r="3"/></svg>
    <h2></h2>
    <p></p>
    <div class="actions">
      <button id="play" class="pill play" type="button" hidden>Play</button>
      <button id="watch-recording" class="pill recording" type="button" hidden></button>
    </div>
  </div>
  <p class="announce" role="status" aria-live="polite"></p>
`;

const TITLES: Record<Phase, string> = {
  connecting: "Looking for the box",
  waiting: "Not live yet",
  starting: "Starting",
  live: "",
  lost: "",
  reconnecting: "Reconnecting",
  away: "The box is away",
  full: "Too many viewers",
  over: "The broadcast has ended",
  ended: "The broadcast has ended",
  recording: "",
  unsupported: "Cannot play here",
};

export class Stage {
  private viewer: Viewer = initial();
  private readonly player: Player;
  private readonly clock = new BoxClock();
  private readonly listeners: (() => void)[] = [];
  private moved = false;
  private soundTaken = false;
  private said = "";

  /** Whether single keys act on the whole page (WCAG 2.1.4 wants them to be stoppable). */
  shortcuts = true;

  constructor(private readonly root: HTMLElement) {
    root.classList.add("stage");
    root.innerHTML = MARKUP;
    this.player = new Player(
      this.find("video"),
      (type) => this.dispatch({ type }),
      (status) => this.dispatch({ type: "failed", status }),
    );
    this.wire();
    window.podium = this.hook();
    this.render();
    void this.poll();
    window.setInterval(() => this.dispatch({ type: "tick" }), TICK_MS);
  }

  get view(): Viewer {
    return this.viewer;
  }

  get latency(): number | null {
    const { source, box } = this.viewer;
    if (source !== "box" && source !== "ipfs") return null;
    return latency({
      nowMs: Date.now(),
      offsetMs: this.clock.offsetMs,
      programDateTimeMs: this.player.programDateTimeMs,
      edgeSeconds: this.player.edgeSeconds,
      boxSideMs: box?.latency_ms ?? null,
      behindMs: box?.mirror?.gone ? null : (box?.mirror?.behind_ms ?? 0),
    });
  }

  /** Calls back after every change, at least twice a second. */
  onChange(listener: () => void): void {
    this.listeners.push(listener);
    listener();
  }

  prefer(source: LiveSource): void {
    this.dispatch({ type: "prefer", source });
  }

  private find<E extends Element>(selector: string): E {
    const element = this.root.querySelector<E>(selector);
    if (element === null) throw new Error(`the player has no ${selector}`);
    return element;
  }

  private async poll(): Promise<void> {
    for (;;) {
      try {
        const { body, dateSeconds, sentMs, receivedMs } = await get<Public>("/api/v1/public", POLL_MS * 2);
        if (dateSeconds !== null) this.clock.observe(sentMs, receivedMs, dateSeconds);
        this.dispatch({ type: "answer", box: body });
      } catch (error) {
        this.dispatch({ type: error instanceof HttpError && error.status === TURNED_AWAY ? "full" : "silence" });
      }
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
  }

  private dispatch(event: ViewerEvent): void {
    if (event.type === "progress") this.moved = true;
    const [viewer, actions] = step(this.viewer, performance.now(), event);
    this.viewer = viewer;
    for (const action of actions) {
      if (action.type === "load") {
        this.moved = false;
        this.player.load(action);
      } else if (action.type === "look") {
        void this.look();
      } else {
        this.player.unload();
      }
    }
    this.render();
  }

  /** Looks who has something that this viewer has not seen. */
  private async look(): Promise<void> {
    const { box, source, hasStart } = this.viewer;
    if (box === null) return;
    const { player } = this;
    const named = box.ipns !== "";
    const [origin, copy, start] = await Promise.all([
      player.hasNews(urlOf("box", box), "all"),
      named ? player.hasNews(urlOf("ipfs", box), source === "start" ? "showing" : "all") : null,
      // What is there stays there as long as the broadcast goes on.
      named && !hasStart ? isThere(urlOf("start", box)) : hasStart,
    ]);
    this.dispatch({ type: "news", news: { box: origin === true, ipfs: copy === true, start: start ? copy === true : null } });
  }

  private wire(): void {
    const { player } = this;
    const { video } = player;
    const sound = this.find<HTMLButtonElement>(".sound");
    sound.addEventListener("click", () => {
      video.muted = false;
      if (video.volume === 0) video.volume = 1;
      if (video.paused) this.player.play();
      this.find<HTMLElement>("media-mute-button").focus();
    });
    video.addEventListener("volumechange", () => {
      // Whoever has found the sound once needs no reminder after muting it again.
      this.soundTaken ||= !video.muted;
      this.render();
    });
    const quality = this.find<HTMLSelectElement>(".quality");
    quality.addEventListener("change", () => {
      const { value } = quality;
      player.quality = value === "" ? null : value === "sound" ? value : Number(value);
      this.render();
    });
    this.find(".card .play").addEventListener("click", () => this.player.play());
    this.find(".card .recording").addEventListener("click", () => this.dispatch({ type: "watch-recording" }));
    this.find(".from-start").addEventListener("click", () => this.dispatch({ type: "watch-start" }));
    this.find(".again").addEventListener("click", () => this.dispatch({ type: "watch-live" }));
    // media-chrome would seek to the very end, where nothing is loaded yet; hls.js knows the place to be.
    this.root.addEventListener(
      "mediaseektoliverequest",
      (event) => {
        event.stopImmediatePropagation();
        this.player.seekToLive();
      },
      { capture: true },
    );
    document.addEventListener("keydown", (event) => {
      if (event.defaultPrevented || !this.shortcuts || this.viewer.source === null) return;
      const { key, ctrlKey, metaKey, altKey } = event;
      const action = actionOf({ key, ctrlKey, metaKey, altKey, path: pathOf(event) });
      if (action === null) return;
      event.preventDefault();
      if (event.repeat && (action === "play" || action === "mute" || action === "fullscreen")) return;
      switch (action) {
        case "play":
          if (video.paused) this.player.play();
          else video.pause();
          break;
        case "mute":
          video.muted = !video.muted;
          break;
        case "fullscreen":
          if (document.fullscreenElement) void document.exitFullscreen();
          else void this.root.requestFullscreen().catch(() => undefined);
          break;
        case "back":
        case "forward":
          this.seekBy(action === "back" ? -SEEK_SECONDS : SEEK_SECONDS);
          break;
        case "louder":
          video.muted = false;
          video.volume = Math.min(1, video.volume + VOLUME_STEP);
          break;
        case "quieter":
          video.volume = Math.max(0, video.volume - VOLUME_STEP);
          break;
      }
    });
  }

  private seekBy(seconds: number): void {
    const { video } = this.player;
    const { seekable } = video;
    if (seekable.length === 0) return;
    const last = this.player.hls?.liveSyncPosition ?? seekable.end(seekable.length - 1);
    const target = video.currentTime + seconds;
    if (seconds > 0 && target >= last && this.viewer.source !== "recording") {
      // Forward never leaves the live edge behind, and never goes back to it from in front.
      video.currentTime = Math.max(video.currentTime, last);
    } else {
      video.currentTime = Math.max(seekable.start(0), target);
    }
  }

  private render(): void {
    const { viewer, player } = this;
    const now = phase(viewer);
    const { word, sentence } = words(viewer);
    const moving = viewer.source !== null && (viewer.playback === "playing" || viewer.playback === "paused");
    const blocked = moving && viewer.playback === "paused" && !this.moved;
    const { dataset } = this.root;
    dataset.phase = now;
    dataset.source = viewer.source ?? "none";
    dataset.playback = viewer.playback;
    // A picture that stands is more than a card that says so.
    const held = viewer.source !== null && !moving && stands(viewer) && this.moved && player.video.readyState >= 2;
    const interrupted = now === "reconnecting" || now === "away" || now === "full";

    this.find(".lamp").textContent = word;
    const behind = this.latency;
    const shown = this.find<HTMLElement>(".badge.delay");
    shown.hidden = !moving || behind === null;
    shown.textContent = `${delay(behind)} behind`;

    const banner = this.find<HTMLElement>(".banner");
    banner.hidden = !(moving || held) || (now !== "lost" && !interrupted);
    banner.textContent = sentence;

    this.find<HTMLElement>(".from-start").hidden = moving || !interrupted || !viewer.hasStart || viewer.source === "start" || viewer.source === "recording";

    this.find<HTMLElement>(".sound").hidden = !moving || blocked || !player.video.muted || this.soundTaken;

    const liveAgain = viewer.source === "start" ? viewer.box?.state === "live" : viewer.source === "recording" && viewer.box?.live === true;
    this.find<HTMLElement>(".again").hidden = !liveAgain;

    this.renderQualities();

    const over = now === "over";
    const ended = (viewer.source === "recording" || viewer.source === "start") && viewer.playback === "ended";
    const seen = moving || held || ended;
    this.find<HTMLElement>(".card").hidden = seen && !blocked && !over;
    const [heading, text] = viewer.wantsPause ? ["Paused", sentence] : ["Ready", "Your browser waits for you to start the picture."];
    this.find(".card h2").textContent = blocked && !over ? heading : TITLES[now];
    this.find(".card p").textContent = blocked && !over ? text : sentence;
    const play = this.find<HTMLElement>(".card .play");
    play.hidden = over ? player.video.readyState < 2 : !blocked;
    play.textContent = over ? "Play the rest" : "Play";
    const recording = this.find<HTMLElement>(".card .recording");
    recording.hidden = !hasRecording(viewer) || (now !== "ended" && now !== "waiting" && !over);
    recording.textContent = now === "waiting" ? "Watch the last recording" : "Watch the recording";

    const announcement = `${word}. ${sentence}`;
    if (announcement !== this.said) {
      this.said = announcement;
      this.find(".announce").textContent = announcement;
    }
    player.video.setAttribute("aria-label", viewer.box?.title || viewer.box?.name || "Live stream");
    for (const listener of this.listeners) listener();
  }

  private renderQualities(): void {
    const { qualities, quality } = this.player;
    this.find<HTMLElement>(".sound-only").hidden = quality !== "sound" || this.viewer.source === null;
    const select = this.find<HTMLSelectElement>(".quality");
    select.hidden = qualities.length === 0;
    // Only when they change: a menu that is open would close.
    if (select.dataset.qualities === qualities.join()) return;
    select.dataset.qualities = qualities.join();
    const all = qualities.length > 1 ? "Auto" : "Picture and sound";
    const label = (it: Quality) => (it === "sound" ? "Sound only" : `${it}p`);
    select.replaceChildren(new Option(all, ""), ...qualities.map((it) => new Option(label(it), String(it))));
    select.value = quality !== null && qualities.includes(quality) ? String(quality) : "";
  }

  private hook(): Hook {
    const stage = this;
    return Object.freeze({
      get hls() {
        return stage.player.hls;
      },
      get video() {
        return stage.player.video;
      },
      get state() {
        return phase(stage.viewer);
      },
      get source() {
        return stage.viewer.source;
      },
      get latency() {
        return stage.latency;
      },
      get lastError() {
        return stage.player.lastError;
      },
    });
  }
}
