// player.html: plays the directory that it lies in, on any path or subdomain gateway, and from the file system of none.

import Hls from "hls.js";
import { choose, NOTES, type Choice } from "./directory";

const RETRY_MS = 3000;

const video = document.getElementById("video") as HTMLVideoElement;
const note = document.getElementById("note") as HTMLElement;

async function has(file: string): Promise<boolean> {
  try {
    return (await fetch(file, { method: "HEAD" })).ok;
  } catch {
    return false;
  }
}

function begin(): void {
  // A browser that refuses even muted autoplay shows its play button.
  video.play().catch(() => undefined);
}

function load(choice: Choice): void {
  note.textContent = NOTES[choice.kind];
  if (!Hls.isSupported()) {
    video.src = choice.playlist;
    begin();
    return;
  }
  const hls = new Hls({
    // A worker would be a file of its own.
    enableWorker: false,
    // A snapshot has no live edge to stay at: it is seen from its beginning.
    ...(choice.kind === "snapshot" && { startPosition: 0 }),
    backBufferLength: 60,
  });
  hls.on(Hls.Events.MANIFEST_PARSED, begin);
  hls.on(Hls.Events.ERROR, (_, data) => {
    if (!data.fatal) return;
    note.textContent = `${data.details}: trying again`;
    hls.destroy();
    window.setTimeout(start, RETRY_MS);
  });
  hls.on(Hls.Events.FRAG_BUFFERED, () => {
    note.textContent = NOTES[choice.kind];
  });
  hls.loadSource(choice.playlist);
  hls.attachMedia(video);
}

async function start(): Promise<void> {
  load(choose(location, await has("vod.m3u8")));
}

void start();
