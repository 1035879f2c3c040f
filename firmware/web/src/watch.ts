import "./base.css";
import "./watch.css";
import { copyButton } from "./copy";
import { delay } from "./format";
import { Stage } from "./stage";
import { phase, words } from "./viewer";

function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  return document.getElementById(id) as E;
}

/** Writes only what differs: a screen reader repeats what is written again. */
function write(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

const address = `${location.origin}/`;
const stage = new Stage(byId("stage"));
const radios = [...document.querySelectorAll<HTMLInputElement>("input[name=source]")];

for (const radio of radios) {
  radio.addEventListener("change", () => stage.prefer(radio.value === "ipfs" ? "ipfs" : "box"));
}
byId<HTMLInputElement>("shortcuts").addEventListener("change", (event) => {
  stage.shortcuts = (event.currentTarget as HTMLInputElement).checked;
});

byId<HTMLInputElement>("address").value = address;
byId("loopback").hidden = !/^(localhost|127\.|\[::1\])/.test(location.hostname);
byId("mixed").hidden = location.protocol === "https:";
copyButton(byId("copy-address"), () => address);
copyButton(byId("copy-ipns"), () => byId<HTMLInputElement>("ipns").value);
copyButton(
  byId("copy-embed"),
  () =>
    `<iframe src="${address}embed" title="Live stream" width="640" height="360" style="border:0" ` +
    `allow="autoplay; fullscreen; picture-in-picture; local-network-access" allowfullscreen></iframe>`,
);
for (const input of document.querySelectorAll<HTMLInputElement>(".copyline input")) {
  input.addEventListener("focus", () => input.select());
}
if (navigator.share) {
  const share = byId("share");
  share.hidden = false;
  share.addEventListener("click", () => {
    void navigator.share({ title: document.title, url: address }).catch(() => undefined);
  });
}

stage.onChange(() => {
  const viewer = stage.view;
  const { box, source } = viewer;
  const here = box?.mirror ? "This mirror" : "This box";
  const sources = { box: here, ipfs: "IPFS", start: "IPFS", recording: "IPFS (recording)" };
  const now = phase(viewer);
  const { word, sentence } = words(viewer);
  document.body.dataset.phase = now;
  write(byId("name"), box?.name || "Podium");
  write(byId("title"), box?.title || box?.name || "Live stream");
  const title = `${now === "live" ? "● " : ""}${box?.title || box?.name || "Podium"}`;
  if (document.title !== title) document.title = title;
  write(byId("state-word"), word);
  write(byId("sentence"), sentence);
  write(byId("source"), source === null ? "–" : sources[source]);
  write(byId("here"), here);
  write(byId("loopback-others"), box?.mirror ? "the address of this computer in its network" : "the one on the box's screen");

  const live = source === "box" || source === "ipfs";
  // Where nothing moves the choice stands, and is followed when it has something new.
  const still = live && viewer.playback === "stalled";
  const chosen = live && !still ? source : viewer.preferred;
  for (const radio of radios) {
    const wanted = radio.value === chosen;
    if (radio.checked !== wanted) radio.checked = wanted;
  }
  write(
    byId("source-note"),
    source === "recording" || source === "start"
      ? `${source === "start" ? "What was published before" : "The recording"} comes from IPFS. Your choice is for what is live.`
      : still && source !== viewer.preferred
        ? `${sources[viewer.preferred]} has nothing newer. It plays from there when something comes.`
        : live && source !== viewer.preferred
          ? `${sources[viewer.preferred]} did not deliver, so that ${source === "ipfs" ? "the IPFS copy" : here.toLowerCase()} plays now.`
          : chosen === "ipfs"
            ? "The copy published on IPFS. It comes some seconds later."
            : box?.mirror
              ? "From this mirror, some seconds after the box."
              : "Straight from the box, with the shortest delay.",
  );
  const ipns = byId<HTMLInputElement>("ipns");
  const name = box?.ipns ? `ipns://${box.ipns}` : "–";
  if (ipns.value !== name) ipns.value = name;
});

// Slower than the picture's changes, so that the number can be read.
window.setInterval(() => write(byId("latency"), delay(stage.latency)), 1000);
