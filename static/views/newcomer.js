// What an empty broker says: three ways to the first record, the nearest of them one click away.

import { useState } from "../vendor/preact-hooks.js";
import { Notice, Snippet, Trouble, html, useSignal } from "../lib/ui.js";
import { refresh } from "../lib/topics.js";

/** How to speak to this broker from elsewhere, with its own address filled in: `{title, text}`. */
export function snippets() {
  const base = new URL(".", location.href.split("#")[0]).href;
  const socket = `${base.replace(/^http/, "ws")}ws`;
  // The command line finds the default address by itself.
  const server = socket === "ws://127.0.0.1:8080/ws" ? "" : ` --server ${socket}`;
  return [
    {
      title: "In a browser console",
      text: `const ws = new WebSocket("${socket}");
ws.onmessage = (e) => console.log(e.data);
ws.onopen = () => {
  ws.send('{"type":"subscribe","id":1,"topic":"hello"}');
  ws.send('{"type":"publish","id":2,"topic":"hello","payload":"Hi!"}');
};`,
    },
    {
      title: "In a terminal",
      text: `callboard sub --topic hello${server} &
callboard pub --topic hello${server} '"Hi!"'

curl ${base}api/v1/topics/hello/messages \\
  -H 'content-type: application/json' \\
  -d '{"key":"me","payload":"Hi!"}'`,
    },
  ];
}

export function Newcomer({ connection, go, onCreate }) {
  const { phase } = useSignal(connection.state);
  const [error, setError] = useState(null);
  const publish = async () => {
    setError(null);
    try {
      await connection.request({ type: "publish", topic: "hello", key: "me", payload: { says: "Hello, Callboard!", from: "this page" } });
      refresh();
      go("#/topics/hello");
    } catch (refusal) {
      setError(refusal);
    }
  };
  return html`
    <div class="board-head newcomer-head">
      <h1>Nothing is pinned here yet</h1>
      <p class="on-board-text">This broker is running and has no topics. A topic is a named log of records: whoever publishes adds to
        its end, and whoever subscribes sees each record, live or later.</p>
    </div>
    <div class="columns newcomer">
      <${Notice} title="From this page" className="first">
        <p>One click publishes a record to a topic named <code>hello</code>. A topic that does not exist yet is made by its first record.</p>
        <${Trouble} error=${error} />
        <p class="actions">
          <button type="button" class="primary large" disabled=${phase !== "open"} onClick=${publish}>Publish the first record</button>
        </p>
        <p class="aside">or <button type="button" class="link-like" onClick=${onCreate}>create a topic yourself</button>, with as many partitions
          as you like.</p>
      </${Notice}>
      ${snippets().map(({ title, text }) => html`
        <${Notice} title=${title} aside=${null}><${Snippet} title=${title.startsWith("In a browser") ? "Plain WebSocket, plain JSON" : "Command line, or HTTP"} text=${text} /></${Notice}>`)}
    </div>`;
}
