// The work of a shared group: what is leased out, what waits to come again, and what has been done.

import { Notice, html } from "../lib/ui.js";
import * as format from "../lib/format.js";
import { leasedOf, waitingOf } from "../lib/groups.js";

const Figure = ({ id, label, value, title }) => html`
  <div title=${title}><dt>${label}</dt><dd id=${id}>${format.count(value)}</dd></div>`;

export function Leases({ group }) {
  const leased = leasedOf(group);
  const waiting = waitingOf(group);
  const untouched = Math.max(0, group.lag - leased - waiting);
  const free = group.members.reduce((sum, one) => sum + Math.max(0, one.credit - one.out), 0);
  return html`
    <${Notice} title="Work" className="picture work" aside=${html`<p class="legend"><span><b>${format.count(free)}</b> free credit</span></p>`}>
      <dl class="figures">
        <${Figure} id="leased" label="Leased out" value=${leased} title="With a member right now" />
        <${Figure} id="waiting" label="Waiting" value=${waiting} title="Come again later, or are held back behind their key" />
        <${Figure} id="untouched" label="Not begun" value=${untouched} title="Nobody has been handed them yet" />
      </dl>
      <${Heap} parts=${[["leased", leased], ["waiting", waiting], ["untouched", untouched]]} />
      <dl class="figures done">
        <${Figure} id="acked" label="Acked" value=${group.acked} title="Done, over the life of the group" />
        <${Figure} id="dead-lettered" label="Dead-lettered" value=${group.dead_lettered} title="Given up, over the life of the group" />
        <${Figure} id="redriven" label="Redriven" value=${group.redriven} title="Dead letters moved back, over the life of the group" />
      </dl>
      ${group.members.length === 0 && group.lag > 0 ? html`<p class="stage-note">Nobody is in the group to do the work.</p>` : null}
      ${group.members.length > 0 && free === 0 && untouched > 0 ? html`<p class="stage-note">Every member has as much as it takes at once. More members, or more credit, would begin more.</p>` : null}
    </${Notice}>`;
}

/** Unfinished records as one bar. */
function Heap({ parts }) {
  const total = parts.reduce((sum, [, value]) => sum + value, 0);
  const words = parts.map(([name, value]) => `${format.count(value)} ${name === "untouched" ? "not begun" : name === "leased" ? "leased out" : name}`).join(", ");
  return html`
    <div class=${`heap ${total === 0 ? "heap-empty" : ""}`} role="img" aria-label=${total === 0 ? "Nothing is unfinished" : words}>
      ${total === 0 ? html`<span>Nothing is unfinished.</span>`
        : parts.map(([name, value]) => (value === 0 ? null : html`<span key=${name} class=${`heap-${name}`} style=${{ flexGrow: String(value / total) }}></span>`))}
    </div>`;
}
