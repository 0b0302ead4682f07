// The records of one topic as they come: a short memory for the table, honest counts, and a pause that loses nothing it shows.

import { signal } from "../vendor/signals-core.js";
import * as api from "./api.js";

/** Records that the table remembers. */
const RECENT_MAX = 1000;
/** Bytes of text that it remembers; large records push small memories out earlier. */
const RECENT_BYTES_MAX = 8 << 20;
const REPAINT_MS = 150;
const JUST_NOW_MS = 3000;

const sizeOf = (record) => (record.payload ?? record.base64 ?? "").length + (record.headers?.length ?? 0) + (record.key?.length ?? 0);

/** Newest last; bounded by number and by size. */
class Recent {
  records = [];
  #bytes = 0;

  push(record) {
    this.records.push(record);
    this.#bytes += sizeOf(record);
    // Cut in blocks: shifting one record off a long array for each that comes would cost more than reading it did.
    if (this.records.length < RECENT_MAX * 1.25 && this.#bytes < RECENT_BYTES_MAX) return;
    let drop = Math.max(0, this.records.length - RECENT_MAX);
    for (let at = 0; at < this.records.length - 1 && (at < drop || this.#bytes > RECENT_BYTES_MAX * 0.8); at += 1) {
      this.#bytes -= sizeOf(this.records[at]);
      drop = Math.max(drop, at + 1);
    }
    this.records.splice(0, drop);
  }
}

/** Whether `record` has `filter.text` in key, headers or payload (any case), and is of `filter.partition`. */
export function matches(record, filter) {
  if (filter.partition !== null && record.partition !== filter.partition) return false;
  if (filter.text === "") return true;
  const wanted = filter.text.toLowerCase();
  return [record.key, record.payload, record.headers].some((part) => part !== null && part.toLowerCase().includes(wanted));
}

export class Feed {
  #connection;
  #recent = new Recent();
  #shown = new Recent();
  #live = new Map();
  #repaint = 0;
  #stop = null;
  #painted = { records: [], received: 0 };
  #isPaused = false;

  /** Bumped at most every 150 ms when there is something new to show. */
  version = signal(0);
  /** `{phase}`: `starting`, `live`, `waiting`, `refused` (with `error`), `ended`; `hasGap` after a resume that lost records. */
  state = signal({ phase: "starting" });
  filter = { text: "", partition: null };
  /** Since the page was opened: records that came, and records that the broker skipped because this tab was too slow or hidden. */
  received = 0;
  skipped = 0;

  /** `topic` as `GET /topics/{topic}` answers; `onArrival(records)` and `onSkipped(partition, count)` drive the picture. */
  constructor(connection, topic, { onArrival, onSkipped }) {
    this.#connection = connection;
    this.name = topic.name;
    this.onArrival = onArrival;
    this.onSkipped = onSkipped;
    for (const one of topic.partitions) this.#live.set(one.partition, one.next_offset);
  }

  start() {
    const subscription = this.#connection.follow({
      topic: this.name,
      from: { last: 50 },
      exists: () => api.getTopic(this.name).then(() => true, (error) => error.status !== 404),
      onRecords: (records) => this.#arrived(records),
      onSkipped: (frame) => {
        this.skipped += frame.count ?? 0;
        this.onSkipped(frame.partition, frame.count ?? 0);
        this.#changed();
      },
      onState: (state) => {
        // After a gap the offsets may have begun again, so none of the old ones says what is history.
        if (state.hasGap) this.#live.clear();
        this.state.value = state;
      },
    });
    this.#stop = () => subscription.stop();
  }

  stop() {
    this.#stop?.();
    clearTimeout(this.#repaint);
  }

  #arrived(records) {
    const live = [];
    for (const record of records) {
      this.#recent.push(record);
      if (matches(record, this.filter)) this.#shown.push(record);
      // The picture shows what happens, not what had happened before the page was opened; a record of this very moment happens.
      const isNew = record.offset === null || record.offset >= (this.#live.get(record.partition) ?? 0);
      if (isNew || Date.now() - record.timestamp < JUST_NOW_MS) live.push(record);
    }
    this.received += live.length;
    // What had happened before comes partition by partition; the table shows it in the order in which it happened.
    if (live.length < records.length) for (const memory of [this.#recent, this.#shown]) memory.records.sort((a, b) => a.timestamp - b.timestamp);
    if (live.length > 0) this.onArrival(live);
    this.#changed();
  }

  #changed() {
    if (this.#repaint) return;
    this.#repaint = setTimeout(() => {
      this.#repaint = 0;
      if (!this.#isPaused) this.#paint();
      this.version.value += 1;
    }, REPAINT_MS);
  }

  /** Narrows the table; the memory is searched, and from now on matching records are kept apart so that rare ones stay. */
  narrow(filter) {
    this.filter = filter;
    const shown = new Recent();
    for (const record of this.#recent.records) if (matches(record, filter)) shown.push(record);
    this.#shown = shown;
    this.#paint();
    this.version.value += 1;
  }

  #paint() {
    this.#painted = { records: this.#shown.records.slice(), received: this.received };
  }

  get isPaused() {
    return this.#isPaused;
  }

  /**
   * Holds the table still as it was last drawn, so that a row does not slip away between pressing and releasing the button over it. The
   * picture and the counts go on.
   */
  pause() {
    this.#isPaused = true;
    this.version.value += 1;
  }

  resume() {
    this.#isPaused = false;
    this.#paint();
    this.version.value += 1;
  }

  /** Records that came since the pause. */
  get heldBack() {
    return this.#isPaused ? this.received - this.#painted.received : 0;
  }

  /** The rows of the table, oldest first; not to be changed. */
  get rows() {
    return this.#painted.records;
  }
}
