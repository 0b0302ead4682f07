// One WebSocket to the broker for the whole page: it reconnects with a growing delay, asks and answers by frame id, and keeps
// subscriptions alive across connections by epoch and offsets. It speaks the public protocol and knows nothing that a client could not.

import { signal } from "../vendor/signals-core.js";
import { members, plainString, record } from "./json.js";

const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 5000;
const REPLY_MS_MAX = 15000;
/** A message may have 1 MiB, and a character up to three bytes. */
const MESSAGE_CHARS_MAX = 300000;
/** Records that may be on their way to this tab. What comes faster than it can draw is skipped by the broker, not queued here. */
export const CREDIT = 2000;

/** A refusal by the broker, or a request that a lost connection took with it (`code` is then `disconnected`). */
export class FrameError extends Error {
  constructor(frame) {
    super(frame.message ?? frame.code);
    this.code = frame.code;
    this.retryable = frame.retryable === true;
  }
}

/** One frame as text, with raw JSON for the members in `raw`, so that a payload goes out byte for byte. */
export function encode(fields, raw = {}) {
  let text = JSON.stringify(fields).slice(0, -1);
  for (const [name, value] of Object.entries(raw)) text += `,"${name}":${value}`;
  return `${text}}`;
}

export class Connection {
  #url;
  #socket = null;
  #waiting = new Map();
  #taps = new Map();
  #nextId = 1;
  #attempt = 0;
  #timer = 0;

  /** `{phase}`: `connecting`, `open` (with `welcome`), or `waiting` (with `retryAt`, milliseconds since the epoch). */
  state = signal({ phase: "connecting", attempt: 0 });
  /** Counts connections that came to a `welcome`; 2 or more means that the page has been through an interruption. */
  opened = signal(0);

  constructor(url) {
    this.#url = url;
  }

  open() {
    clearTimeout(this.#timer);
    if (this.#socket) return;
    this.state.value = { phase: "connecting", attempt: this.#attempt };
    const socket = new WebSocket(this.#url, ["callboard.v1.ndjson"]);
    this.#socket = socket;
    socket.onmessage = (event) => this.#read(event.data);
    socket.onclose = () => this.#lost(socket);
  }

  /** Drops the wait between two attempts. */
  retryNow() {
    if (this.state.value.phase === "waiting") this.open();
  }

  get isOpen() {
    return this.state.value.phase === "open";
  }

  /** Sends lines, many to a message as far as the broker's limit allows. */
  send(...lines) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    let message = [];
    let length = 0;
    for (const line of lines) {
      if (length + line.length > MESSAGE_CHARS_MAX && message.length > 0) {
        this.#socket.send(message.join("\n"));
        message = [];
        length = 0;
      }
      message.push(line);
      length += line.length + 1;
    }
    this.#socket.send(message.join("\n"));
  }

  /** Sends frames (see `encode`) as one message, and expects no replies. */
  sendAll(frames) {
    this.send(...frames.map(({ fields, raw }) => encode(fields, raw)));
  }

  /** Sends frames (see `encode`) in one message and resolves to their replies; each reply may be a `FrameError`. */
  requestAll(frames) {
    if (!this.isOpen) {
      return Promise.reject(new FrameError({ code: "disconnected", message: "There is no connection to the broker right now." }));
    }
    const replies = [];
    const lines = frames.map(({ fields, raw }) => {
      const id = this.#nextId++;
      replies.push(this.#reply(id));
      return encode({ ...fields, id }, raw);
    });
    this.send(...lines);
    return Promise.all(replies);
  }

  async request(fields, raw) {
    const [reply] = await this.requestAll([{ fields, raw }]);
    if (reply instanceof FrameError) throw reply;
    return reply;
  }

  /**
   * Follows a topic until `stop`. The tap's `onRecords(records)`, `onSkipped(count, partition)`, `onState(state)` are called; `exists()` is
   * asked before each subscribe, because a subscribe to a topic that somebody deleted would create it again.
   */
  follow(tap) {
    const former = this.#taps.get(tap.topic);
    if (former?.active) this.send(encode({ type: "unsubscribe", topic: tap.topic }));
    if (former) former.active = false;
    tap.active = false;
    tap.position = null;
    this.#taps.set(tap.topic, tap);
    this.#subscribe(tap);
    return {
      stop: () => {
        if (this.#taps.get(tap.topic) !== tap) return;
        this.#taps.delete(tap.topic);
        if (tap.active) this.send(encode({ type: "unsubscribe", topic: tap.topic }));
        tap.active = false;
      },
    };
  }

  async #subscribe(tap) {
    if (!this.isOpen || !(await tap.exists())) return;
    if (this.#taps.get(tap.topic) !== tap || !this.isOpen || tap.active) return;
    const isResume = tap.position !== null;
    const from = isResume ? { offsets: tap.position.offsets, epoch: tap.position.epoch } : tap.from;
    try {
      tap.active = true;
      tap.taken = 0;
      const reply = await this.request({ type: "subscribe", topic: tap.topic, from, credit: CREDIT, overflow: "skip" });
      tap.onState({ phase: "live", hasGap: isResume && reply.recovered === false });
    } catch (error) {
      tap.active = false;
      if (this.#taps.get(tap.topic) === tap) tap.onState({ phase: "refused", error });
    }
  }

  #reply(id) {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#settle(id, new FrameError({ code: "timeout", message: "The broker has not answered within 15 seconds." }));
      }, REPLY_MS_MAX);
      this.#waiting.set(id, { resolve, timer });
    });
  }

  #settle(id, reply) {
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    waiting.resolve(reply);
  }

  #read(message) {
    let batches = new Map();
    const deliver = () => {
      for (const [topic, records] of batches) this.#deliver(topic, records);
      batches = new Map();
    };
    for (const line of message.split("\n")) {
      if (line === "") continue;
      const fields = members(line);
      const type = plainString(fields.get("type"));
      if (type === "message") {
        const one = record(fields);
        const batch = batches.get(one.topic);
        if (batch) batch.push(one);
        else batches.set(one.topic, [one]);
      } else {
        deliver(); // What came before a `subscribed` or an `unsubscribed` belongs to what was before.
        this.#control(type, JSON.parse(line));
      }
    }
    deliver();
  }

  #deliver(topic, records) {
    const tap = this.#taps.get(topic);
    // Without a position this tap has no subscription yet: the records are the last ones of another that was given up.
    if (!tap?.position) return;
    for (const { partition, offset } of records) {
      if (offset !== null) tap.position.offsets[partition] = offset + 1;
    }
    this.#topUpLater(tap, records.length);
    tap.onRecords(records);
  }

  // Credit goes back once per animation frame: a hidden tab draws nothing, so it asks for nothing and costs the broker nothing.
  #topUpLater(tap, count) {
    const isFirst = tap.taken === 0;
    tap.taken += count;
    if (!isFirst) return;
    requestAnimationFrame(() => {
      if (tap.active && tap.taken > 0) this.send(encode({ type: "credit", topic: tap.topic, add: tap.taken }));
      tap.taken = 0;
    });
  }

  #control(type, frame) {
    const tap = this.#taps.get(frame.topic);
    // Here and not where the reply is awaited: records may follow in the same message, and they move the position on.
    if (type === "subscribed" && tap) tap.position = { epoch: frame.epoch, offsets: { ...frame.offsets } };
    if (type === "welcome") this.#welcomed(frame);
    else if (type === "skipped") tap?.onSkipped(frame);
    else if (type === "unsubscribed" && tap) {
      tap.active = false;
      tap.onState({ phase: "ended", reason: frame.reason });
    } else if (type === "goaway") this.#goaway = frame;
    else if (type === "error") this.#settle(frame.id, new FrameError(frame));
    else if (frame.id !== undefined) this.#settle(frame.id, frame);
  }

  #goaway = null;

  #welcomed(frame) {
    this.#attempt = 0;
    this.#goaway = null;
    this.state.value = { phase: "open", attempt: 0, welcome: frame, since: Date.now() };
    this.opened.value += 1;
    for (const tap of this.#taps.values()) this.#subscribe(tap);
  }

  #lost(socket) {
    if (this.#socket !== socket) return;
    this.#socket = null;
    for (const id of [...this.#waiting.keys()]) {
      this.#settle(id, new FrameError({ code: "disconnected", message: "The connection was lost before the broker answered." }));
    }
    for (const tap of this.#taps.values()) {
      tap.active = false;
      tap.onState({ phase: "waiting" });
    }
    // The delay is spread, so that a broker that comes back is not met by all its tabs in the same moment.
    const grown = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** this.#attempt);
    const delay = (this.#goaway?.reconnect_ms ?? grown) * (0.75 + Math.random() / 2);
    this.#attempt += 1;
    this.#goaway = null;
    this.state.value = { phase: "waiting", attempt: this.#attempt, retryAt: Date.now() + delay };
    this.#timer = setTimeout(() => this.open(), delay);
  }
}

/** The page's connection, at `ws` beside the page, so that a path prefix of a proxy is kept. */
export function connect() {
  const url = new URL("ws", location.href.split("#")[0]);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const connection = new Connection(url.href);
  connection.open();
  addEventListener("online", () => connection.retryNow());
  document.addEventListener("visibilitychange", () => document.hidden || connection.retryNow());
  return connection;
}
