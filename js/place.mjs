/**
 * Where a run is, so that an error can say so: ComfyUI reports an error inside a loop at Loop Close,
 * because the copies of the body belong to it. Pure: knows nothing of the page.
 */

/** @returns {{node: string, step: number, attempt: number, loop: string}} */
export function nowhere() {
  return { node: "", step: 0, attempt: 0, loop: "" };
}

/** The place after one message of ComfyUI or of the pack. */
export function after(place, kind, detail) {
  if (kind === "execution_start") return nowhere();
  if (kind === "executing") return { ...place, node: detail ? String(detail) : place.node };
  if (kind === "interleave_thinker" && detail?.event === "done") return nowhere();
  if (kind === "interleave_thinker" && detail?.step) {
    return {
      ...place,
      step: detail.step,
      attempt: detail.attempt ?? place.attempt,
      loop: String(detail.node ?? place.loop),
    };
  }
  return place;
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
