// Reading JSON without building it. A payload is shown as the bytes that were published, so 999999996000000004 and 1.10
// must never pass through a JavaScript number: here values are cut out of the text as slices and printed token by token.

const QUOTE = 34;
const BACKSLASH = 92;
const COMMA = 44;
const COLON = 58;
const OPEN_BRACE = 123;
const CLOSE_BRACE = 125;
const OPEN_BRACKET = 91;
const CLOSE_BRACKET = 93;

const isSpace = (code) => code === 32 || code === 10 || code === 13 || code === 9;

function skipSpace(text, at) {
  while (at < text.length && isSpace(text.charCodeAt(at))) at += 1;
  return at;
}

/** The position after the string that opens at `at`. */
function skipString(text, at) {
  let end = at;
  for (;;) {
    end = text.indexOf('"', end + 1);
    if (end < 0) throw new SyntaxError("a string is not closed");
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes += 1;
    if (backslashes % 2 === 0) return end + 1;
  }
}

function isDelimiter(code) {
  return isSpace(code) || code === COMMA || code === COLON || code === CLOSE_BRACE || code === CLOSE_BRACKET
    || code === OPEN_BRACE || code === OPEN_BRACKET || code === QUOTE;
}

function skipWord(text, at) {
  let end = at + 1;
  while (end < text.length && !isDelimiter(text.charCodeAt(end))) end += 1;
  return end;
}

/** The position after the value that begins at `at`. The text must be valid JSON; only its extent is found. */
export function skipValue(text, at) {
  const first = text.charCodeAt(at);
  if (first === QUOTE) return skipString(text, at);
  if (first !== OPEN_BRACE && first !== OPEN_BRACKET) return skipWord(text, at);
  let depth = 0;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = skipString(text, at);
      continue;
    }
    if (code === OPEN_BRACE || code === OPEN_BRACKET) depth += 1;
    else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth -= 1;
    at += 1;
    if (depth === 0) return at;
  }
  throw new SyntaxError("an object or an array is not closed");
}

/** The members of the object that begins at `start`, as a map from name to the raw text of the value. */
export function members(text, start = 0) {
  const found = new Map();
  let at = skipSpace(text, start);
  if (text.charCodeAt(at) !== OPEN_BRACE) throw new SyntaxError("not an object");
  at = skipSpace(text, at + 1);
  while (at < text.length && text.charCodeAt(at) !== CLOSE_BRACE) {
    const nameEnd = skipString(text, at);
    const name = plainString(text.slice(at, nameEnd));
    at = skipSpace(text, nameEnd);
    at = skipSpace(text, at + 1);
    const end = skipValue(text, at);
    found.set(name, text.slice(at, end));
    at = skipSpace(text, end);
    if (text.charCodeAt(at) === COMMA) at = skipSpace(text, at + 1);
  }
  return found;
}

/** The raw texts of the elements of an array. */
export function elements(text) {
  const found = [];
  let at = skipSpace(text, 0);
  if (text.charCodeAt(at) !== OPEN_BRACKET) throw new SyntaxError("not an array");
  at = skipSpace(text, at + 1);
  while (at < text.length && text.charCodeAt(at) !== CLOSE_BRACKET) {
    const end = skipValue(text, at);
    found.push(text.slice(at, end));
    at = skipSpace(text, end);
    if (text.charCodeAt(at) === COMMA) at = skipSpace(text, at + 1);
  }
  return found;
}

/** The text that a JSON string literal stands for. */
export function plainString(literal) {
  return literal.includes("\\") ? JSON.parse(literal) : literal.slice(1, -1);
}

/**
 * A record out of the raw text of a `message` frame, or of an entry of `messages`.
 *
 * `payload` and `headers` stay raw text. `place` names topic and partition where the text does not.
 */
export function record(fields, place = {}) {
  const key = fields.get("key");
  const base64 = fields.get("payload_base64");
  return {
    topic: fields.has("topic") ? plainString(fields.get("topic")) : place.topic,
    partition: fields.has("partition") ? Number(fields.get("partition")) : place.partition,
    offset: fields.has("offset") ? Number(fields.get("offset")) : null,
    timestamp: Number(fields.get("timestamp") ?? 0),
    key: key === undefined || key === "null" ? null : plainString(key),
    headers: fields.get("headers") ?? null,
    payload: fields.get("payload") ?? null,
    base64: base64 === undefined ? null : plainString(base64),
  };
}

/** The headers of a record as pairs of strings. */
export function headerPairs(record) {
  if (!record.headers || record.headers === "null") return [];
  return [...members(record.headers)].map(([name, value]) => [name, value.startsWith('"') ? plainString(value) : value]);
}

/** Why `text` is not JSON, in words for the person who typed it, or null when it is. */
export function fault(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return text.trim() === "" ? "The payload is empty." : error.message.replace(/^JSON\.parse: /, "");
  }
}

/** `text` on one line: line breaks can stand only between the tokens of valid JSON, and a frame is one line. */
export const oneLine = (text) => text.trim().replace(/[\r\n]/g, " ");

/** The tokens of valid JSON, in order: `{kind, text}` with kind `open`, `close`, `comma`, `colon`, `key`, `string`, `number`, `word`. */
function* tokens(text) {
  let at = skipSpace(text, 0);
  while (at < text.length) {
    const code = text.charCodeAt(at);
    let end = at + 1;
    let kind = "word";
    if (code === OPEN_BRACE || code === OPEN_BRACKET) kind = "open";
    else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) kind = "close";
    else if (code === COMMA) kind = "comma";
    else if (code === COLON) kind = "colon";
    else if (code === QUOTE) {
      end = skipString(text, at);
      kind = text.charCodeAt(skipSpace(text, end)) === COLON ? "key" : "string";
    } else {
      end = skipWord(text, at);
      kind = code === 45 || (code >= 48 && code <= 57) ? "number" : "word";
    }
    yield { kind, text: text.slice(at, end) };
    at = skipSpace(text, end);
  }
}

/**
 * Lines for display: `{depth, tokens}`. Every token is a slice of `text`, so nothing is rounded, reordered or re-escaped; only the
 * white space between tokens is ours. At most `linesMax` lines, and `cut` says whether more would follow.
 */
export function pretty(text, linesMax = 2000) {
  const lines = [];
  let line = { depth: 0, tokens: [] };
  let depth = 0;
  let before = null;
  const breakLine = () => {
    lines.push(line);
    line = { depth, tokens: [] };
  };
  for (const token of tokens(text)) {
    if (lines.length >= linesMax) return { lines, cut: true };
    if (token.kind === "close") {
      depth -= 1;
      if (before?.kind === "open") line.depth = Math.min(line.depth, depth + 1);
      else breakLine();
    } else if (before?.kind === "open") {
      breakLine();
    }
    line.tokens.push(token);
    if (token.kind === "open") depth += 1;
    if (token.kind === "comma") breakLine();
    before = token;
  }
  lines.push(line);
  return { lines, cut: false };
}
