// What a broadcast's directory says of itself, in `broadcast.json` beside the player.

export interface Description {
  name: string;
  /** Milliseconds since 1970; absent where the clock was not set. */
  started_ms: number | null;
}

/** `null` where that is no description: older broadcasts have none. */
export function parsed(text: string): Description | null {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof json !== "object" || json === null) return null;
  const { name, started_ms } = json as Partial<Record<keyof Description, unknown>>;
  return typeof name === "string" ? { name, started_ms: typeof started_ms === "number" ? started_ms : null } : null;
}

/** The event's name and when it began, as the reader writes dates; empty where nothing is known. */
export function titleOf({ name, started_ms }: Description, locale?: string, timeZone?: string): string {
  const began =
    started_ms === null ? "" : new Date(started_ms).toLocaleString(locale, { dateStyle: "long", timeStyle: "short", timeZone });
  return [name, began].filter(Boolean).join(", ");
}
