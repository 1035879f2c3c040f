// A live playlist only moves forward. Caches, mirrors and IPNS can hand out an older one (tomesh saw MEDIA-SEQUENCE go
// 572, 542, 572), and hls.js does not survive that, so that such a playlist is refused before hls.js sees it. Pure.

export interface Extent {
  /** EXT-X-MEDIA-SEQUENCE. */
  mediaSequence: number;
  /** Media sequence number after the last whole segment, those of a delta update's EXT-X-SKIP included. */
  end: number;
}

/** Extent of a media playlist; `null` for a multivariant playlist and for what is no playlist. */
export function extentOf(text: string): Extent | null {
  if (!text.startsWith("#EXTM3U")) return null;
  let mediaSequence = 0;
  let segments = 0;
  let media = false;
  for (const line of text.split("\n")) {
    if (line.startsWith("#EXT-X-TARGETDURATION:")) media = true;
    else if (line.startsWith("#EXT-X-MEDIA-SEQUENCE:")) mediaSequence = Number(line.slice(22));
    else if (line.startsWith("#EXTINF:")) segments += 1;
    else if (line.startsWith("#EXT-X-SKIP:")) segments += Number(/SKIPPED-SEGMENTS=(\d+)/.exec(line)?.[1] ?? 0);
  }
  if (!media || !Number.isSafeInteger(mediaSequence)) return null;
  return { mediaSequence, end: mediaSequence + segments };
}

/** The address that a multivariant playlist names first; `null` where it names none. */
export function firstUri(text: string): string | null {
  if (!text.startsWith("#EXTM3U")) return null;
  return text.split("\n").find((line) => line !== "" && !line.startsWith("#")) ?? null;
}

/** With more than this that is new, what is live is worth more than what was missed. */
const MISSED_SEGMENTS = 3;

/**
 * A media playlist that begins with segment `number`, if it has it and not much more after it; else itself. EXT-X-START is
 * what players begin at that know the playlist for the first time.
 */
export function startingAt(text: string, number: number, whateverMissed = false): string {
  const extent = extentOf(text);
  if (extent === null || number <= extent.mediaSequence || number > extent.end || text.includes("#EXT-X-SKIP:")) return text;
  if (!whateverMissed && extent.end - number > MISSED_SEGMENTS) return text;
  let offset = 0;
  let before = number - extent.mediaSequence;
  for (const line of text.split("\n")) {
    if (before === 0) break;
    if (!line.startsWith("#EXTINF:")) continue;
    offset += Number.parseFloat(line.slice(8));
    before -= 1;
  }
  return text.replace("\n", `\n#EXT-X-START:TIME-OFFSET=${offset.toFixed(5)},PRECISE=YES\n`);
}

/**
 * Where playlists ended when the picture was first found standing, for a browser's own player, which does not tell what it has
 * shown. What comes after that is new, and the rest may have been seen.
 */
export class StandingEnds {
  private readonly ends = new Map<string, number>();

  /** The picture moves. */
  clear(): void {
    this.ends.clear();
  }

  /** Whether the playlist at `url`, which ends at number `end`, has more than any had. */
  hasNews(url: string, end: number): boolean {
    const before = this.ends.get(url);
    if (before === undefined) this.ends.set(url, end);
    return before !== undefined && end > Math.max(...this.ends.values());
  }
}

/** Remembers how far each playlist of one broadcast has come. */
export class PlaylistGuard {
  private readonly newest = new Map<string, { extent: Extent; text: string }>();

  /**
   * What to hand on for `text`, loaded from `url`: itself, or the newest one seen if `text` is older, as if there were no
   * news. `null` if the newest one is a delta update, which means nothing to a player that starts anew.
   */
  pass(url: string, text: string): string | null {
    const extent = extentOf(text);
    if (extent === null) return text;
    // The query holds delivery directives (`_HLS_msn`), not identity.
    const key = url.replace(/[?#].*$/, "");
    const before = this.newest.get(key);
    if (before && (extent.mediaSequence < before.extent.mediaSequence || extent.end < before.extent.end)) {
      return before.text.includes("#EXT-X-SKIP:") ? null : before.text;
    }
    this.newest.set(key, { extent, text });
    return text;
  }
}
