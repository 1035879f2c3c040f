// player.html: plays the directory that it lies in, on any path or subdomain gateway, and from the file system of none.

import Hls from "hls.js";
import type { Public } from "./api";
import { isSame, parsed, titleOf } from "./description";
import { choose, comesBack, ENDED, GONE, isFinished, NOTES, type Choice } from "./directory";

const RETRY_MS = 3000;

const video = document.getElementById("video") as HTMLVideoElement;
const note = document.getElementById("note") as HTMLElement;

let hls: Hls | null = null;
/** What is loaded. */
let choice: Choice | null = null;
/** What the directory says of itself; each broadcast says something else. */
let described: string | null = null;
/** The viewer has paused. */
let held = false;
let waiting = false;

/** The status of what lies there now, or nothing where nobody answers. Not from the browser's cache, which keeps what has a CID. */
async function status(file: string): Promise<number | null> {
  try {
    return (await fetch(file, { method: "HEAD", cache: "no-store" })).status;
  } catch {
    return null;
  }
}

/** Where the channel goes on, if this is a path of a box or its mirror, which say so. */
async function channel(): Promise<string | null> {
  try {
    const box = (await (await fetch("/api/v1/public")).json()) as Public;
    return box.ipns ? `/ipns/${box.ipns}/` : null;
  } catch {
    return null;
  }
}

function tell(what: string, label: string, href: string): void {
  const link = document.createElement("a");
  link.textContent = label;
  link.href = href;
  note.replaceChildren(what, " ", link);
}

async function tellItIsGone(): Promise<void> {
  const href = await channel();
  if (href === null) note.textContent = GONE;
  else tell(GONE, "Open the channel's name", href);
}

async function description(): Promise<string | null> {
  try {
    const answer = await fetch("broadcast.json", { cache: "no-store" });
    return answer.ok ? await answer.text() : null;
  } catch {
    return null;
  }
}

/** A directory without a description plays all the same. */
async function describe(): Promise<void> {
  const text = await description();
  if (text === null) return;
  described = text;
  const known = parsed(text);
  const title = known === null ? "" : titleOf(known);
  document.title = title || "Broadcast";
  (document.getElementById("title") as HTMLElement).textContent = title;
}

/** Who has seen the end of what was live is shown what comes next under the name. */
async function waitForNext(): Promise<void> {
  // By its own address the page now plays the recording.
  tell(ENDED, "Watch the recording", "");
  if (waiting) return;
  waiting = true;
  for (;;) {
    await new Promise((done) => window.setTimeout(done, RETRY_MS));
    const now = await description();
    if (now !== null && described !== null && !isSame(now, described)) break;
    described ??= now;
  }
  waiting = false;
  await start(0);
}

function begin(): void {
  // A browser that refuses even muted autoplay shows its play button.
  if (!held) video.play().catch(() => undefined);
}

function load(choice: Choice, position: number): void {
  note.textContent = NOTES[choice.kind];
  hls?.destroy();
  if (!Hls.isSupported()) {
    video.src = choice.playlist;
    begin();
    return;
  }
  const player = new Hls({
    // A worker would be a file of its own.
    enableWorker: false,
    // What is not live has no edge to stay at: it is seen from its beginning, or from where it broke off.
    ...(choice.kind !== "live" && { startPosition: position }),
    backBufferLength: 60,
  });
  hls = player;
  let failed = false;
  player.on(Hls.Events.MANIFEST_PARSED, begin);
  player.on(Hls.Events.ERROR, async (_, data) => {
    // Picture and sound may fail one after the other.
    if (!data.fatal || failed) return;
    failed = true;
    player.stopLoad();
    if (!comesBack(choice.kind, await status("./"))) return void tellItIsGone();
    note.textContent = `${data.details}: trying again`;
    later(position);
  });
  player.on(Hls.Events.FRAG_BUFFERED, () => {
    if (!failed) note.textContent = NOTES[choice.kind];
  });
  player.loadSource(choice.playlist);
  player.attachMedia(video);
}

/** Begins at `position` only where nothing has been shown yet: what is in the buffer plays to its end meanwhile. */
function later(position: number): void {
  window.setTimeout(() => void start(video.currentTime || position), RETRY_MS);
}

async function start(position: number): Promise<void> {
  const finished = isFinished(await status("vod.m3u8"));
  if (finished === null) {
    note.textContent = "No answer: trying again";
    return later(position);
  }
  void describe();
  choice = choose(location, finished);
  load(choice, position);
}

video.addEventListener("pause", () => (held = !video.ended));
video.addEventListener("play", () => (held = false));
video.addEventListener("ended", () => {
  if (choice?.kind === "live") void waitForNext();
});
void start(0);
