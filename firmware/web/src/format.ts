// Numbers as people read them. Pure.

import type { Outside, Status, SyncTest, Witness } from "./api";

/** `0:07`, `12:34`, `1:02:03`. */
export function duration(ms: number): string {
  const total = Math.max(0, Math.floor(ms / 1000));
  const seconds = String(total % 60).padStart(2, "0");
  const minutes = Math.floor(total / 60) % 60;
  const hours = Math.floor(total / 3600);
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, "0")}:${seconds}` : `${minutes}:${seconds}`;
}

/** Delay behind the camera: tenths up to ten seconds, whole seconds above, minutes and hours from two minutes on. */
export function delay(seconds: number | null): string {
  if (seconds === null || !Number.isFinite(seconds)) return "–";
  const value = Math.max(0, seconds);
  if (value >= 119.5) return duration(Math.round(value) * 1000);
  return value < 9.95 ? `${value.toFixed(1)} s` : `${Math.round(value)} s`;
}

export function bitrate(kbps: number | null): string {
  if (kbps === null) return "–";
  return kbps < 1000 ? `${kbps} kb/s` : `${(kbps / 1000).toFixed(2)} Mb/s`;
}

/** Powers of 1000, as on the label of a card. */
export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** `1280×720, 30 fps`; 30000/1001 becomes 29.97. */
export function videoFormat(format: { width: number; height: number; fps_num: number; fps_den: number } | null): string {
  if (format === null) return "none";
  const fps = format.fps_den > 0 ? format.fps_num / format.fps_den : 0;
  return `${format.width}×${format.height}, ${Number(fps.toFixed(2))} fps`;
}

/** Level in dBFS with a true minus sign; the box's floor is silence. */
export function level(dbfs: number): string {
  return dbfs <= -90 ? "silent" : `${dbfs > -0.5 ? "0" : `−${Math.round(-dbfs)}`} dB`;
}

/** A number with its sign, a true minus, and no digits: `+12 ms`, `−3 ppm`, `0 ms`. */
export function signed(value: number | null, unit: string): string {
  if (value === null) return "–";
  const rounded = Math.round(value);
  return `${rounded > 0 ? "+" : rounded < 0 ? "−" : ""}${Math.abs(rounded)} ${unit}`;
}

/** What the self-test says, in words, and what to do. `test` is null when it does not run. */
export function syncWords(test: SyncTest | null): string {
  if (test === null) return "The self-test measures how far sound and picture are apart at the input.";
  switch (test.word) {
    case "looking":
      return test.pairs ? `Found ${test.pairs} flashes with a beep; keep it flashing.` : "Looking for flashes and beeps.";
    case "nothing_found":
      return "No flash and no beep: open the sync page on the device that goes into the mixer.";
    case "no_flash":
      return "Beeps, but no flash: is the device's picture selected on the mixer?";
    case "no_beep":
      return "Flashes, but no beep: is the device's sound turned up on the mixer?";
    case "too_loud":
      return "The sound clips: turn it down.";
    case "no_pattern":
      return "The beeps do not belong to the flashes: use one device, and close the other microphones.";
    case "measured": {
      const left = Math.round(test.left_ms ?? 0);
      if (Math.abs(left) < 3) return "Sound and picture fit.";
      return left > 0 ? `The sound is ${left} ms late.` : `The sound is ${-left} ms early.`;
    }
  }
}

/** What encodes the picture, and why. */
export function encoder({ element, preset, reason }: Status["encoder"]): string {
  const why = { configured: "as configured", default: "by default", measured: "the best that was tried", fallback: "the hardware gave nothing" };
  return `${element === "x264enc" ? "x264" : "hardware"}${preset ? ` ${preset}` : ""}, ${why[reason]}`;
}

/** Heat, power, wear and clock in a line. */
export function machine({ temperature_c, undervoltage, throttled, storage, clock }: Status["machine"]): string {
  const seen = (what: string, when: Status["machine"]["throttled"]) =>
    when === "now" || when === "past" ? `${what}${when === "past" ? " before" : ""}` : null;
  const known = [
    temperature_c === null ? null : `${Math.round(temperature_c)} °C`,
    seen("power too weak", undervoltage),
    seen("slowed down", throttled),
    storage.worn_percent === null ? null : `storage ${storage.worn_percent} % worn`,
    clock.synchronised === null ? null : clock.synchronised ? "clock from the network" : "clock not from the network",
    clock.battery === false ? "clock battery empty" : null,
  ];
  return known.filter(Boolean).join(", ") || "has no sensors that could be read";
}

/** The address of `path` on the viewers' port; `null` as long as the box does not say its own. (`URL.canParse` is too new.) */
export function addressOf(path: string, watchUrl: string): string | null {
  try {
    return new URL(path, watchUrl).href;
  } catch {
    return null;
  }
}

const seconds = (ms: number) => `${Math.round(ms / 1000)} s`;

/** What leaves the box: sum and rate, and how much of the cap is used. */
export function uplink(it: Status["uplink"]): string {
  const part = (what: string, count: number, kbps: number) => `${what} ${bytes(count)}, now ${bitrate(kbps)}`;
  const parts = [
    part("viewers", it.viewers_bytes, it.viewers_kbps),
    part("viewers here", it.local_bytes, it.local_kbps),
    part("peers", it.peers_bytes, it.peers_kbps),
  ];
  const cap = it.cap_kbps === null ? [] : [`${it.used_percent ?? 0} % of ${bitrate(it.cap_kbps)}`];
  return [...parts, ...cap].join("; ");
}

/** What is open on the viewers' port: a player opens several, so this is no number of people. */
export function viewers(it: Status["viewers"]): string {
  const refused = it.refused === 0 ? "" : `; ${it.refused} turned away`;
  return `${it.connections} ${it.connections === 1 ? "connection" : "connections"} (a browser opens up to six), at most ${it.max_connections}${refused}`;
}

/** "Seen by 2 of 3, 8 s behind". */
export function seenBy(summary: Outside["summary"]): string {
  if (summary === null) return "–";
  const behind = summary.behind_ms === null ? "" : `, ${seconds(summary.behind_ms)} behind`;
  return `Seen by ${summary.seen} of ${summary.of}${behind}`;
}

/** Ids are long and begin alike: their ends tell them apart. What is long is cut at its end by the style sheet. */
export function witnessName({ kind, name, agent }: Pick<Witness, "kind" | "name" | "agent">): string {
  const id = kind === "gateway" || name.length <= 10 ? name : `…${name.slice(-8)}`;
  return agent === null ? id : `${id} ${agent}`;
}

/** What one of them has. */
export function witness({ kind, address, seen, behind_ms, error }: Witness): string {
  const behind = behind_ms === null ? "" : `, ${seconds(behind_ms)} behind`;
  if (seen === true) return `has it${behind}`;
  if (seen === false) return `${error ?? "does not have it"}${behind}`;
  return kind === "peer" && address === null ? "unknown: cannot be dialled" : "not asked yet";
}

/** How old the name's record is, and who knows of it. */
export function record({ age_ms, listeners, dht_ms, dht_taken, http_ms, another_ms }: Outside["record"]): string {
  const ago = (ms: number) => (ms < 120_000 ? `${seconds(ms)} ago` : `${Math.round(ms / 60_000)} min ago`);
  const known = [
    age_ms === null ? "none yet" : `signed ${ago(age_ms)}`,
    listeners === 0 ? "nobody listens on PubSub" : `${listeners} listen on PubSub`,
    dht_ms === null ? null : `${dht_taken ? "taken" : "not taken"} by the DHT ${ago(dht_ms)}`,
    http_ms === null ? null : `asked for over HTTP ${ago(http_ms)}`,
    another_ms === null ? null : `signed by another box, too, ${ago(another_ms)}`,
  ];
  return known.filter(Boolean).join(", ");
}
