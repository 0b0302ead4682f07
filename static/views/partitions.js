// A topic's partitions: where each begins and ends, how fast it grows, what it weighs.

import { Notice, Rate, html } from "../lib/ui.js";
import * as format from "../lib/format.js";

export function Partitions({ topic }) {
  const most = Math.max(1, ...topic.partitions.map((one) => one.next_offset - one.first_offset));
  return html`
    <${Notice} title="Partitions" className="flush">
      <div class="scroll-x" tabindex="0" role="group" aria-label="Partitions">
      <table class="partitions">
        <thead><tr>
          <th scope="col">No.</th><th scope="col" class="share">Kept</th><th scope="col" class="number">First offset</th><th scope="col" class="number">Next offset</th>
          <th scope="col" class="number">In</th><th scope="col" class="number">Size</th>
        </tr></thead>
        <tbody>${topic.partitions.map((one) => html`
          <tr key=${one.partition}>
            <th scope="row">p${one.partition}</th>
            <td class="share"><meter min="0" max=${most} value=${one.next_offset - one.first_offset} aria-label=${`Records kept in partition ${one.partition}`}></meter></td>
            <td class="number">${format.count(one.first_offset)}</td>
            <td class="number">${format.count(one.next_offset)}</td>
            <td class="number"><${Rate} value=${topic.measured.partitions.get(one.partition) ?? null} /></td>
            <td class="number">${format.bytes(one.bytes)}</td>
          </tr>`)}
        </tbody>
      </table>
      </div>
    </${Notice}>`;
}
