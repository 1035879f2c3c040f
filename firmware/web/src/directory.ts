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

/** What the page says at the end of what was live. */
export const ENDED = "The broadcast has ended. The next one begins here by itself.";

/**
 * Whether the broadcast is over, by the status of its recording's playlist. `null` where nobody answers, or not for good: what is
 * one thing or the other must not be played as the wrong one.
 */
export function isFinished(status: number | null): boolean | null {
  return status === null || status === 429 || status >= 500 ? null : status === 200;
}

/** What a snapshot's page says when the box has let go of its root. */
export const GONE = "This address was kept for ten minutes, and is gone.";

/**
 * Whether to try again after an error that the player cannot get over; `directory` is the status of the page's own directory, now.
 * What lies under a name comes back, or goes on under the next broadcast; a snapshot that its box no longer has never does.
 */
export function comesBack(kind: Kind, directory: number | null): boolean {
  return kind !== "snapshot" || directory !== 404;
}
