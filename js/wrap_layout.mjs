/** Where the new nodes of a wrap stand, and what says what they are for: frames, a note, a mark on the old prompt box. */

import { NODE_IDS } from "./contract.mjs";
import { nodeById } from "./graph.mjs";

const GAP = 60;
const TITLE = 30;
const PADDING = 20;
const ROOM = 1.35; // Nodes 2.0 draws widgets higher than the canvas
const MARK = "Interleave Loop → ";
export const NEXT = "Write in the Planner what the story shall be, then Run.";
const NOTE = "MarkdownNote";
const NOTE_SIZE = [420, 330];
const VIEW = [1280, 720]; // at least this much is shown, or a small loop would fill the screen

/** What a node of each kind does, for the note. */
const DOES = {
  [NODE_IDS.agent_from_clip]: "the language model that plans and judges",
  [NODE_IDS.load_agent]: "the language model that plans or judges",
  [NODE_IDS.agent_from_server]: "the language model that plans or judges",
  [NODE_IDS.planner]: "makes a plan of steps from your request",
  [NODE_IDS.loop_open]: "gives each step's prompt, picture and seed to your graph",
  [NODE_IDS.critic_refine]: "looks at each picture, accepts it or writes a better prompt",
  [NODE_IDS.loop_close]: "tries again, or goes on to the next step",
  [NODE_IDS.save_document]: "writes pictures and texts as one document",
};

/** Columns of new nodes left and right of what is there, framed, and a note beside the Planner. */
export function layOut(scope, { left, right }, layout, make, makeGroup) {
  const nodes = [...left, ...right].flat();
  const old = oldBounds(scope, nodes);
  const note = addNote(scope, nodes, layout, make);
  const columns = note ? [[note], ...left] : left;
  let x = old.left - 2 * GAP;
  for (const column of [...columns].reverse()) {
    x -= Math.max(...column.map((node) => node.size[0]));
    stack(column, x, old.top);
    x -= GAP;
  }
  x = old.right + 2 * GAP;
  for (const column of right) {
    stack(column, x, old.top);
    x += Math.max(...column.map((node) => node.size[0])) + GAP;
  }
  frame(scope, columns.flat(), "Interleave: plan", layout, makeGroup);
  frame(scope, right.flat(), "Interleave: judge and document", layout, makeGroup);
}

/** Left, right and top of nodes, groups and a subgraph's own sockets. */
function oldBounds(scope, added) {
  const old = scope.nodes.filter((node) => !added.includes(node));
  const boxes = [...old, ...(scope.groups ?? []), scope.inputNode, scope.outputNode].filter((box) => box?.pos && box.size);
  const edge = (pick, by) => Math.round(pick(...boxes.map(by)));
  return { left: edge(Math.min, (box) => box.pos[0]), right: edge(Math.max, (box) => box.pos[0] + box.size[0]), top: Math.round(Math.min(...old.map((node) => node.pos[1]))) };
}

function stack(nodes, x, top) {
  let y = top;
  for (const node of nodes) {
    node.pos = [x, y];
    y += Math.round(heightOf(node)) + GAP;
  }
}

function addNote(scope, nodes, layout, make) {
  const note = make(NOTE);
  const widget = note?.widgets?.[0];
  if (!widget) return null;
  note.title = "What the loop's nodes do";
  scope.add(note);
  note.size = NOTE_SIZE;
  const lines = nodes.filter((node) => DOES[node.type]).map((node) => `- **${node.title}**: ${DOES[node.type]}`);
  widget.value = [`**Next:** ${NEXT} The sidebar tab *Interleave* shows each try.`, [...new Set(lines)].join("\n"), "*Unwrap Interleave Loop*, in the canvas's menu, takes all of this off."].join("\n\n");
  layout.note = { id: note.id, type: note.type, text: widget.value };
  return note;
}

function frame(scope, nodes, title, layout, makeGroup) {
  const group = makeGroup?.(title);
  if (!group) return;
  scope.add(group);
  const { left, top, right, bottom } = boundsOf(nodes);
  group.pos = [left - PADDING, top - 2 * TITLE - PADDING]; // below the frame's title is that of the uppermost node
  group.size = [right - left + 2 * PADDING, bottom - top + 2 * TITLE + 2 * PADDING + GAP]; // and some nodes grow
  layout.groups.push({ id: group.id, title });
}

/** Where nodes will end, as near as one knows before they are drawn. */
function boundsOf(nodes) {
  const edge = (pick, by) => Math.round(pick(...nodes.map(by)));
  return {
    left: edge(Math.min, (node) => node.pos[0]),
    top: edge(Math.min, (node) => node.pos[1]),
    right: edge(Math.max, (node) => node.pos[0] + node.size[0]),
    bottom: edge(Math.max, (node) => node.pos[1] + heightOf(node)),
  };
}

function heightOf(node) {
  return node.size[1] * (node.type === NOTE ? 1 : ROOM);
}

/** Say on the boxes of the old prompt that the loop feeds them: on the node at each path, and on the subgraph that it lies in. */
export function markFed(scope, paths, layout) {
  const ids = new Set(paths.flatMap((path) => [path[0], path.join(":")]));
  for (const id of ids) {
    const node = nodeById(scope, id);
    layout.titles.push({ id, title: node.title });
    node.title = `${MARK}${node.title || node.type}`;
  }
}

/** Take frames, note and marks away; what a person has changed of them since stays. */
export function clearLayout(scope, { note, groups, titles }) {
  const added = note ? scope.getNodeById(note.id) : null;
  if (added && added.type === note.type && added.widgets[0]?.value === note.text) scope.remove(added);
  for (const { id, title } of groups) {
    const group = scope.groups?.find((one) => one.id === id && one.title === title);
    if (group) scope.remove(group);
  }
  for (const { id, title } of titles) {
    const node = nodeById(scope, id);
    if (node?.title === `${MARK}${title || node.type}`) node.title = title;
  }
}

/** Bring nodes into view. */
export function lookAt(canvas, nodes) {
  const { left, top, right, bottom } = boundsOf(nodes);
  const [width, height] = [Math.max(right - left, VIEW[0]), Math.max(bottom - top + TITLE, VIEW[1])];
  if (canvas?.animateToBounds) canvas.animateToBounds([(left + right - width) / 2, (top - TITLE + bottom - height) / 2, width, height], { zoom: 0.8 });
  else canvas?.centerOnNode?.(nodes[0]);
}
