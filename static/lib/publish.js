// Publish frames out of what somebody typed, sent and answered. The payload leaves as it was typed: it is checked, never rebuilt.

import { oneLine } from "./json.js";
import { FrameError } from "./socket.js";

const COPIES_MAX = 1000;

export const DELAYS = [["seconds", 1000], ["minutes", 60000], ["hours", 3600000], ["days", 86400000]];

/** Header lines `name: value` as an object; the first line that is none is refused in words. */
export function headersOf(text) {
  const headers = {};
  for (const line of text.split("\n").filter((one) => one.trim() !== "")) {
    const colon = line.indexOf(":");
    if (colon < 1) throw new Error(`“${line.trim()}” is not of the form name: value.`);
    headers[line.slice(0, colon).trim()] = line.slice(colon + 1).trim();
  }
  return headers;
}

/** When a record is to be delivered, as the fields of its frame; none for now. */
function dueOf({ when, amount, unit, at }) {
  if (when === "after") {
    const [, ms] = DELAYS.find(([name]) => name === unit);
    if (!(Number(amount) >= 0) || amount === "") throw new Error("After how long? A number is missing.");
    return { delay_ms: Math.round(Number(amount) * ms) };
  }
  if (when !== "at") return {};
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) throw new Error("At what time? Date and time are missing.");
  return { deliver_at: time.toISOString() };
}

/** The frame of a form: `{fields, raw}` as `encode` takes it. With `form.exchange` it goes there by its routing key, else to `topic`. */
export function frameOf(topic, form) {
  const isRouted = form.exchange !== "";
  const to = isRouted ? { exchange: form.exchange, routing_key: form.routingKey } : { topic };
  const fields = { type: "publish", ...to, ack: form.ack, ...dueOf(form) };
  if (form.key !== "") fields.key = form.key;
  if (!isRouted && form.partition !== "") fields.partition = Number(form.partition);
  if (form.messageId !== "") fields.message_id = form.messageId;
  if (form.ttl !== "") fields.ttl_ms = Number(form.ttl);
  const headers = headersOf(form.headers);
  if (Object.keys(headers).length > 0) fields.headers = headers;
  return { fields, raw: { payload: oneLine(form.payload) } };
}

/** Sends what the form says, `form.copies` times; resolves to one line for the list of replies. */
export async function send(connection, topic, form) {
  const copies = Math.min(COPIES_MAX, Math.max(1, Number(form.copies) || 1));
  const frame = frameOf(topic, form);
  const begun = performance.now();
  if (form.ack === "none") {
    connection.sendAll(Array.from({ length: copies }, () => frame));
    return { copies, ms: null, reply: null, key: begun };
  }
  const replies = await connection.requestAll(Array.from({ length: copies }, () => frame));
  const ms = performance.now() - begun;
  const refusal = replies.find((reply) => reply instanceof FrameError);
  if (refusal) throw refusal;
  return { copies, ms, reply: replies.at(-1), key: begun };
}

/** Where a reply says that the records are: `[{topic, partition, offset}]`, or `{topic, scheduled, deliver_at}` for what waits for its time. */
export const placesOf = (reply, topic) => (reply.routes ?? [reply]).map((one) => ({ ...one, topic: one.topic ?? topic }));
