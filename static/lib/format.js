// Numbers and times as people read them. Everything here is for display; nothing is computed with the results.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const count = (number) => whole.format(number);

/** `1 record`, `2 records`. */
export const plural = (number, noun) => `${whole.format(number)} ${noun}${number === 1 ? "" : "s"}`;

/** `1.2k`, `34M`: for places where a full number would not fit. */
export function short(number) {
  if (number < 1000) return String(Math.round(number));
  const [divisor, unit] = number < 999500 ? [1e3, "k"] : number < 999.5e6 ? [1e6, "M"] : [1e9, "G"];
  const scaled = number / divisor;
  return `${scaled < 9.95 ? tenth.format(scaled) : whole.format(scaled)}${unit}`;
}

/** A rate, with one decimal while it is small; a number too small for that says so. */
export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return "–";
  if (perSecond === 0) return "0";
  if (perSecond < 0.1) return "<0.1";
  return perSecond < 10 ? tenth.format(perSecond) : whole.format(perSecond);
}

export function bytes(number) {
  if (number === null || number === undefined) return "–";
  if (number < 1024) return `${number} B`;
  let scaled = number / 1024;
  for (const unit of ["KiB", "MiB", "GiB"]) {
    if (scaled < 1023.5) return `${scaled < 9.95 ? tenth.format(scaled) : whole.format(scaled)} ${unit}`;
    scaled /= 1024;
  }
  return `${tenth.format(scaled)} TiB`;
}

const pad = (number, width = 2) => String(number).padStart(width, "0");

/** `14:03:07.123`, in the reader's time zone. */
export function clock(ms) {
  const at = new Date(ms);
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)}`;
}

/** Date and time with the reader's offset, to the millisecond. */
export function moment(ms) {
  const at = new Date(ms);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock(ms)}`;
}

const STEPS = [["day", 86400000], ["hour", 3600000], ["minute", 60000], ["second", 1000]];

/** `3 hours 20 minutes` in at most `parts` parts. */
export function duration(ms, parts = 1) {
  const words = [];
  let rest = ms;
  for (const [unit, size] of STEPS) {
    const number = Math.floor(rest / size);
    if (number === 0 || words.length === parts) continue;
    words.push(`${number} ${unit}${number === 1 ? "" : "s"}`);
    rest -= number * size;
  }
  return words.length === 0 ? `${Math.max(0, Math.round(ms))} ms` : words.join(" ");
}

/** How far behind something is, short enough for a table: `0 s`, `420 ms`, `4.1 s`, `3 min 20 s`, `5 h 10 min`, `2 d 3 h`. */
export function span(ms) {
  if (ms <= 0) return "0 s";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59950) return `${tenth.format(ms / 1000)} s`;
  const seconds = Math.round(ms / 1000);
  const [size, unit, lesser, less] = seconds < 3600 ? [60, "min", 1, "s"] : seconds < 86400 ? [3600, "h", 60, "min"] : [86400, "d", 3600, "h"];
  const rest = Math.floor((seconds % size) / lesser);
  return `${Math.floor(seconds / size)} ${unit}${rest === 0 ? "" : ` ${rest} ${less}`}`;
}

/** Time that is left, in tenths of a second in the last minute: `4.0 s`. It never says that less is left than is. */
export const countdown = (ms) => (ms < 60000 ? `${(Math.ceil(ms / 100) / 10).toFixed(1)} s` : span(Math.ceil(ms / 1000) * 1000));

/** `14:03:07` if that is on the same day as `now`, else with its date. */
export const day = (ms, now = Date.now()) => (new Date(ms).toDateString() === new Date(now).toDateString() ? clock(ms).slice(0, 8) : moment(ms).slice(0, 16));

export const ago = (ms, now = Date.now()) => (now - ms < 2000 ? "just now" : `${duration(now - ms)} ago`);

/** A small stable number for a key, 0 to 7: records of one key have one colour. Not the broker's partition hash. */
export function hue(key) {
  let hash = 2166136261;
  for (let at = 0; at < key.length; at += 1) hash = Math.imul(hash ^ key.charCodeAt(at), 16777619);
  hash = Math.imul(hash ^ (hash >>> 16), 2246822507);
  return ((hash ^ (hash >>> 13)) >>> 5) & 7;
}
