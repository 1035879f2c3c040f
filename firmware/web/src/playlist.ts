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
