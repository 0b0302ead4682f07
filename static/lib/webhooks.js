// What the page says of webhooks: their state and their answers, in words.

import { clock, span } from "./format.js";

export const POLL_MS = 1500;

export const FORMATS = [
  ["message", "The record as subscribers see it: topic, partition, offset, key, payload."],
  ["payload", "The payload alone, byte for byte."],
  ["cloudevents", "CloudEvents 1.0, structured: one JSON object with the payload as its data."],
  ["cloudevents_binary", "CloudEvents 1.0, binary: the payload alone, the rest in ce- headers."],
];

const REASONS = {
  gone: "it answered 410 Gone",
  failing: "it failed too often in a row",
  topic_deleted: "its topic was deleted",
  group_deleted: "its group was deleted",
  requested: "somebody disabled it",
  forbidden: "this broker may not call its address",
};

/** Why a webhook was disabled, in words; a reason of a later broker is said as it is. */
export const reasonWords = (reason) => (Object.hasOwn(REASONS, reason) ? REASONS[reason] : (reason ?? "no reason is given"));

/** The state of a webhook in a few words. */
export function stateOf(webhook, now) {
  if (webhook.state === "disabled") return "disabled";
  if (webhook.state !== "paused") return "active";
  const retryAt = Date.parse(webhook.retry_at ?? "");
  if (Number.isNaN(retryAt)) return "paused";
  return retryAt <= now ? "paused, trying again" : `paused, tries again in ${span(retryAt - now)}`;
}

export const isGood = (answer) => answer.status >= 200 && answer.status < 300;

/** An answer in words: `200`, `503`, or what went wrong before there was one. */
export const answerOf = (answer) => (answer.status === undefined || answer.status === null ? (answer.error ?? "no answer") : String(answer.status));

/** The last answers in words, newest first. */
export function answersInWords(answers) {
  const good = answers.filter(isGood).length;
  return `${good} of the last ${answers.length} calls were taken, the newest at ${clock(Date.parse(answers[0].at)).slice(0, 8)} with ${answerOf(answers[0])}`;
}

/** Why `url` cannot be a webhook's, in words, or null. The broker decides; this only saves the way. */
export function urlFault(url) {
  if (url === "") return "An address is needed.";
  let parsed;
  try {
    parsed = new URL(url);
  } catch {
    return "This is no address, as https://example.com/hook.";
  }
  return parsed.protocol === "http:" || parsed.protocol === "https:" ? null : "Only http and https.";
}
