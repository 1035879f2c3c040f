import "./base.css";
import "./console.css";
import { get, post, type Recording, type Status, type Sync, whyNothing, type Witness } from "./api";
import { MinuteChart } from "./chart";
import { copyButton } from "./copy";
import { addressOf, bitrate, bytes, duration, encoder, level, machine, record, seenBy, signed, syncWords, uplink, videoFormat, viewers, witness, witnessName } from "./format";
import { GoLive, HardwareButton, pressable } from "./hold";

const STATUS_MS = 300;
const HIDDEN_MS = 2000;
const PANEL_MS = 250;
const RECORDINGS_MS = 5000;
/** The box answers in milliseconds; silence for so long is worth saying. */
const SILENCE_MS = 1500;
const PANEL_WIDTH = 128;
/** Meters and chart end here: below it is the noise of the room. */
const QUIETEST_DBFS = -60;

function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  return document.getElementById(id) as E;
}

function write(at: string | HTMLElement, text: string): void {
  const element = typeof at === "string" ? byId(at) : at;
  if (element.textContent !== text) element.textContent = text;
}

const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** A pause that is over when somebody looks at the page again. */
function pauseUntilShown(ms: number): Promise<void> {
  return new Promise((done) => {
    const end = () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", end);
      done();
    };
    const timer = setTimeout(end, ms);
    document.addEventListener("visibilitychange", end);
  });
}

let status: Status | null = null;
let answeredAtMs = performance.now();
/** Why the page cannot show what the box says. */
let fault = "";

// Buttons

function onAir(): boolean {
  return status !== null && ["starting", "live", "retrying"].includes(status.state.word);
}

const goLive = new GoLive(air, want, goLiveChanged);
pressable(byId("go-live"), goLive);
for (const button of ["page", "mode"] as const) {
  pressable(byId(button), new HardwareButton(button, clearRefused, refused));
}

function air(): "on" | "off" | "waiting" | null {
  if (status === null) return null;
  if (waiting()) return "waiting";
  return onAir() ? "on" : "off";
}

/** A broadcast that was cut off waits for the time. */
function waiting(): boolean {
  return status?.state.word === "retrying" && status.state.attempt === 0;
}

/** A stop is for the broadcast that was on when somebody decided on it. */
function want(what: "start" | "stop", broadcast = status?.broadcast): void {
  post(`/api/v1/${what}`, what === "stop" && broadcast !== undefined ? { broadcast } : null).catch(refused);
}

function goLiveChanged(): void {
  clearRefused();
  byId("go-live").classList.toggle("holding", goLive.holding);
  renderGoLive();
}

function hint(): string {
  if (goLive.holding) return goLive.heldOut ? "ending" : "keep holding…";
  if (status?.state.word === "stopping") return "ending";
  const hints = { on: "hold to end", waiting: "tap to go on, hold to end", off: "tap to start" };
  return hints[air() ?? "off"];
}

function renderGoLive(): void {
  write("go-live-hint", hint());
  byId("stop").hidden = !onAir();
}

function refused(error: unknown): void {
  write("refused", whyNothing(error));
}

function clearRefused(): void {
  write("refused", "");
}

const dialog = byId<HTMLDialogElement>("confirm");
/** The broadcast that the dialog asks about. */
let asked: number | undefined;

byId("stop").addEventListener("click", () => {
  asked = status?.broadcast;
  dialog.showModal();
});
dialog.addEventListener("close", () => {
  if (dialog.returnValue === "yes") want("stop", asked);
  dialog.returnValue = "";
});

/** What it asks about has ended. */
function closeDialog(): void {
  if (dialog.open && (!onAir() || status?.broadcast !== asked)) dialog.close();
}

// The panel's picture

const panel = byId<HTMLImageElement>("panel");
const screenBox = panel.parentElement as HTMLElement;

/** Whole multiples only: a panel's pixel is a square or it is not legible. */
function scalePanel(): void {
  const style = getComputedStyle(screenBox);
  const room = screenBox.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  panel.style.width = `${PANEL_WIDTH * Math.max(1, Math.floor(room / PANEL_WIDTH))}px`;
}
new ResizeObserver(scalePanel).observe(screenBox);

async function refreshPanel(): Promise<void> {
  for (let turn = 0; ; turn += 1) {
    if (!document.hidden) {
      await new Promise((done) => {
        panel.onload = done;
        panel.onerror = done;
        window.setTimeout(done, 3000);
        panel.src = `/api/v1/panel.png?turn=${turn}`;
      });
    }
    await pause(PANEL_MS);
  }
}

// Charts

const levels = new MinuteChart(
  byId("levels-chart"),
  [
    { label: "Left", colour: "--left" },
    { label: "Right", colour: "--right", dash: [6, 4] },
  ],
  () => [QUIETEST_DBFS, 0],
  (value) => `${value}`.replace("-", "−"),
  [-60, -40, -20, 0],
);
const bitrates = new MinuteChart(
  byId("bitrate-chart"),
  [{ label: "Bitrate", colour: "--left" }],
  (_, high) => [0, Math.max(1000, Math.ceil(((high ?? 0) * 1.2) / 1000) * 1000)],
  (value) => (value === 0 ? "0" : `${value / 1000} M`),
);
const errors = new MinuteChart(
  byId("sync-chart"),
  [{ label: "Sound late", colour: "--left" }],
  (low, high) => [Math.min(-5, Math.floor(low ?? 0)), Math.max(5, Math.ceil(high ?? 0))],
  (value) => signed(value, "ms"),
);

// Sound against picture

function onPress(id: string, path: () => string, body: () => unknown = () => null): void {
  byId(id).addEventListener("click", () => {
    write("sync-refused", "");
    post(path(), body()).catch((error: unknown) => write("sync-refused", error instanceof Error ? error.message : String(error)));
  });
}

onPress("sync-test", () => (status?.sync.test == null ? "/api/v1/sync/start" : "/api/v1/sync/stop"));
onPress("sync-take", () => "/api/v1/sync/take");
onPress("sync-reset", () => "/api/v1/sync/trim", () => ({ ms: null }));

function renderSync(sync: Sync, watchUrl: string): void {
  const { test } = sync;
  const left = test?.left_ms ?? null;
  const sure = test?.error_ms === undefined ? "" : ` ± ${Math.round(test.error_ms)}`;
  write("sync-number", left === null ? "–" : `A/V ${signed(left, "ms")}${sure}`);
  write("sync-words", syncWords(test));
  write("sync-test", test === null ? "Start the self-test" : "End the self-test");
  byId("sync-take").hidden = left === null || Math.abs(left) < 0.5;
  if (test?.offset_ms !== undefined) write("sync-take", `Take over as trim: ${signed(test.offset_ms, "ms")}`);
  byId("sync-reset").hidden = !sync.trim_taken;
  const whose = sync.trim_taken ? "set on the box" : "configured";
  write("sync-trim", `${signed(sync.trim_ms, "ms")} (${whose}): the picture is shown ${sync.trim_ms < 0 ? "earlier" : "later"} by this`);
  write("sync-drift", sync.drift_ppm === null ? "known after 20 s" : `${signed(sync.drift_ppm, "ppm")}, followed`);
  write("sync-error", sync.error_ms === null ? "–" : `sound ${sync.error_ms.toFixed(1).replace("-", "−")} ms late after that`);
  const page = addressOf("/sync", watchUrl) ?? "/sync";
  link("sync-link", page, "", page);
}

// What the operator can set until the end of the broadcast

const mute = byId<HTMLButtonElement>("mute");
mute.addEventListener("click", () => {
  if (status !== null) void ask("mute", { muted: !status.audio.muted }, "mute-refused", "The sound");
});

const kbps = byId<HTMLInputElement>("video-kbps");
/** Somebody is typing: what the box says must not overwrite it. */
let kbpsTyped = false;
kbps.addEventListener("input", () => (kbpsTyped = true));
byId<HTMLFormElement>("bitrate-form").addEventListener("submit", (event) => {
  event.preventDefault();
  kbpsTyped = false;
  void ask("bitrate", { video_kbps: kbps.valueAsNumber }, "bitrate-refused", "The bitrate");
});

/** A wish that did not reach the box is said beside what it was wished with. */
async function ask(what: string, body: object, refusedId: string, subject: string): Promise<void> {
  write(refusedId, "");
  try {
    await post(`/api/v1/${what}`, body);
  } catch (error) {
    write(refusedId, `${subject} did not change: ${error instanceof Error ? error.message : String(error)}.`);
  }
}

const OVERSIZE: Record<NonNullable<Status["oversize"]>["cause"], string> = {
  long: "the picture that ends it came late. Check the camera and its cable",
  lowered: "most of it was made before the bitrate was lowered. The next ones fit",
  busy: "too much moves in the picture for this bitrate. Raise it, or calm the picture",
  encoder: "the encoder does not keep its bitrate. Lower it",
};

function renderWishes(next: Status): void {
  const muted = next.audio.muted;
  mute.disabled = false;
  write("mute", muted ? "Unmute" : "Mute");
  byId("muted").hidden = !muted;
  document.body.classList.toggle("is-muted", muted);
  kbps.disabled = false;
  byId<HTMLButtonElement>("set-bitrate").disabled = false;
  if (!kbpsTyped && kbps.valueAsNumber !== next.video_kbps) kbps.valueAsNumber = next.video_kbps;
  const { oversize } = next;
  write("bitrate-note", oversize === null ? "" : `A segment has ${oversize.percent} % of its size: ${OVERSIZE[oversize.cause]}.`);
}

// Status

copyButton(byId("copy-ipns"), () => status?.node.ipns ?? "");
copyButton(byId("copy-root"), () => status?.node.root ?? "");
copyButton(byId("copy-peer"), () => status?.node.peer_id ?? "");
copyButton(byId("copy-watch"), () => status?.network.watch_url ?? "");

const STATES: Record<Status["state"]["word"], string> = {
  idle: "Idle",
  starting: "Starting",
  live: "Live",
  retrying: "Retrying",
  stopping: "Ending",
};
const TALLIES = { off: "Off air", blinking: "Stand by", on: "On air" };

function link(id: string, text: string, title: string, href: string | null): void {
  const anchor = byId<HTMLAnchorElement>(id);
  if (anchor.textContent !== text) anchor.textContent = text;
  anchor.title = title;
  if (href === null) anchor.removeAttribute("href");
  else if (anchor.getAttribute("href") !== href) anchor.href = href;
}

/** The bar and the mark of its highest peak, as on the panel. */
function meter(channel: "left" | "right", bar: number, peak: number): void {
  const share = (dbfs: number) => Math.min(1, Math.max(0, 1 - dbfs / QUIETEST_DBFS));
  byId(`${channel}-bar`).style.clipPath = `inset(0 ${100 - share(bar) * 100}% 0 0)`;
  byId(`${channel}-peak`).style.left = `${share(peak) * 100}%`;
}

let witnessesShown = "";

/** A line each: what it is, and what it has. */
function renderWitnesses(witnesses: Witness[]): void {
  const rows = witnesses.map((it) => [witnessName(it), witness(it), it.seen, it.address === null ? it.name : `${it.name}\n${it.address}`] as const);
  const shown = JSON.stringify(rows);
  if (shown === witnessesShown) return;
  witnessesShown = shown;
  byId("witnesses-part").hidden = rows.length === 0;
  byId("witnesses").replaceChildren(
    ...rows.map(([name, words, seen, title]) => {
      const row = document.createElement("li");
      row.dataset.seen = String(seen);
      const who = document.createElement("span");
      who.className = "mono long";
      who.textContent = name;
      who.title = title;
      const what = document.createElement("span");
      what.className = "number";
      what.textContent = words;
      row.append(who, what);
      return row;
    }),
  );
}

function render(next: Status): void {
  const { state, input, audio, health, network, node, disk } = next;
  document.body.dataset.state = state.word;
  write("name", next.name || "Podium");
  const title = `${next.tally === "on" ? "● " : ""}${next.name || "Podium"} console`;
  if (document.title !== title) document.title = title;
  byId("open-warning").hidden = !network.operator_open;

  const cause = state.cause ? `: ${state.cause}` : "";
  write("state", `${waiting() ? "Waiting" : STATES[state.word]}${cause}${state.attempt ? ` (attempt ${state.attempt})` : ""}`);
  write("on-air", next.on_air_ms === null ? "–" : duration(next.on_air_ms));
  byId("tally").dataset.tally = next.tally;
  write("tally-word", TALLIES[next.tally]);
  byId("health").dataset.health = health.word;
  write("health-word", health.word);
  const action = health.text;
  byId("action").hidden = action === "";
  byId("action").dataset.health = health.word;
  write("action", action);
  write("mode-hint", next.mode);
  write("page-hint", next.page);
  renderGoLive();
  closeDialog();
  renderSync(next.sync, network.watch_url);

  const [left, right] = audio.hold_dbfs;
  write("left", level(left));
  write("right", level(right));
  meter("left", audio.level_dbfs[0], left);
  meter("right", audio.level_dbfs[1], right);
  write("sound-note", audio.clipping ? "Too loud: turn the source down." : audio.silent ? "Silent for ten seconds: check the microphone." : audio.only ? `Sound only on the ${audio.only}: check the plug and the mixer.` : "");
  write("bitrate", bitrate(next.bitrate_kbps));
  renderWishes(next);

  const format = videoFormat(input.format);
  write("input", { ok: format, lost: `${format} (signal lost)`, none: "no signal yet" }[input.signal]);
  const still = input.black
    ? "Black. Viewers see it as it is: check the camera or the laptop."
    : input.frozen
      ? "Has not changed for two minutes. Fine for a slide; if not, check the camera or the laptop."
      : "";
  byId("picture-row").hidden = still === "";
  write("picture", still);
  write("source", [input.source, ...input.notes].join("; "));
  write("encoder", encoder(next.encoder));
  write("machine", machine(next.machine));
  byId("hardware-row").hidden = next.hardware.length === 0;
  write("hardware", next.hardware.join("; "));
  const sizes = next.videos.map((it) => `${it.width} × ${it.height} at ${bitrate(it.bitrate_kbps)}`);
  write("videos", [...sizes, "sound alone"].join(", "));
  write("segments", String(next.segments));
  byId("outage-row").hidden = next.outage === null && next.unstored === 0;
  const missing = `${next.unstored} segments are missing in the recording`;
  write("outage", next.outage === null ? missing : `not recording (${next.outage}), viewers get the stream from memory; ${missing}`);
  write("segment-age", next.segment_age_ms === null ? "–" : `${(next.segment_age_ms / 1000).toFixed(1)} s ago`);
  byId<HTMLMeterElement>("disk").value = disk.limit_bytes > 0 ? disk.stored_bytes / disk.limit_bytes : 0;
  write("disk-text", `${bytes(disk.stored_bytes)} of ${bytes(disk.limit_bytes)} kept, ${bytes(disk.free_bytes)} free ${next.disk_fault === null ? "on the card" : "in memory"}`);

  // The viewers' port serves what the box published, so that the links work without any other node.
  const at = (path: string) => addressOf(path, network.watch_url);
  write("peers", String(node.peers));
  write("viewers", viewers(next.viewers));
  write("sent", uplink(next.uplink));
  byId("seen-row").hidden = next.outside.summary === null;
  write("seen", seenBy(next.outside.summary));
  write("record", record(next.outside.record));
  renderWitnesses(next.outside.witnesses);
  link("ipns", node.ipns, node.ipns, next.segments > 0 ? at(`/ipns/${node.ipns}/`) : null);
  // While it is live the next segment brings another root, and soon this one is forgotten: the name is what is handed out.
  const kept = node.root_is_vod ? node.root : null;
  write("root-label", node.root_is_vod ? "Recording" : "Root now");
  link("root", node.root ?? "–", node.root ?? "", kept === null ? null : at(`/ipfs/${kept}/`));
  write("peer-id", node.peer_id);
  byId("peer-id").title = node.peer_id;
  link("watch-url", network.watch_url, "", at("/"));
  const watch = byId<HTMLAnchorElement>("watch-link");
  watch.hidden = false;
  if (watch.href !== network.watch_url) watch.href = network.watch_url;
  byId<HTMLButtonElement>("copy-ipns").disabled = node.ipns === "";
  byId<HTMLButtonElement>("copy-root").disabled = kept === null;
  byId<HTMLButtonElement>("copy-peer").disabled = node.peer_id === "";
  byId<HTMLButtonElement>("copy-watch").disabled = network.watch_url === "";

  const time = next.on_air_ms === null ? "" : `, on air for ${duration(next.on_air_ms)}`;
  panel.alt = `The box's screen: ${STATES[state.word]}${time}, health ${health.word}${action ? `, ${action}` : ""}`;
}

function show(body: Status, atMs: number): void {
  status = body;
  answeredAtMs = atMs;
  try {
    render(body);
    levels.push(atMs, body.audio.hold_dbfs.map((dbfs) => Math.max(QUIETEST_DBFS, dbfs)));
    bitrates.push(atMs, [body.bitrate_kbps]);
    errors.push(atMs, [body.sync.error_ms]);
    fault = "";
  } catch (error) {
    fault = String(error);
  }
}

async function refreshStatus(): Promise<void> {
  for (;;) {
    // What silence means is said by the watch below, after a while.
    const answer = await get<Status>("/api/v1/status", 2000).catch(() => null);
    if (answer !== null) show(answer.body, performance.now());
    await pauseUntilShown(document.hidden ? HIDDEN_MS : STATUS_MS);
  }
}

// A page that nobody looks at asks seldom: that its last answer is old is no silence.
document.addEventListener("visibilitychange", () => (answeredAtMs = performance.now()));

// Recordings

interface Row {
  element: HTMLLIElement;
  show(recording: Recording, watchUrl: string, newest: boolean): void;
}

function change(id: number, what: "pin" | "delete", body: object): void {
  void ask(`recordings/${id}/${what}`, body, "recordings-refused", "The recording").then(listRecordings);
}

const deleteDialog = byId<HTMLDialogElement>("delete");
/** The recording that the dialog asks about. */
let doomed: number | undefined;

deleteDialog.addEventListener("close", () => {
  if (deleteDialog.returnValue === "yes" && doomed !== undefined) change(doomed, "delete", {});
  deleteDialog.returnValue = "";
});

/** By id. They stay what they are while they change: on air one grows, and a finger or the focus may be on a button. */
const rows = new Map<number, Row>();

function recordingRow(id: number): Row {
  const element = document.createElement("li");
  const title = document.createElement("a");
  const size = document.createElement("span");
  size.className = "number";
  const [pin, remove] = [document.createElement("button"), document.createElement("button")];
  for (const button of [pin, remove]) {
    button.className = "button";
    button.type = "button";
  }
  let pinned = false;
  pin.addEventListener("click", () => change(id, "pin", { pinned: !pinned }));
  remove.textContent = "Delete";
  remove.addEventListener("click", () => {
    doomed = id;
    write("delete-which", title.textContent ?? "");
    deleteDialog.showModal();
  });
  element.append(title, size, pin, remove);
  const show = (recording: Recording, watchUrl: string, newest: boolean) => {
    ({ pinned } = recording);
    const started = recording.started === null ? "no date" : new Date(recording.started).toLocaleString();
    write(title, `${recording.name || `Recording ${id}`}, ${started}`);
    const href = recording.root === null ? null : addressOf(`/ipfs/${recording.root}/`, watchUrl);
    if (href === null) title.removeAttribute("href");
    else title.href = href;
    write(size, bytes(recording.bytes));
    write(pin, pinned ? "Unpin" : "Pin");
    // The newest is what the name leads to.
    remove.disabled = pinned || newest;
    for (const button of [pin, remove]) button.setAttribute("aria-label", `${button.textContent} ${title.textContent}`);
  };
  return { element, show };
}

/** Newest first. */
function renderRecordings(recordings: Recording[]): void {
  const list = byId("recordings");
  const ids = new Set(recordings.map(({ id }) => id));
  for (const [id, { element }] of rows) {
    if (ids.has(id)) continue;
    element.remove();
    rows.delete(id);
  }
  recordings.reverse().forEach((recording, at) => {
    const row = rows.get(recording.id) ?? recordingRow(recording.id);
    rows.set(recording.id, row);
    row.show(recording, status?.network.watch_url ?? "", at === 0);
    if (list.children[at] !== row.element) list.insertBefore(row.element, list.children[at] ?? null);
  });
}

async function listRecordings(): Promise<void> {
  // The watch below says when the box is silent.
  const answer = await get<Recording[]>("/api/v1/recordings", 5000).catch(() => null);
  if (answer !== null) renderRecordings(answer.body);
}

async function refreshRecordings(): Promise<void> {
  for (;;) {
    if (!document.hidden) await listRecordings();
    await pause(RECORDINGS_MS);
  }
}

window.setInterval(() => {
  const silentMs = performance.now() - answeredAtMs;
  const silent = silentMs > SILENCE_MS && !document.hidden;
  byId("silence").hidden = !silent && fault === "";
  document.body.classList.toggle("silent", silent);
  // A screen reader shall hear it once, not every second.
  if (!silent) return void write("silence", fault && `This page does not work here: ${fault}. Reload it, or take another browser.`);
  write("silence", "The box does not answer. What you see is old. Is it on, and are you on its network?");
  // A lamp that nobody drives tells nothing.
  byId("tally").dataset.tally = "off";
  write("tally-word", "No answer");
  panel.alt = "The box's screen: no answer";
  document.title = "No answer: Podium console";
}, 500);

void refreshPanel();
void refreshStatus();
void refreshRecordings();
