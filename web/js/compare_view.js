// Before and after under one slider: pictures, or two videos played in step. Plain DOM, knows nothing of ComfyUI.
// Keyboard: Tab to the slider or the timeline, arrows move it; space plays and pauses; "," and "." step a frame.

const WORDS = {
  en: {
    before: "before",
    after: "after",
    empty: "Run the graph to compare before and after.",
    gone: "The preview file is gone (previews live until ComfyUI restarts). Run the graph again.",
    slider: "Boundary between before (left) and after (right), in percent",
    timeline: "Frame",
    play: "Play",
    pause: "Pause",
    sound: "Sound of after",
    previous: "Previous picture",
    next: "Next picture",
    previousPair: "Previous pair",
    nextPair: "Next pair",
    group: "Before and after",
  },
  zh: {
    before: "之前",
    after: "之后",
    empty: "运行工作流后在此对比编辑前后。",
    gone: "预览文件已不存在（预览仅保留到 ComfyUI 重启）。请重新运行工作流。",
    slider: "之前（左）与之后（右）的分界，百分比",
    timeline: "帧",
    play: "播放",
    pause: "暂停",
    sound: "之后视频的声音",
    previous: "上一张",
    next: "下一张",
    previousPair: "上一组",
    nextPair: "下一组",
    group: "编辑前后对比",
  },
};

const STYLE = `
.instructx-compare { display: flex; flex-direction: column; gap: 4px; width: 100%; height: 100%; min-height: 0;
  box-sizing: border-box; font: 12px/1.3 sans-serif; color: var(--input-text, #ddd); }
.instructx-compare .room { flex: 1; min-height: 0; display: grid; place-items: center; overflow: hidden; }
.instructx-compare .stage { position: relative; overflow: hidden; background: #000; }
.instructx-compare .stage > img, .instructx-compare .stage > video { position: absolute; inset: 0; width: 100%;
  height: 100%; object-fit: contain; pointer-events: none; }
.instructx-compare .small > img, .instructx-compare .small > video { image-rendering: pixelated; }
.instructx-compare .line { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px; background: #fff;
  box-shadow: 0 0 3px #000; pointer-events: none; }
.instructx-compare .grip { position: absolute; top: 50%; left: 1px; width: 22px; height: 22px; margin: -11px;
  border-radius: 50%; background: #fff; color: #222; display: grid; place-items: center; font-size: 11px;
  box-shadow: 0 0 4px #000; }
.instructx-compare .tag { position: absolute; top: 6px; padding: 1px 6px; border-radius: 3px; background: #000a;
  color: #fff; pointer-events: none; }
.instructx-compare .tag.left { left: 6px; } .instructx-compare .tag.right { right: 6px; }
.instructx-compare .slider { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0;
  cursor: ew-resize; appearance: none; }
.instructx-compare .slider::-webkit-slider-thumb { appearance: none; width: 1px; height: 100%; }
.instructx-compare .slider::-moz-range-thumb { width: 1px; height: 100%; border: 0; }
.instructx-compare .slider:focus-visible ~ .line { background: #4af; box-shadow: 0 0 0 2px #4af; }
.instructx-compare .bar { display: flex; align-items: center; gap: 6px; flex: none; }
.instructx-compare .bar[hidden] { display: none; }
.instructx-compare .bar input { flex: 1; min-width: 40px; }
.instructx-compare button { min-width: 28px; padding: 2px 6px; border: 1px solid var(--border-color, #555);
  border-radius: 4px; background: var(--comfy-input-bg, #222); color: inherit; cursor: pointer; }
.instructx-compare button:focus-visible, .instructx-compare .bar input:focus-visible { outline: 2px solid #4af; }
.instructx-compare .count { min-width: 56px; text-align: right; font-variant-numeric: tabular-nums; }
.instructx-compare .note { padding: 12px; text-align: center; opacity: 0.75; }
`;

function make(tag, className, attributes = {}) {
  const element = document.createElement(tag);
  element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function addStyle() {
  if (document.getElementById("instructx-compare-style")) return;
  const style = make("style", "", { id: "instructx-compare-style" });
  style.textContent = STYLE;
  document.head.append(style);
}

/** Results of a list as what is shown one at a time: all pictures are leafed through together, clips are pairs. */
function joined(results) {
  const pictures = results.filter((result) => result.kind === "pictures");
  const shown = results.filter((result) => result.kind !== "pictures");
  if (!pictures.length) return shown;
  const side = (name) =>
    pictures.flatMap((result) => {
      const count = Math.max(result.before.length, result.after.length);
      return Array.from({ length: count }, (_, i) => result[name][Math.min(i, result[name].length - 1)]);
    });
  return [...shown, { ...pictures[0], before: side("before"), after: side("after") }];
}

export class CompareView {
  #words;
  #room = make("div", "room");
  #bar = make("div", "bar");
  #stage = null;
  #layers = []; // [before, after]: both img, or both video
  #pairs = []; // media of a list
  #pair = 0; // of them, the one shown
  #media = null; // {kind, before: [url], after: [url], frames: [n, n], fps}
  #index = 0; // picture shown
  #split = 50; // percent
  #frame = 0; // requestAnimationFrame handle while playing
  #watch = new ResizeObserver(() => this.#fit());

  /** language: "en", "zh" or a longer code such as "zh-TW"; others read English. */
  constructor(language = "en") {
    addStyle();
    this.#words = WORDS[language.split("-")[0]] ?? WORDS.en;
    this.element = make("div", "instructx-compare", { role: "group", "aria-label": this.#words.group });
    this.element.append(this.#room, this.#bar);
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.element.addEventListener("pointerdown", (event) => event.stopPropagation());
    this.#watch.observe(this.#room);
    this.#say(this.#words.empty);
  }

  /** Shows results, one or those of a list; each as #media. Keeps the slider where it is. */
  show(results) {
    this.#pairs = joined(results);
    this.#pair = Math.min(this.#pair, this.#pairs.length - 1);
    this.#open(this.#pairs[this.#pair]);
  }

  #open(media) {
    this.#stop();
    this.#media = media;
    this.#index = Math.min(this.#index, Math.max(media.before.length, media.after.length) - 1);
    const tag = media.kind === "video" ? "video" : "img";
    this.#layers = [make(tag, "before"), make(tag, "after")];
    this.#buildStage();
    this.#bar.replaceChildren();
    if (tag === "video") this.#buildPlayer();
    else this.#buildPictures();
    if (this.#pairs.length > 1) this.#buildPairs();
  }

  #buildPairs() {
    const count = this.#pairs.length;
    const turn = (by) => {
      this.#pair = (this.#pair + by + count) % count;
      this.#open(this.#pairs[this.#pair]);
    };
    const label = make("span", "pair", { "aria-live": "polite" });
    label.textContent = `${this.#pair + 1} / ${count}`;
    this.#bar.hidden = false;
    this.#bar.prepend(
      this.#button("\u25c0", this.#words.previousPair, () => turn(-1)),
      label,
      this.#button("\u25b6", this.#words.nextPair, () => turn(1)),
    );
  }

  dispose() {
    this.#stop();
    this.#watch.disconnect();
    for (const layer of this.#layers) layer.removeAttribute("src");
  }

  #say(text) {
    const note = make("div", "note", { role: "status" });
    note.textContent = text;
    this.#room.replaceChildren(note);
    this.#bar.hidden = true;
  }

  // --- slider --------------------------------------------------------------------------------------------------------

  #buildStage() {
    const stage = make("div", "stage");
    const slider = make("input", "slider", {
      type: "range", min: 0, max: 100, step: 0.5, value: this.#split, "aria-label": this.#words.slider,
    });
    const line = make("div", "line");
    const grip = make("div", "grip", { "aria-hidden": "true" });
    grip.textContent = "\u25c2\u25b8";
    line.append(grip);
    const tags = ["left", "right"].map((side) => make("div", `tag ${side}`, { "aria-hidden": "true" }));
    tags[0].textContent = this.#words.before;
    tags[1].textContent = this.#words.after;
    const place = () => {
      this.#split = Number(slider.value);
      this.#layers[1].style.clipPath = `inset(0 0 0 ${this.#split}%)`;
      line.style.left = `${this.#split}%`;
      slider.setAttribute("aria-valuetext", `${Math.round(this.#split)} %`);
    };
    slider.addEventListener("input", place);
    const ready = this.#media.kind === "video" ? "loadedmetadata" : "load";
    for (const layer of this.#layers) {
      layer.addEventListener(ready, () => this.#fit());
      layer.addEventListener("error", () => this.#say(this.#words.gone));
    }
    stage.append(...this.#layers, slider, line, ...tags);
    this.#stage = stage;
    this.#room.replaceChildren(stage);
    this.#bar.hidden = false;
    place();
  }

  /** Makes the stage as large as the room allows in the shape of `after`, so that the slider spans the picture. */
  #fit() {
    const layer = this.#layers[1];
    const width = layer?.naturalWidth || layer?.videoWidth;
    const height = layer?.naturalHeight || layer?.videoHeight;
    if (!width || !height || !this.#stage) return;
    const scale = Math.min(this.#room.clientWidth / width, this.#room.clientHeight / height);
    this.#stage.style.width = `${Math.floor(width * scale)}px`;
    this.#stage.style.height = `${Math.floor(height * scale)}px`;
    this.#stage.classList.toggle("small", scale >= 2); // enlarged pixels stay what they are
  }

  // --- pictures ------------------------------------------------------------------------------------------------------

  #buildPictures() {
    const { before, after } = this.#media;
    const count = Math.max(before.length, after.length);
    const label = make("span", "count", { "aria-live": "polite" });
    const turn = (by) => {
      this.#index = (this.#index + by + count) % count;
      this.#layers[0].src = before[Math.min(this.#index, before.length - 1)];
      this.#layers[1].src = after[Math.min(this.#index, after.length - 1)];
      this.#layers[0].alt = this.#words.before;
      this.#layers[1].alt = this.#words.after;
      label.textContent = `${this.#index + 1} / ${count}`;
    };
    this.#bar.hidden = count < 2;
    this.#bar.append(
      this.#button("\u25c0", this.#words.previous, () => turn(-1)),
      this.#button("\u25b6", this.#words.next, () => turn(1)),
      label,
    );
    turn(0);
  }

  #button(sign, label, action) {
    const button = make("button", "", { type: "button", "aria-label": label, title: label });
    button.textContent = sign;
    button.addEventListener("click", action);
    return button;
  }

  // --- player --------------------------------------------------------------------------------------------------------

  #buildPlayer() {
    const { before, after, frames } = this.#media;
    const last = Math.max(...frames) - 1;
    this.timeline = make("input", "", {
      type: "range", min: 0, max: last, step: 1, value: 0, "aria-label": this.#words.timeline,
    });
    this.count = make("span", "count");
    this.playButton = this.#button("\u25b6", this.#words.play, () => this.toggle());
    this.timeline.addEventListener("input", () => this.seek(Number(this.timeline.value)));
    const sound = this.#button("\u266a", this.#words.sound, () => {
      this.#layers[1].muted = !this.#layers[1].muted;
      sound.setAttribute("aria-pressed", String(!this.#layers[1].muted));
      sound.style.opacity = this.#layers[1].muted ? 0.5 : 1;
    });
    sound.setAttribute("aria-pressed", "false");
    sound.style.opacity = 0.5;
    this.#bar.append(this.playButton, this.timeline, this.count, sound);
    [before, after].forEach(([url], side) => {
      const video = this.#layers[side];
      video.muted = true;
      video.playsInline = true;
      video.preload = "auto";
      video.setAttribute("aria-label", side ? this.#words.after : this.#words.before);
      video.src = url;
    });
    this.#tell(0);
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (!calm) this.toggle();
  }

  get playing() {
    return this.#frame !== 0;
  }

  /** The frame shown, from 0. */
  get position() {
    return Number(this.timeline.value);
  }

  /** Plays both videos from where they are, or stops both at the same frame. */
  toggle() {
    if (this.playing) {
      this.#stop();
      this.seek(this.position);
      return;
    }
    for (const video of this.#layers) video.play().catch(() => this.#stop()); // e.g. replaced while it loads
    this.#frame = requestAnimationFrame(() => this.#follow());
    this.#label(this.#words.pause, "\u275a\u275a");
  }

  /** Shows one frame of both videos. Half a frame in, because a seek to its very start may show the one before. */
  seek(frame) {
    for (const [side, video] of this.#layers.entries()) {
      const own = Math.min(frame, this.#media.frames[side] - 1);
      video.currentTime = (own + 0.5) / this.#media.fps;
    }
    this.#tell(frame);
  }

  #stop() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#media?.kind !== "video") return;
    for (const video of this.#layers) video.pause();
    if (this.playButton) this.#label(this.#words.play, "\u25b6");
  }

  /** Each screen refresh: the longer video leads, the other is put right when it is half a frame off. */
  #follow() {
    const [before, after] = this.#layers;
    const { frames, fps } = this.#media;
    const [lead, other] = frames[0] > frames[1] ? [before, after] : [after, before];
    if (lead.ended) {
      for (const video of this.#layers) {
        video.currentTime = 0;
        video.play().catch(() => this.#stop());
      }
    } else if (!other.ended && Math.abs(lead.currentTime - other.currentTime) > 0.5 / fps) {
      other.currentTime = lead.currentTime;
    }
    this.#tell(Math.min(Math.floor(lead.currentTime * fps), Math.max(...frames) - 1));
    if (this.playing) this.#frame = requestAnimationFrame(() => this.#follow());
  }

  #label(text, sign) {
    this.playButton.textContent = sign;
    this.playButton.setAttribute("aria-label", text);
    this.playButton.title = text;
  }

  #tell(frame) {
    const total = Math.max(...this.#media.frames);
    this.timeline.value = frame;
    this.timeline.setAttribute("aria-valuetext", `${frame + 1} / ${total}`);
    this.count.textContent = `${frame + 1} / ${total}`;
  }

  #key(event) {
    const video = this.#media?.kind === "video";
    const step = { ",": -1, ".": 1 }[event.key];
    if (video && event.key === " " && event.target.tagName !== "BUTTON") this.toggle();
    else if (video && step) {
      this.#stop();
      this.seek(Math.min(Math.max(this.position + step, 0), Number(this.timeline.max)));
    } else if (event.key === " " || event.key.startsWith("Arrow")) {
      event.stopPropagation(); // the browser moves the slider; the graph must not move its nodes
      return;
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
