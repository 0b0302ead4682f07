// A real broker for the tests: started on a free loopback port with its own data directory, stopped by its process id.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WebSocket from "ws";

const START_MS_MAX = 20000;

function binary() {
  const path = process.env.CALLBOARD_BIN;
  if (!path) throw new Error("CALLBOARD_BIN must be the path of the callboard binary");
  return path;
}

/** The first `http://127.0.0.1:PORT` that the process prints. */
function printedAddress(child) {
  return new Promise((resolve, reject) => {
    let printed = "";
    const timer = setTimeout(() => reject(new Error(`no address within ${START_MS_MAX} ms: ${printed}`)), START_MS_MAX);
    const read = (chunk) => {
      printed += chunk;
      const found = printed.match(/http:\/\/127\.0\.0\.1:\d+/);
      if (!found) return;
      clearTimeout(timer);
      resolve(found[0]);
    };
    child.stdout.on("data", read);
    child.stderr.on("data", (chunk) => (printed += chunk));
    child.on("exit", (code) => {
      clearTimeout(timer);
      reject(new Error(`the broker ended with ${code}: ${printed}`));
    });
  });
}

export class Broker {
  /** `options` are further ones of the command line. */
  static async start(...options) {
    const broker = new Broker();
    broker.options = options;
    broker.data = await mkdtemp(join(tmpdir(), "callboard-browser-"));
    await broker.run("127.0.0.1:0");
    return broker;
  }

  async run(listen) {
    this.child = spawn(binary(), ["serve", "--listen", listen, "--data", this.data, ...this.options], { stdio: ["ignore", "pipe", "pipe"] });
    this.url = await printedAddress(this.child);
  }

  async halt() {
    const ended = once(this.child, "exit");
    process.kill(this.child.pid, "SIGTERM");
    await ended;
  }

  /** Starts again on the same port with the same data. */
  async comeBack() {
    await this.run(new URL(this.url).host);
  }

  async stop() {
    if (this.child.exitCode === null && this.child.signalCode === null) await this.halt();
    await rm(this.data, { recursive: true, force: true });
  }

  api(path, init = {}) {
    return fetch(`${this.url}/api/v1${path}`, { ...init, headers: { "content-type": "application/json", ...init.headers } });
  }

  /** Posts `body` and gives the answer, which must be `status`. */
  async post(path, body, status = 201) {
    const answer = await this.api(path, { method: "POST", body: JSON.stringify(body) });
    const text = await answer.text();
    if (answer.status !== status) throw new Error(`POST ${path}: ${answer.status} ${text}`);
    return text === "" ? null : JSON.parse(text);
  }

  /** The answer to a GET, which must be 200. */
  async read(path) {
    const answer = await this.api(path);
    if (answer.status !== 200) throw new Error(`GET ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  create(name, config = {}) {
    return this.post("/topics", { name, ...config });
  }

  /** A plain WebSocket client: `publish(lines)` sends raw publish frames and resolves when each has its reply. */
  async client() {
    const socket = new WebSocket(`${this.url.replace("http", "ws")}/ws`, ["callboard.v1.ndjson"]);
    const waiting = new Map();
    let nextId = 1;
    socket.on("message", (data) => {
      for (const line of data.toString().split("\n").filter((one) => one !== "")) {
        const frame = JSON.parse(line);
        waiting.get(frame.id)?.(frame);
        waiting.delete(frame.id);
      }
    });
    const closed = new Promise((resolve) => socket.on("close", resolve));
    await once(socket, "open");
    return {
      closed,
      close: () => socket.close(),
      /** Sends any frame and resolves to its reply, which may be an error. */
      ask: (frame) => {
        const id = nextId++;
        const reply = new Promise((resolve) => waiting.set(id, resolve));
        socket.send(JSON.stringify({ ...frame, id }));
        return reply;
      },
      /** `bodies` are the members of publish frames as raw text, so that the tests choose every byte of a payload. */
      publish: (topic, bodies) => {
        const replies = [];
        for (let at = 0; at < bodies.length; at += 500) {
          const lines = bodies.slice(at, at + 500).map((body) => {
            const id = nextId++;
            replies.push(new Promise((resolve) => waiting.set(id, resolve)));
            return `{"type":"publish","id":${id},"topic":"${topic}",${body}}`;
          });
          socket.send(lines.join("\n"));
        }
        return Promise.all(replies);
      },
    };
  }
}
