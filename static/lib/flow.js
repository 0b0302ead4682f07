// The moving picture of a topic: records leave the broker's door on the left and travel, each into the lane of its partition. A dot
// is one record while they can be told apart; when they come faster, a dot carries several and says how many. No dot is made up
// and none is left out: the numbers of all dots add up to the records received.

import * as format from "./format.js";

const TRAVEL_MS = 2200;
/** Records that leave in a second, each as its own dot, before several share one. */
const SINGLE_DOTS_PER_S_MAX = 140;
/** Shared dots are larger and carry a number: so many a second fit into one lane side by side. */
const SHARED_DOTS_PER_S_MAX = 9;
/** The longest a record waits for others to share its dot. */
const GATHER_MS_MAX = 250;
/** Records that came in one message leave one after another over this time, else they would lie on one spot. */
const STAGGER_MS = 140;
/** Up to this many records to a dot, each key's colour has dots of its own; above it a dot takes whatever comes into its lane. */
const PER_DOT_OF_ONE_KEY_MAX = 10;
const SCALES = [1, 2, 5];
const LANES_MAX = 24;
const CELLS = 60;
/** Lanes at least so tall have a thread for each colour, so that the records of one key run in one line. */
const THREADED_PX_MIN = 40;
const THREAD_REACH_MAX = 100;

/** One, or the smallest 2, 5, 10, 20 … with which the dots of the busiest lane do not cover each other. Both rates are records a second. */
export function recordsPerDot(perSecond, busiest) {
  if (perSecond <= SINGLE_DOTS_PER_S_MAX) return 1;
  for (let power = 1; ; power *= 10) {
    for (const scale of SCALES) if (scale * power > 1 && busiest / (scale * power) <= SHARED_DOTS_PER_S_MAX) return scale * power;
  }
}

const radiusOf = (count) => Math.min(13, 3.4 + 1.15 * Math.log2(count));
const smooth = (t) => t * t * (3 - 2 * t);

export class Flow {
  #canvas;
  #pen;
  #dots = [];
  #lanes = [];
  #palette = {};
  #size = { width: 0, height: 0 };
  #frame = 0;
  #second = 0;
  #rate = 0;
  #arrivals = [];
  #pointer = null;
  #observer;
  #onPick;
  #onScale;
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  /** Records in dots that have left, and in dots that have come to their lane. */
  departed = 0;
  landed = 0;
  perDot = 1;

  /** `onPick(record)`: a dot was clicked; `onScale(perDot)`: a dot now stands for another number of records. */
  constructor(canvas, { onPick, onScale }) {
    this.#canvas = canvas;
    this.#pen = canvas.getContext("2d");
    this.#onPick = onPick;
    this.#onScale = onScale;
    this.#observer = new ResizeObserver(() => this.#resize());
    this.#observer.observe(canvas.parentElement);
    canvas.addEventListener("pointermove", this.#pointed);
    canvas.addEventListener("pointerleave", this.#left);
    canvas.addEventListener("click", this.#clicked);
    this.#second = setInterval(() => this.#everySecond(), 1000);
  }

  stop() {
    cancelAnimationFrame(this.#frame);
    clearInterval(this.#second);
    this.#observer.disconnect();
  }

  /** Lanes for `partitions`; above 24 neighbours share a lane. */
  setPartitions(partitions) {
    const perLane = Math.ceil(partitions.length / LANES_MAX);
    const number = Math.ceil(partitions.length / perLane);
    if (number !== this.#lanes.length || perLane !== this.perLane) {
      this.perLane = perLane;
      this.#lanes = Array.from({ length: number }, () => ({ y: 0, reach: 0, threads: new Set(), glow: 0, gathered: new Map(), cells: new Array(CELLS).fill(0), now: 0 }));
      this.#dots = [];
    }
    for (const [index, lane] of this.#lanes.entries()) {
      const mine = partitions.slice(index * perLane, (index + 1) * perLane);
      lane.label = perLane === 1 ? `p${mine[0].partition}` : `p${mine[0].partition}–${mine.at(-1).partition}`;
      if (lane.count === undefined || !this.#isBusy(lane)) lane.count = mine.reduce((sum, one) => sum + one.next_offset, 0);
    }
    this.#resize();
  }

  #isBusy(lane) {
    return this.#dots.some((dot) => dot.lane === lane) || lane.gathered.size > 0;
  }

  /** Takes the colours from the style sheet; to be called again when the theme changes. */
  setColours() {
    const style = getComputedStyle(this.#canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.#palette = { ink: colour("--ink"), faint: colour("--faint"), line: colour("--rule"), paper: colour("--notice"), accent: colour("--brass") };
    this.#palette.keys = Array.from({ length: 8 }, (_, index) => colour(`--key-${index}`));
    this.#palette.font = `11px ${colour("--mono") || "monospace"}`;
    this.#wake();
  }

  /** Records that have just come. */
  add(records) {
    const now = performance.now();
    this.#arrivals.push({ at: now, count: records.length });
    for (const record of records) {
      const lane = this.#laneOf(record.partition);
      if (lane) lane.now += 1;
    }
    // A flood is met at once; only the way back to smaller numbers waits for the second to end.
    if (records.length > SINGLE_DOTS_PER_S_MAX / 4) this.#rescale(now);
    const step = Math.min(STAGGER_MS / records.length, 30);
    for (const [index, record] of records.entries()) {
      const lane = this.#laneOf(record.partition);
      if (!lane) continue;
      this.#gather(lane, record, now + index * step);
    }
    this.#wake();
  }

  /** Records that the broker skipped for this page travel as an empty ring with their number. */
  addSkipped(partition, count) {
    const lane = this.#laneOf(partition);
    if (!lane || count === 0) return;
    const dot = this.#dots.findLast((one) => one.lane === lane && one.isSkipped && performance.now() - one.start < 600);
    if (dot) dot.count += count;
    else this.#dots.push({ lane, start: performance.now(), count, colour: null, record: null, isSkipped: true });
    this.#wake();
  }

  #laneOf(partition) {
    return this.#lanes[Math.floor(partition / this.perLane)];
  }

  #gather(lane, record, at) {
    const colour = record.key === null ? -1 : format.hue(record.key);
    const place = this.perDot > PER_DOT_OF_ONE_KEY_MAX ? "any" : colour;
    const open = lane.gathered.get(place);
    if (open) {
      open.count += 1;
      open.record = record;
      if (open.colour !== colour) open.colour = -1;
    } else {
      lane.gathered.set(place, { lane, start: at, opened: at, count: 1, colour, record, isSkipped: false });
    }
    if (lane.gathered.get(place).count >= this.perDot) this.#depart(lane, place, at);
  }

  #depart(lane, place, at) {
    const dot = lane.gathered.get(place);
    lane.gathered.delete(place);
    dot.start = at;
    lane.threads.add(dot.colour);
    this.departed += dot.count;
    if (this.#still.matches) this.#land(dot);
    else this.#dots.push(dot);
  }

  #land(dot) {
    if (dot.isSkipped) {
      dot.lane.count += dot.count;
      return;
    }
    this.landed += dot.count;
    dot.lane.count = Math.max(dot.lane.count + dot.count, dot.record.offset !== null && this.perLane === 1 ? dot.record.offset + 1 : 0);
    dot.lane.glow = 1;
  }

  #rescale(now) {
    this.#arrivals = this.#arrivals.filter((one) => now - one.at < 1000);
    const fresh = this.#arrivals.reduce((sum, one) => sum + one.count, 0);
    this.#rate = Math.max(fresh, this.#rate);
    const busiest = Math.max(0, ...this.#lanes.map((lane) => Math.max(lane.now, lane.cells.at(-1))));
    const perDot = recordsPerDot(this.#rate, busiest);
    if (perDot === this.perDot) return;
    this.perDot = perDot;
    for (const lane of this.#lanes) lane.threads.clear();
    this.#onScale(perDot);
  }

  #everySecond() {
    this.#rate /= 2;
    this.#rescale(performance.now());
    for (const lane of this.#lanes) {
      lane.cells.push(lane.now);
      lane.cells.shift();
      lane.now = 0;
    }
    if (this.#still.matches) this.#wake();
    this.#canvas.dataset.landed = this.landed;
  }

  #resize() {
    const box = this.#canvas.parentElement.getBoundingClientRect();
    if (box.width === 0 || this.#lanes.length === 0) return;
    const laneHeight = Math.max(15, Math.min(260, 270 / this.#lanes.length));
    const height = Math.max(box.width < 520 ? 180 : 284, Math.round(laneHeight * this.#lanes.length + 14));
    const ratio = Math.min(2, devicePixelRatio || 1);
    if (this.#size.width !== box.width || this.#size.height !== height) {
      this.#size = { width: box.width, height };
      this.#canvas.width = Math.round(box.width * ratio);
      this.#canvas.height = Math.round(height * ratio);
      this.#canvas.style.height = `${height}px`;
      this.#pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    const top = (height - laneHeight * this.#lanes.length) / 2;
    for (const [index, lane] of this.#lanes.entries()) {
      lane.y = top + (index + 0.5) * laneHeight;
      lane.reach = laneHeight < THREADED_PX_MIN ? 0 : Math.min(THREAD_REACH_MAX, laneHeight * 0.36);
    }
    this.#wake();
  }

  #wake() {
    if (!this.#frame) this.#frame = requestAnimationFrame((now) => this.#paint(now));
  }

  get #geometry() {
    const { width, height } = this.#size;
    const narrow = width < 520;
    const fan = width * (narrow ? 0.34 : 0.3);
    const end = width - (narrow ? 86 : 118);
    return { door: narrow ? 12 : 20, middle: height / 2, fan, gather: end - (end - fan) * 0.24, end, width };
  }

  #place(dot, now, shape) {
    const progress = Math.min(1, Math.max(0, (now - dot.start) / TRAVEL_MS));
    const x = shape.door + (shape.end - shape.door) * progress;
    return { x, y: this.#height(x, dot.lane, this.#thread(dot.lane, dot.colour), shape), progress };
  }

  /** How far beside its lane's middle a colour runs. */
  #thread(lane, colour) {
    return colour === null || colour < 0 ? 0 : ((colour - 3.5) / 3.5) * lane.reach;
  }

  /** Out of the door, along the lane, and together again where the log is. */
  #height(x, lane, thread, shape) {
    const out = smooth(Math.min(1, (x - shape.door) / (shape.fan - shape.door)));
    const together = smooth(Math.max(0, (x - shape.gather) / (shape.end - shape.gather)));
    return shape.middle + (lane.y + thread * (1 - together) - shape.middle) * out;
  }

  #paint(now) {
    this.#frame = 0;
    const pen = this.#pen;
    const shape = this.#geometry;
    pen.clearRect(0, 0, shape.width, this.#size.height);
    pen.font = this.#palette.font;
    pen.textBaseline = "middle";
    if (this.#still.matches) this.#paintCells(shape);
    else this.#paintLines(shape);
    let isMoving = false;
    for (const lane of this.#lanes) {
      for (const [place, dot] of lane.gathered) if (now - dot.opened > GATHER_MS_MAX) this.#depart(lane, place, now);
      isMoving ||= lane.gathered.size > 0 || lane.glow > 0.02;
    }
    this.#paintDots(now, shape);
    this.#paintLanes(shape);
    if (isMoving || this.#dots.length > 0) this.#wake();
  }

  #paintLines(shape) {
    const pen = this.#pen;
    pen.strokeStyle = this.#palette.line;
    pen.lineWidth = 1;
    for (const lane of this.#lanes) {
      const colours = lane.reach > 0 && lane.threads.size > 0 ? lane.threads : [-1];
      for (const colour of colours) this.#paintThread(lane, this.#thread(lane, colour), shape);
    }
    pen.fillStyle = this.#palette.accent;
    pen.beginPath();
    pen.arc(shape.door, shape.middle, 5, 0, 7);
    pen.fill();
  }

  #paintThread(lane, thread, shape) {
    const pen = this.#pen;
    const y = lane.y + thread;
    // With their handles at the thirds these cubics are the very curves that the dots follow.
    const out = (shape.fan - shape.door) / 3;
    const together = (shape.end - shape.gather) / 3;
    pen.beginPath();
    pen.moveTo(shape.door, shape.middle);
    pen.bezierCurveTo(shape.door + out, shape.middle, shape.door + 2 * out, y, shape.fan, y);
    pen.lineTo(shape.gather, y);
    pen.bezierCurveTo(shape.gather + together, y, shape.end - together, lane.y, shape.end, lane.y);
    pen.stroke();
  }

  #paintLanes(shape) {
    const pen = this.#pen;
    for (const lane of this.#lanes) {
      lane.glow *= 0.93;
      const tall = Math.min(20, this.#lanes.length > 14 ? 10 : 20);
      pen.globalAlpha = 0.25 + 0.75 * lane.glow;
      pen.fillStyle = this.#palette.accent;
      pen.fillRect(shape.end, lane.y - tall / 2, 3, tall);
      pen.globalAlpha = 1;
      pen.fillStyle = this.#palette.faint;
      pen.fillText(lane.label, shape.end + 18, lane.y);
      pen.fillStyle = this.#palette.ink;
      pen.textAlign = "right";
      pen.fillText(shape.width < 520 ? format.short(lane.count) : format.count(lane.count), shape.width - 2, lane.y);
      pen.textAlign = "left";
    }
  }

  #paintDots(now, shape) {
    const moving = [];
    let pointed = null;
    for (const dot of this.#dots) {
      const at = this.#place(dot, now, shape);
      if (at.progress >= 1) {
        this.#land(dot);
        continue;
      }
      moving.push(dot);
      if (now < dot.start) continue;
      this.#paintDot(dot, at);
      if (this.#pointer && Math.hypot(at.x - this.#pointer.x, at.y - this.#pointer.y) < radiusOf(dot.count) + 6) pointed = { dot, at };
    }
    this.#dots = moving;
    this.#canvas.dataset.landed = this.landed;
    this.#canvas.style.cursor = pointed?.dot.record ? "pointer" : "";
    if (pointed) this.#paintTag(pointed, shape);
  }

  #paintDot(dot, at) {
    const pen = this.#pen;
    const radius = radiusOf(dot.count);
    pen.beginPath();
    pen.arc(at.x, at.y, dot.isSkipped ? Math.max(8, radius) : radius, 0, 7);
    if (dot.isSkipped) {
      pen.fillStyle = this.#palette.paper;
      pen.fill();
      pen.strokeStyle = this.#palette.ink;
      pen.setLineDash([3, 2]);
      pen.stroke();
      pen.setLineDash([]);
    } else {
      pen.fillStyle = dot.colour < 0 ? this.#palette.ink : this.#palette.keys[dot.colour];
      pen.fill();
      if (dot.count > 1) {
        pen.strokeStyle = this.#palette.paper;
        pen.stroke();
      }
    }
    if (dot.count === 1 || (radius < 8 && !dot.isSkipped)) return;
    pen.textAlign = "center";
    pen.fillStyle = dot.isSkipped ? this.#palette.ink : this.#palette.paper;
    pen.fillText(`${dot.isSkipped ? "−" : ""}${format.short(dot.count)}`, at.x, at.y + 0.5);
    pen.textAlign = "left";
  }

  #paintTag({ dot, at }, shape) {
    const pen = this.#pen;
    const { record } = dot;
    const text = dot.isSkipped ? `${format.count(dot.count)} skipped`
      : dot.count > 1 ? `${format.count(dot.count)} records to @${record.offset}`
      : `@${record.offset ?? "live"}${record.key === null ? "" : ` ${record.key.slice(0, 24)}`}`;
    const wide = pen.measureText(text).width + 12;
    const x = Math.min(shape.width - wide, Math.max(0, at.x - wide / 2));
    const y = at.y < 34 ? at.y + 26 : at.y - 26;
    pen.fillStyle = this.#palette.ink;
    pen.fillRect(x, y - 10, wide, 20);
    pen.fillStyle = this.#palette.paper;
    pen.fillText(text, x + 6, y + 0.5);
  }

  // For those who ask for less motion: one cell a second and lane, the darker the more records, stepping once a second.
  #paintCells(shape) {
    const pen = this.#pen;
    const wide = (shape.end - 6) / CELLS;
    const most = Math.max(1, ...this.#lanes.flatMap((lane) => lane.cells));
    const tall = Math.min(24, 0.7 * (this.#size.height / this.#lanes.length));
    for (const lane of this.#lanes) {
      for (const [index, count] of lane.cells.entries()) {
        pen.globalAlpha = count === 0 ? 0.08 : 0.25 + 0.75 * (Math.log1p(count) / Math.log1p(most));
        pen.fillStyle = count === 0 ? this.#palette.faint : this.#palette.accent;
        pen.fillRect(index * wide, lane.y - tall / 2, wide - 1.5, tall);
      }
    }
    pen.globalAlpha = 1;
  }

  #pointed = (event) => {
    this.#pointer = { x: event.offsetX, y: event.offsetY };
    this.#wake();
  };

  #left = () => {
    this.#pointer = null;
  };

  #clicked = (event) => {
    const now = performance.now();
    const shape = this.#geometry;
    let best = null;
    let nearest = 20;
    for (const dot of this.#dots) {
      const at = this.#place(dot, now, shape);
      const distance = Math.hypot(at.x - event.offsetX, at.y - event.offsetY);
      if (dot.record && now >= dot.start && distance < nearest) [best, nearest] = [dot, distance];
    }
    if (best) this.#onPick(best.record);
  };
}
