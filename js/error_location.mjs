/**
 * Which node, step and attempt an error inside a loop belongs to. ComfyUI reports such an error at Loop Close, because
 * the copies of the body belong to it. Pure: knows nothing of the page.
 * The answer comes from ComfyUI's messages about running nodes: the pack's event of an attempt comes later, when the
 * attempt is written.
 */
import { PLACED_ID } from "./contract.mjs";

/** Finds step and attempt in the id of a node that a loop placed. */
const PLACED = new RegExp(PLACED_ID);

/** running: the nodes that run, as ComfyUI describes them; last: the display id of the node that started last. */
export function noProgress() {
  return { running: [], last: "" };
}

/** The progress after one message of ComfyUI. */
export function withMessage(progress, kind, detail) {
  if (kind === "execution_start") return noProgress();
  if (kind === "executing") return { ...progress, last: detail ? String(detail) : progress.last };
  if (kind === "progress_state") {
    return { ...progress, running: Object.values(detail?.nodes ?? {}).filter((node) => node?.state === "running") };
  }
  return progress;
}

/** One line for a person, or "" where the error did not happen inside a loop. */
export function describeError(progress, error, titleOf) {
  const inside = progress.running
    .filter((node) => [node.node_id, node.real_node_id].map(String).includes(String(error?.node_id)))
    .map((node) => ({ shown: String(node.display_node_id), match: PLACED.exec(node.node_id) }))
    .filter(({ match }) => match)
    .map(({ shown, match }) => ({ shown, step: Number(match[1]), attempt: Number(match[2]) }));
  // Nodes of earlier attempts wait for what they placed; in an attempt, one that waits started before.
  const late = (node) => (node.shown === progress.last ? 1 : 0);
  const found = inside.sort((a, b) => a.step - b.step || a.attempt - b.attempt || late(a) - late(b)).at(-1);
  if (!found) return "";
  return `Step ${found.step}, attempt ${found.attempt}: ${titleOf(found.shown)} (node ${found.shown}). ${firstLine(error?.exception_message)}`;
}

/** What of an error's message is shown: its first line, and the example that a line with a colon leads to. */
export function firstLine(text) {
  const [first, ...rest] = String(text ?? "").trim().split("\n").filter((line) => line.trim());
  const shown = first?.trimEnd().endsWith(":") ? [first, ...rest.slice(0, 6)] : [first ?? ""];
  return shown.map((line) => line.slice(0, 300)).join("\n").slice(0, 800);
}
