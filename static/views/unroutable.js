// The last publishes that nothing matched, with who sent them: most often a key that is spelt otherwise than somebody thinks.

import { Notice, html, useTick } from "../lib/ui.js";
import * as format from "../lib/format.js";
import { routingHash } from "../lib/place.js";
import { clientOf, shortSession } from "../lib/sessions.js";

const ROWS_MAX = 100;

export function Unroutable({ list }) {
  useTick(5000);
  return html`
    <${Notice} title="Unroutable lately" id="unroutable" className="flush">
      ${list.length === 0 ? html`<p class="nothing">Every publish has found its way.</p>` : html`
        <table class="unroutable">
          <thead><tr>
            <th scope="col">When</th><th scope="col">Exchange</th><th scope="col">Routing key</th><th scope="col" class="number">Records</th><th scope="col">Sender</th>
          </tr></thead>
          <tbody>${list.slice(0, ROWS_MAX).map((one, at) => html`<${Row} key=${`${one.at} ${at}`} one=${one} />`)}</tbody>
        </table>`}
    </${Notice}>`;
}

function Row({ one }) {
  const at = Date.parse(one.at);
  return html`
    <tr>
      <td data-label="When" class="when" title=${format.moment(at)}>${format.ago(at)}</td>
      <td data-label="Exchange"><a href=${routingHash(one.exchange)}>${one.exchange}</a></td>
      <td data-label="Routing key">${one.routing_key === "" ? html`<span class="faint">empty</span>` : html`<code>${one.routing_key}</code>`}</td>
      <td data-label="Records" class="number">${format.count(one.count)}</td>
      <td data-label="Sender" class="sender">${clientOf(one.client)} <code class="faint">${one.remote ?? ""}</code>
        ${one.session ? html` <code class="id faint" title=${one.session}>${shortSession(one.session)}</code>` : html` <span class="faint">by HTTP</span>`}</td>
    </tr>`;
}
