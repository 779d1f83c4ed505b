/**
 * Where a run is, so that an error can say so: ComfyUI reports an error inside a loop at Loop Close,
 * because the copies of the body belong to it. Pure: knows nothing of the page.
 * Read from what ComfyUI says of nodes as they start; the pack's events of an attempt come later, when it is written.
 */

/** In the id of a node that a loop placed: step and attempt (nodes/live.py). */
const PLACED = /\.s(\d+)[ajc](\d+)\./;

/** @returns {{node: string, step: number, attempt: number, loop: string}} */
export function nowhere() {
  return { node: "", step: 0, attempt: 0, loop: "" };
}

/** The place after one message of ComfyUI. */
export function after(place, kind, detail) {
  if (kind === "execution_start") return nowhere();
  if (kind === "executing") return { ...place, node: detail ? String(detail) : place.node };
  if (kind === "progress_state") return { ...nowhere(), node: place.node, ...latest(detail?.nodes) };
  return place;
}

/** Of the nodes that run, the one of the latest attempt: those of earlier ones wait for what they placed. */
function latest(nodes) {
  return Object.values(nodes ?? {})
    .filter((node) => node?.state === "running" && PLACED.test(node.node_id))
    .map((node) => {
      const [, step, attempt] = PLACED.exec(node.node_id).map(Number);
      return { step, attempt, loop: String(node.real_node_id) };
    })
    .sort((a, b) => a.step - b.step || a.attempt - b.attempt)
    .at(-1);
}

/** One line for a person, or "" where the error did not happen inside a loop. */
export function describe(place, error, titleOf) {
  if (!place.step || String(error?.node_id) !== place.loop) return "";
  const node = place.node || place.loop;
  return `Step ${place.step}, attempt ${place.attempt}: ${titleOf(node)} (node ${node}). ${firstLine(error?.exception_message)}`;
}

function firstLine(text) {
  return String(text ?? "").trim().split("\n")[0].slice(0, 300);
}
