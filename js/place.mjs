/**
 * Where a run is, so that an error can say so: ComfyUI reports an error inside a loop at Loop Close,
 * because the copies of the body belong to it. Pure: knows nothing of the page.
 * Read from what ComfyUI says of running nodes; the pack's events of an attempt come later, when it is written.
 */

/** In the id of a node that a loop placed: step and attempt (nodes/live.py). */
const PLACED = /\.s(\d+)[ajc](\d+)\./;

/** running: what ComfyUI says of nodes that run; last: what the one that started last is shown as. */
export function nowhere() {
  return { running: [], last: "" };
}

/** The place after one message of ComfyUI. */
export function after(place, kind, detail) {
  if (kind === "execution_start") return nowhere();
  if (kind === "executing") return { ...place, last: detail ? String(detail) : place.last };
  if (kind === "progress_state") {
    return { ...place, running: Object.values(detail?.nodes ?? {}).filter((node) => node?.state === "running") };
  }
  return place;
}

/** One line for a person, or "" where the error did not happen inside a loop. */
export function describe(place, error, titleOf) {
  const inside = place.running
    .filter((node) => String(node.real_node_id) === String(error?.node_id))
    .map((node) => ({ shown: String(node.display_node_id), placed: PLACED.exec(node.node_id) }))
    .filter(({ placed }) => placed)
    .map(({ shown, placed }) => ({ shown, step: Number(placed[1]), attempt: Number(placed[2]) }));
  // Nodes of earlier attempts wait for what they placed; in an attempt, one that waits started before.
  const late = (node) => (node.shown === place.last ? 1 : 0);
  const found = inside.sort((a, b) => a.step - b.step || a.attempt - b.attempt || late(a) - late(b)).at(-1);
  if (!found) return "";
  return `Step ${found.step}, attempt ${found.attempt}: ${titleOf(found.shown)} (node ${found.shown}). ${firstLine(error?.exception_message)}`;
}

function firstLine(text) {
  return String(text ?? "").trim().split("\n")[0].slice(0, 300);
}
