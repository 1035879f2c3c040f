// What the box answers, as it says it on the wire. `Status` mirrors `firmware/stream/src/status.rs`.

export type StateWord = "idle" | "starting" | "live" | "retrying" | "stopping";
export type Signal = "ok" | "lost" | "none";
export type HealthWord = "Excellent" | "Good" | "Warning" | "Emergency" | "Dead";
export type Button = "page" | "mode";

/** `GET /api/v1/public`, on the viewers' port. */
export interface Public {
  name: string;
  state: StateWord;
  live: boolean;
  /** When the broadcast went on air, RFC 3339. Tells one broadcast from the next. */
  since: string | null;
  title: string;
  /** The box's estimate from capture to published, milliseconds. */
  latency_ms: number | null;
  ipns: string;
  root: string | null;
  root_is_vod: boolean;
  /** Of a box only. */
  signal: Signal | null;
  mirror?: Mirroring;
}

/** What a mirror says of the box that it follows. */
export interface Mirroring {
  /** Nothing comes from the box. */
  gone: boolean;
  /** For how long something newer has been known than what is served. */
  behind_ms: number;
  /** What the box published earlier is still coming. */
  catching_up: boolean;
}

/** Of every number, positive means that the sound is late against the picture. */
export interface Sync {
  trim_ms: number;
  trim_taken: boolean;
  drift_ppm: number | null;
  error_ms: number | null;
  test: SyncTest | null;
}

export interface SyncTest {
  word: "looking" | "measured" | "nothing_found" | "no_flash" | "no_beep" | "too_loud" | "no_pattern";
  /** With "looking" and "measured". */
  pairs?: number;
  /** With "measured": at the input. */
  offset_ms?: number;
  error_ms?: number;
  spread_ms?: number;
  drift?: { ppm: number; error_ppm: number } | null;
  /** With the trim of now. */
  left_ms: number | null;
}

/** A mirror, gateway or peer that is asked for the newest segment. */
export interface Witness {
  kind: "gateway" | "mirror" | "peer";
  name: string;
  agent: string | null;
  address: string | null;
  seen: boolean | null;
  sequence: number | null;
  behind_ms: number | null;
  error: string | null;
}

/** The box as others see it. */
export interface Outside {
  summary: { seen: number; of: number; behind_ms: number | null } | null;
  witnesses: Witness[];
  record: {
    sequence: number | null;
    age_ms: number | null;
    listeners: number;
    dht_ms: number | null;
    dht_taken: boolean | null;
    http_ms: number | null;
    another_ms: number | null;
  };
}

/** `GET /api/v1/status`, on the operator's port. */
export interface Status {
  name: string;
  state: { word: StateWord; cause?: string; attempt?: number };
  /** Tells one broadcast from the next. */
  broadcast: number;
  on_air_ms: number | null;
  since: string | null;
  input: {
    signal: Signal;
    source: string;
    format: { width: number; height: number; fps_num: number; fps_den: number } | null;
    black: boolean;
    frozen: boolean;
    luma: number | null;
    notes: string[];
  };
  audio: {
    peak_dbfs: [number, number];
    rms_dbfs: [number, number];
    /** The meters as on the panel: bars, and marks of the highest peak. */
    level_dbfs: [number, number];
    hold_dbfs: [number, number];
    silent: boolean;
    only: "left" | "right" | null;
    clipping: boolean;
    muted: boolean;
  };
  sync: Sync;
  bitrate_kbps: number | null;
  /** What the video encoder is asked for. */
  video_kbps: number;
  oversize: { percent: number; cause: "long" | "lowered" | "busy" | "encoder" } | null;
  /** Best first. */
  videos: { name: string; width: number; height: number; bitrate_kbps: number }[];
  health: { word: HealthWord; action: string[]; text: string };
  network: { watch_url: string; only_here: boolean; operator_url: string; operator_open: boolean };
  node: { peer_id: string; peers: number; ipns: string; root: string | null; root_is_vod: boolean };
  uplink: {
    peers_bytes: number;
    viewers_bytes: number;
    local_bytes: number;
    peers_kbps: number;
    viewers_kbps: number;
    local_kbps: number;
    cap_kbps: number | null;
    used_percent: number | null;
  };
  viewers: { connections: number; max_connections: number; refused: number };
  outside: Outside;
  disk: { free_bytes: number; stored_bytes: number; limit_bytes: number };
  segments: number;
  /** Of them, what is missing in the recording. */
  unstored: number;
  /** Why nothing is being stored. */
  outage: string | null;
  /** Why the box runs from memory. */
  disk_fault: string | null;
  dropped_units: number;
  segment_age_ms: number | null;
  tally: "off" | "blinking" | "on";
  mode: string;
  page: string;
  /** Preset of x264 only. */
  encoder: { element: "v4l2h264enc" | "x264enc"; preset?: string; reason: "configured" | "default" | "measured" | "fallback" };
  /** What does not work, or not as well as it could, and what to do: a line each. */
  hardware: string[];
  machine: {
    temperature_c: number | null;
    undervoltage: "never" | "past" | "now" | null;
    throttled: "never" | "past" | "now" | null;
    storage: { worn_percent: number | null; spare: "normal" | "warning" | "urgent" | null };
    clock: { battery: boolean | null; synchronised: boolean | null };
  };
}

/** An element of `GET /api/v1/recordings`, on the operator's port: oldest first. */
export interface Recording {
  id: number;
  name: string;
  /** RFC 3339; unknown while the clock was not set. */
  started: string | null;
  root: string | null;
  finished: boolean;
  pinned: boolean;
  bytes: number;
}

export interface Answer<T> {
  body: T;
  /** The box's clock when it answered, whole seconds since 1970, from the header Date. */
  dateSeconds: number | null;
  sentMs: number;
  receivedMs: number;
}

/** An answer that is not 2xx. */
export class HttpError extends Error {
  constructor(
    path: string,
    readonly status: number,
  ) {
    super(`${path}: ${status}`);
  }
}

/** Asks once. Fails on silence, on a status other than 2xx, and on what is not JSON. */
export async function get<T>(path: string, timeoutMs: number): Promise<Answer<T>> {
  const sentMs = Date.now();
  const response = await fetch(path, {
    cache: "no-store",
    credentials: "omit",
    signal: AbortSignal.timeout(timeoutMs),
  });
  const receivedMs = Date.now();
  if (!response.ok) throw new HttpError(path, response.status);
  const body = (await response.json()) as T;
  const date = Date.parse(response.headers.get("date") ?? "");
  return { body, dateSeconds: Number.isNaN(date) ? null : date / 1000, sentMs, receivedMs };
}

/** What the box answers to what it does not do. */
class Refused extends Error {}

/** Asks the box to do something. Fails with its reason. */
export async function post(path: string, body: unknown, keepalive = false): Promise<void> {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    credentials: "omit",
    keepalive,
    signal: AbortSignal.timeout(3000),
  });
  if (!response.ok) throw new Refused((await response.text()).trim() || `the box answered ${response.status}`);
}

/** Why a button does nothing. What the box has answered stands alone: then the button did reach it. */
export function whyNothing(error: unknown): string {
  const reason = error instanceof Error ? error.message : String(error);
  if (!(error instanceof Refused)) return `The button did not reach the box: ${reason}.`;
  return `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`;
}

/** Tells the box what a finger does; a repeat prolongs a press and begins none, however late it comes. `keepalive` lets a release leave the page even while the page is closing. */
export async function sendButton(button: Button, action: "press" | "repeat" | "release"): Promise<void> {
  await post("/api/v1/button", { button, action }, true);
}
