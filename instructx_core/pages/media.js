// Pictures and clips of the page, made when they are asked for; clips of one group play in step.
"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);

// element("button.main", { type: "button" }, "text", child, ...)
function element(kind, attributes, ...children) {
  const [tag, ...classes] = kind.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// What is shown of one medium: { number, kind, size: [height, width], seconds }. release() frees its memory.
const urls = new Map();

function mediaUrl(number) {
  if (!urls.has(number)) {
    const held = document.getElementById(`media-${number}`);
    const text = atob(held.textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    urls.set(number, URL.createObjectURL(new Blob([bytes], { type: held.dataset.mime })));
  }
  return urls.get(number);
}

function release(number) {
  if (urls.has(number)) URL.revokeObjectURL(urls.get(number));
  urls.delete(number);
}

function picture(medium, label) {
  const small = medium.size[1] < 200 ? ".small" : "";
  const url = mediaUrl(medium.number);
  if (medium.kind === "image") return element(`img.picture${small}`, { src: url, alt: label, draggable: "false" });
  const video = element(`video.picture${small}`, { "aria-label": label, playsinline: true, preload: "auto" });
  video.muted = true;
  video.src = url;
  return video;
}

// Clips of different lengths play from one clock; a shorter one waits at its end.
class ClipGroup {
  constructor(videos) {
    this.videos = videos;
    this.isPlaying = false;
    this.time = 0;
    this.last = 0;
    this.request = 0;
  }

  get length() {
    return Math.max(0.04, ...this.videos.map((video) => (Number.isFinite(video.duration) ? video.duration : 0)));
  }

  play() {
    if (!this.videos.length || this.isPlaying) return;
    this.isPlaying = true;
    this.last = performance.now();
    for (const video of this.videos) video.play().catch(() => {});
    const tick = (now) => {
      if (!this.isPlaying) return;
      this.time += (now - this.last) / 1000;
      this.last = now;
      if (this.time >= this.length) this.time = 0;
      this.follow(0.12);
      if (this.onTime) this.onTime(this.time, this.length);
      this.request = requestAnimationFrame(tick);
    };
    this.request = requestAnimationFrame(tick);
  }

  follow(slack) {
    for (const video of this.videos) {
      const wanted = Math.min(this.time, Math.max(0, (video.duration || 0) - 0.001));
      if (Math.abs(video.currentTime - wanted) > slack && !video.seeking) video.currentTime = wanted;
      if (this.isPlaying && video.paused && this.time < (video.duration || 0) - slack) video.play().catch(() => {});
    }
  }

  pause() {
    this.isPlaying = false;
    cancelAnimationFrame(this.request);
    for (const video of this.videos) video.pause();
    this.follow(0.001);
  }

  seek(time) {
    this.time = time;
    this.last = performance.now();
    this.follow(0.001);
  }

  stop() {
    this.pause();
    for (const video of this.videos) video.removeAttribute("src");
    this.videos = [];
  }
}

function download(name, text, kind) {
  const url = URL.createObjectURL(new Blob([text], { type: kind }));
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
