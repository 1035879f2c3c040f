// Which playlist of a broadcast's directory to play.

export type Kind = "recording" | "live" | "snapshot";

export interface Choice {
  kind: Kind;
  playlist: string;
}

export const NOTES: Record<Kind, string> = {
  recording: "Recording",
  live: "Live",
  snapshot: "The broadcast until this address was made. It may have gone on since.",
};

/** What lies under a CID never changes; what lies under a name goes on. */
export function choose(place: { hostname: string; pathname: string }, finished: boolean): Choice {
  if (finished) return { kind: "recording", playlist: "vod.m3u8" };
  const byName = place.pathname.startsWith("/ipns/") || place.hostname.includes(".ipns.");
  const byCid = place.pathname.startsWith("/ipfs/") || place.hostname.includes(".ipfs.");
  if (byCid && !byName) return { kind: "snapshot", playlist: "event.m3u8" };
  return { kind: "live", playlist: "index.m3u8" };
}
