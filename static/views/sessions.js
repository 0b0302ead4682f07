// Who is connected, as on the sign-in sheet at the stage door.

import { useState } from "../vendor/preact-hooks.js";
import { Dialog, Notice, Trouble, html, say, useSignal } from "../lib/ui.js";
import * as api from "../lib/api.js";
import * as format from "../lib/format.js";
import { usePolled } from "../lib/poll.js";
import { topicHash } from "../lib/place.js";
import { clientOf } from "../lib/sessions.js";

const POLL_MS = 2000;

export function Sessions({ connection }) {
  const opened = useSignal(connection.opened);
  const { value: list, error, askAgain } = usePolled(api.listSessions, opened, POLL_MS);
  const mine = useSignal(connection.state).welcome?.session ?? null;
  const [doomed, setDoomed] = useState(null);
  const end = async () => {
    try {
      await api.endSession(doomed.id);
      say("Disconnected.");
    } catch (problem) {
      say(problem.message, "bad");
    }
    setDoomed(null);
    askAgain();
  };
  const waiting = error ? null : html`<p class="nothing">Reading the sheet…</p>`;
  return html`
    <div class="board-head">
      <h1>Sessions</h1>
      <p class="sums">${list ? html`<span><b>${format.count(list.length)}</b> connected</span>` : null}</p>
    </div>
    <${Notice} title="Signed in" className="flush">
      <${Trouble} error=${error} />
      ${list === null ? waiting : html`<${Sheet} list=${list} mine=${mine} onEnd=${setDoomed} />`}
    </${Notice}>
    <${Dialog} isOpen=${doomed !== null} onClose=${() => setDoomed(null)} title="Disconnect this session?">
      <p>${doomed?.id === mine ? "This is the page you are looking at; it will connect again." : "Its client is told with close code 1008, and may connect again."}</p>
      <p class="actions">
        <button type="button" class="danger" onClick=${end}>Disconnect</button>
        <button type="button" class="quiet" onClick=${() => setDoomed(null)}>Leave it</button>
      </p>
    </${Dialog}>`;
}

const optional = (value, show) => (value === undefined || value === null ? "–" : show(value));

const FOLLOWS_SHOWN = 4;

function Follows({ session }) {
  const names = session.subscriptions;
  if (!Array.isArray(names)) return optional(names, format.count);
  if (names.length === 0) return html`<span class="faint">nothing</span>`;
  const links = names.slice(0, FOLLOWS_SHOWN).map((name) => (/[*#]/.test(name) ? html`<code>${name}</code> ` : html`<a href=${topicHash(name)}>${name}</a> `));
  return html`${links}${names.length > FOLLOWS_SHOWN ? html`<span class="faint">and ${names.length - FOLLOWS_SHOWN} more</span>` : null}
    ${session.behind > 0 ? html` <span class="tag" title="Reads on from the log because its socket is slower than the records come">behind in ${format.plural(session.behind, "partition")}</span>` : null}`;
}

/** RFC 3339 or milliseconds since the epoch. */
const timeOf = (value) => (typeof value === "number" ? value : Date.parse(value));

function Sheet({ list, mine, onEnd }) {
  return html`
    <table class="sessions">
      <thead><tr>
        <th scope="col">Session</th><th scope="col">From</th><th scope="col">Since</th><th scope="col">Follows</th>
        <th scope="col" class="number" title="Waits for its socket">Buffered</th><th scope="col" class="number" title="Frames that came from it">Frames in</th>
        <th scope="col" class="number" title="Bytes sent to it">Out</th>
        <th scope="col"><span class="unseen">Disconnect</span></th>
      </tr></thead>
      <tbody>${list.map((session) => html`
        <tr key=${session.id} class=${session.id === mine ? "mine" : ""}>
          <th scope="row"><code class="id">${session.id}</code>
            ${session.id === mine ? html` <span class="tag">this page</span>` : null}
            <span class="client" title=${session.client}>${clientOf(session.client)}</span></th>
          <td data-label="From"><code>${session.remote ?? "–"}</code></td>
          <td data-label="Since">${optional(session.connected_at, (at) => html`<span title=${format.moment(timeOf(at))}>${format.ago(timeOf(at))}</span>`)}</td>
          <td data-label="Follows"><${Follows} session=${session} /></td>
          <td data-label="Buffered" class="number">${optional(session.buffered_bytes, format.bytes)}</td>
          <td data-label="Frames in" class="number">${optional(session.received, format.count)}</td>
          <td data-label="Out" class="number">${optional(session.sent_bytes, format.bytes)}</td>
          <td class="row-end"><button type="button" class="quiet small" aria-label=${`Disconnect ${session.id}`} onClick=${() => onEnd(session)}>Disconnect</button></td>
        </tr>`)}
      </tbody>
    </table>`;
}
