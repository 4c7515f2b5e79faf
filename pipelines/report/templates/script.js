"use strict";

// Video and audio are separate files. The audio leads and the video follows it.
const DRIFT_S = 0.045;
let sounding = null;

function makePlayer(root) {
  const media = [...root.querySelectorAll("video, audio")];
  if (!media.length) return;
  const lead = root.querySelector("audio") || media[0];
  const transport = root.querySelector(".transport");
  const button = root.querySelector(".play");
  const time = root.querySelector(".time");
  const playhead = root.querySelector(".playhead");
  const longest = (of) => Math.max(...media.map((medium) => of(medium) || 0));
  const total = () => longest((medium) => medium.duration) || Number(root.dataset.duration);
  const position = () => longest((medium) => medium.currentTime);

  function show() {
    const part = total() ? position() / total() : 0;
    playhead.style.left = `${100 * Math.min(part, 1)}%`;
    time.setAttribute("aria-valuenow", position().toFixed(1));
  }
  function seek(seconds) {
    const wanted = Math.min(Math.max(seconds, 0), total());
    for (const medium of media) medium.currentTime = Math.min(wanted, medium.duration || wanted);
    root.classList.add("started");
    show();
  }
  function pause() {
    for (const medium of media) medium.pause();
    root.classList.remove("playing");
    button.setAttribute("aria-label", "Play");
    if (sounding === pause) sounding = null;
  }
  function follow() {
    if (!root.classList.contains("playing")) return;
    for (const medium of media) {
      const drift = Math.abs(medium.currentTime - lead.currentTime);
      if (medium !== lead && !medium.ended && !lead.ended && drift > DRIFT_S) medium.currentTime = lead.currentTime;
    }
    show();
    if (media.every((medium) => medium.ended)) pause();
    else requestAnimationFrame(follow);
  }
  function play() {
    if (sounding) sounding();
    sounding = pause;
    if (media.every((medium) => medium.ended)) seek(0);
    root.classList.add("playing", "started");
    button.setAttribute("aria-label", "Pause");
    Promise.all(media.filter((medium) => !medium.ended).map((medium) => medium.play())).then(follow, pause);
  }
  const toggle = () => (root.classList.contains("playing") ? pause() : play());
  function point(event) {
    const box = time.getBoundingClientRect();
    seek((total() * (event.clientX - box.left)) / box.width);
  }

  for (const medium of media) medium.controls = false;
  for (const video of root.querySelectorAll("video")) video.addEventListener("click", toggle);
  button.addEventListener("click", toggle);
  time.addEventListener("pointerdown", (event) => {
    time.setPointerCapture(event.pointerId);
    point(event);
  });
  time.addEventListener("pointermove", (event) => {
    if (time.hasPointerCapture(event.pointerId)) point(event);
  });
  time.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.2, ArrowRight: 0.2 }[event.key];
    if (step) seek(position() + step);
    else if (event.key === " " || event.key === "Enter") toggle();
    else return;
    event.preventDefault();
  });
  transport.hidden = false;
}

function makeFilters(form, main) {
  const families = [...main.querySelectorAll(".family")].map((root) => ({
    root,
    variants: [...root.querySelectorAll(".clip:not(.kind-original)")],
    text: root.dataset.text.toLowerCase(),
  }));
  const output = form.querySelector("output");

  function apply() {
    const asked = new FormData(form);
    const splits = asked.getAll("split");
    const kinds = asked.getAll("kind");
    const low = Number(asked.get("low") ?? 0);
    const high = Number(asked.get("high") || 1);
    const words = asked.get("text").toLowerCase().trim();
    const all = form.querySelectorAll("[name=kind]").length === kinds.length && low <= 0 && high >= 1;
    let originals = 0;
    let variants = 0;
    for (const family of families) {
      const wanted = family.variants.filter((clip) => {
        const weight = Number(clip.dataset.weight);
        return kinds.includes(clip.dataset.kind) && weight >= low && weight <= high;
      });
      const shown = splits.includes(family.root.dataset.split) && family.text.includes(words) && (all || wanted.length > 0);
      family.root.hidden = !shown;
      for (const clip of family.variants) clip.hidden = !wanted.includes(clip);
      family.weights = wanted.map((clip) => Number(clip.dataset.weight));
      originals += shown ? 1 : 0;
      variants += shown ? wanted.length : 0;
    }
    output.textContent = `${originals} originals, ${variants} variants`;
    arrange(asked.get("order"));
  }
  function arrange(order) {
    const sign = order === "high" ? -1 : 1;
    const key = (family) => Math.min(...family.weights.map((weight) => sign * weight));
    const sorted = order ? [...families].sort((one, other) => key(one) - key(other) || 0) : families;
    main.append(...sorted.map((family) => family.root));
  }

  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
}

document.querySelectorAll(".player").forEach(makePlayer);
makeFilters(document.querySelector(".filters"), document.querySelector("main"));
