// What a broadcast's directory says of itself, in `broadcast.json` beside the player.

export interface Description {
  name: string;
  /** Milliseconds since 1970; absent where the clock was not set. */
  started_ms: number | null;
  /** Number of its first segment; absent where it was described by an older version. */
  first: number | null;
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
  const { name, started_ms, first } = json as Partial<Record<keyof Description, unknown>>;
  const number = (it: unknown) => (typeof it === "number" ? it : null);
  return typeof name === "string" ? { name, started_ms: number(started_ms), first: number(first) } : null;
}

/** Whether two descriptions are of one broadcast: in each life of its box it is described anew, also with what goes before it. */
export function isSame(one: string, other: string): boolean {
  const [a, b] = [parsed(one), parsed(other)];
  return a === null || b === null ? one === other : a.first === b.first && a.started_ms === b.started_ms;
}

/** The event's name and when it began, as the reader writes dates; empty where nothing is known. */
export function titleOf({ name, started_ms }: Pick<Description, "name" | "started_ms">, locale?: string, timeZone?: string): string {
  const began =
    started_ms === null ? "" : new Date(started_ms).toLocaleString(locale, { dateStyle: "long", timeStyle: "short", timeZone });
  return [name, began].filter(Boolean).join(", ");
}
