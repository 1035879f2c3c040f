// player.html: plays the directory that it lies in, on any path or subdomain gateway, and from the file system of none.

import Hls from "hls.js";
import type { Public } from "./api";
import { parsed, titleOf } from "./description";
import { choose, comesBack, GONE, NOTES, type Choice } from "./directory";

const RETRY_MS = 3000;

const video = document.getElementById("video") as HTMLVideoElement;
const note = document.getElementById("note") as HTMLElement;

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

async function tellItIsGone(): Promise<void> {
  const href = await channel();
  note.textContent = GONE;
  if (href === null) return;
  const link = document.createElement("a");
  link.textContent = "Open the channel's name";
  link.href = href;
  note.append(" ", link);
}

/** A directory without a description plays all the same. */
async function describe(): Promise<void> {
  const json: unknown = await fetch("broadcast.json").then((answer) => answer.json()).catch(() => null);
  const description = parsed(json);
  const title = description === null ? "" : titleOf(description);
  if (title === "") return;
  document.title = title;
  (document.getElementById("title") as HTMLElement).textContent = title;
}

function begin(): void {
  // A browser that refuses even muted autoplay shows its play button.
  video.play().catch(() => undefined);
}

function load(choice: Choice, position: number): void {
  note.textContent = NOTES[choice.kind];
  if (!Hls.isSupported()) {
    video.src = choice.playlist;
    begin();
    return;
  }
  const hls = new Hls({
    // A worker would be a file of its own.
    enableWorker: false,
    // A snapshot has no live edge to stay at: it is seen from its beginning, or from where it broke off.
    ...(choice.kind === "snapshot" && { startPosition: position }),
    backBufferLength: 60,
  });
  let failed = false;
  hls.on(Hls.Events.MANIFEST_PARSED, begin);
  hls.on(Hls.Events.ERROR, async (_, data) => {
    // Picture and sound may fail one after the other.
    if (!data.fatal || failed) return;
    failed = true;
    // What is in the buffer plays to its end meanwhile.
    hls.stopLoad();
    if (!comesBack(choice.kind, await status("./"))) return void tellItIsGone();
    note.textContent = `${data.details}: trying again`;
    const reached = video.currentTime;
    hls.destroy();
    window.setTimeout(() => void start(reached), RETRY_MS);
  });
  hls.on(Hls.Events.FRAG_BUFFERED, () => {
    if (!failed) note.textContent = NOTES[choice.kind];
  });
  hls.loadSource(choice.playlist);
  hls.attachMedia(video);
}

async function start(position: number): Promise<void> {
  load(choose(location, (await status("vod.m3u8")) === 200), position);
}

void describe();
void start(0);
