import { test } from "node:test";
import assert from "node:assert/strict";
import { RECORD, WrapError, unwrap, wrap } from "../../js/wrap.mjs";
import { PACKAGED_CLIP } from "../../js/contract.mjs";
import { addNode, addReroute, addSubgraph, connect, createGroup, createNode, newGraph, promptOf, saved } from "./litegraph.mjs";
import { PLACES, SHAPES, TEXT, exposed, inSubgraph, withSubgraph } from "./wrap_shapes.mjs";

const AGENTS = { planner: { kind: "clip", name: "qwen.safetensors" }, critic: null };
function wrapped(shape, agents = AGENTS, make = createNode) {
  const parts = SHAPES[shape]();
  const open = wrap(parts.root, parts.scope, promptOf(parts.root), parts.places, agents, make, createGroup);
  return { ...parts, open };
}

const ours = (scope, kind) => scope.nodes.find((node) => node.type === `InterleaveThinker${kind}`);

/** {"4 text": 1}: which outputs of Loop Open go into nodes that are not the loop's own. */
function fedBy(scope, open) {
  const links = [...scope.links.values()].filter((link) => link.origin_id === open.id).map((link) => [scope.getNodeById(link.target_id), link]);
  const outside = links.filter(([node]) => !node.type.startsWith("InterleaveThinker"));
  return Object.fromEntries(outside.map(([node, link]) => [`${node.id} ${node.inputs[link.target_slot].name}`, link.origin_slot]));
}

for (const shape of Object.keys(SHAPES)) {
  test(`${shape}: the body reads prompt, image and seed from Loop Open, and nothing else of it changes`, () => {
    const { scope, open, from } = wrapped(shape);
    assert.deepEqual(fedBy(scope, open), from);
  });

  test(`${shape}: unwrapping gives back nodes, widgets, links and properties as they were`, () => {
    const before = SHAPES[shape]();
    const { root, scope, open } = wrapped(shape);
    assert.notDeepEqual(saved(root), saved(before.root));
    open.properties = JSON.parse(JSON.stringify(open.properties)); // as a saved workflow has it
    unwrap(scope);
    assert.deepEqual(saved(root), saved(before.root));
    assert.deepEqual(promptOf(root), promptOf(before.root));
  });

  test(`${shape}: a wrap that fails takes everything back, wherever it fails`, () => {
    const before = SHAPES[shape]();
    const kinds = ["AgentFromCLIP", "Planner", "LoopOpen", "CriticRefine", "LoopClose", "SaveDocument"].map((name) => `InterleaveThinker${name}`);
    for (const missing of ["CLIPLoader", ...kinds]) {
      const { root, scope, places } = SHAPES[shape]();
      const make = (type) => (type === missing ? null : createNode(type));
      assert.throws(() => wrap(root, scope, promptOf(root), places, AGENTS, make, createGroup), new WrapError(`This ComfyUI has no node ${missing}. Update ComfyUI or the pack.`));
      assert.deepEqual(saved(root), saved(before.root), `without ${missing}`);
    }
  });

  test(`${shape}: a socket that does not take the loop's link leaves nothing behind`, () => {
    const before = SHAPES[shape]();
    for (const target of Object.keys(before.from)) {
      const { root, scope, places } = SHAPES[shape]();
      const node = scope.getNodeById(target.split(" ")[0]);
      const prompt = promptOf(root);
      node.refuses = true;
      assert.throws(() => wrap(root, scope, prompt, places, AGENTS, createNode, createGroup), /does not take what the loop gives/);
      assert.deepEqual(saved(root), saved(before.root), target);
    }
  });
}

test("the new nodes are connected to each other: agent, plan, critic, close, document", () => {
  const { scope } = wrapped("an edit of the user's image, which two nodes read");
  const into = (kind, input) => {
    const node = ours(scope, kind);
    const link = node.getInputLink(node.inputs.findIndex((one) => one.name === input));
    return [scope.getNodeById(link.origin_id).type, link.origin_slot];
  };
  assert.deepEqual(into("Planner", "agent"), ["InterleaveThinkerAgentFromCLIP", 0]);
  assert.deepEqual(into("CriticRefine", "agent"), ["InterleaveThinkerAgentFromCLIP", 0], "one agent for both, where none is named for the critic");
  assert.deepEqual(into("LoopOpen", "plan"), ["InterleaveThinkerPlanner", 0]);
  assert.deepEqual(["Planner", "LoopOpen"].map((kind) => into(kind, "images.image_0")), [["LoadImage", 0], ["LoadImage", 0]]);
  assert.deepEqual(["before", "instruction", "prompt"].map((input) => into("CriticRefine", input)), [2, 4, 1].map((slot) => ["InterleaveThinkerLoopOpen", slot]));
  assert.deepEqual([into("CriticRefine", "after"), into("LoopClose", "image")], [["VAEDecode", 0], ["VAEDecode", 0]]);
  assert.deepEqual([into("LoopClose", "loop"), into("LoopClose", "judgment")], [["InterleaveThinkerLoopOpen", 0], ["InterleaveThinkerCriticRefine", 0]]);
  assert.deepEqual(into("SaveDocument", "document"), ["InterleaveThinkerLoopClose", 0]);
});

test("without an image to edit there is none to compare with", () => {
  const { scope } = wrapped("an image from a text");
  const critic = ours(scope, "CriticRefine");
  assert.equal(critic.getInputLink(critic.inputs.findIndex((input) => input.name === "before")), null);
});

test("the prompt becomes the request, the seed goes on, and each node names its pack", () => {
  const { scope, open } = wrapped("an image from a text");
  const values = (node) => Object.fromEntries(node.widgets.map(({ name, value }) => [name, value]));
  assert.deepEqual(values(ours(scope, "Planner")), { request: TEXT, max_steps: 20, seed: 11 });
  assert.equal(values(open).seed, 11);
  const packs = scope.nodes.filter((node) => node.type.startsWith("InterleaveThinker")).map((node) => node.properties.cnr_id);
  assert.deepEqual(new Set(packs), new Set(["interleave-thinker"]));
  assert.equal(scope.nodes.find((node) => node.type === "CLIPLoader").properties.cnr_id, undefined);
});

test("planner and critic can have agents of their own, of each kind", () => {
  const { scope } = wrapped("an image from a text", { planner: { kind: "folder", name: "planner-8b" }, critic: { kind: "server", name: "local" } });
  const agentOf = (kind) => scope.getNodeById(ours(scope, kind).getInputLink(0).origin_id);
  assert.deepEqual([agentOf("Planner").type, agentOf("Planner").widgets[0].value], ["InterleaveThinkerLoadAgent", "planner-8b"]);
  assert.deepEqual([agentOf("CriticRefine").type, agentOf("CriticRefine").widgets[0].value], ["InterleaveThinkerAgentFromServer", "local"]);
  unwrap(scope);
  assert.deepEqual(saved(scope), saved(SHAPES["an image from a text"]().root));
});

test("new nodes stand left and right of the graph, none upon another", () => {
  const { scope } = wrapped("an image from a text");
  const added = scope.nodes.filter((node) => node.type.startsWith("InterleaveThinker") || node.type === "CLIPLoader");
  const spots = added.map((node) => node.pos.join());
  assert.equal(new Set(spots).size, added.length);
  assert.ok(added.every(({ pos: [x] }) => x <= -200 || x >= 200), spots.join("  "));
});

test("frames and a note stand with the new nodes, and the old prompt box says that the loop feeds it", () => {
  const { scope, open } = wrapped("around a subgraph node that hides text and seed");
  assert.deepEqual(scope.groups.map(({ title }) => title), ["Interleave: plan", "Interleave: judge and document"]);
  const holds = ({ pos, size }) => scope.nodes.filter((node) => [0, 1].every((at) => node.pos[at] > pos[at] && node.pos[at] + node.size[at] < pos[at] + size[at])).map((node) => node.type.replace("InterleaveThinker", ""));
  assert.deepEqual(scope.groups.map(holds).map((types) => types.sort()), [["AgentFromCLIP", "CLIPLoader", "LoopOpen", "MarkdownNote", "Planner"], ["CriticRefine", "LoopClose", "SaveDocument"]]);
  const note = scope.nodes.find((node) => node.type === "MarkdownNote");
  for (const words of ["Write in the Planner", "**InterleaveThinkerCriticRefine**: ", "Unwrap"]) assert.ok(note.widgets[0].value.includes(words), note.widgets[0].value);
  const titles = [scope.getNodeById(30), scope.getNodeById(30).subgraph.getNodeById(4), scope.getNodeById(30).subgraph.getNodeById(7)].map((node) => node.title);
  assert.deepEqual(titles, ["Interleave Loop → Draw", "Interleave Loop → CLIPTextEncode", ""]);
  assert.equal(open.properties[RECORD].layout.note.id, note.id);
});

test("a note, frame or title that a person changed since is theirs, and stays", () => {
  const { scope } = wrapped("an image from a text");
  scope.nodes.find((node) => node.type === "MarkdownNote").widgets[0].value = "my own words";
  scope.groups[1].title = "My frame";
  scope.getNodeById(4).title = "My prompt";
  unwrap(scope);
  assert.deepEqual(scope.nodes.map(({ type }) => type), ["CLIPTextEncode", "KSampler", "VAEDecode", "SaveImage", "MarkdownNote"]);
  assert.deepEqual([scope.groups.map(({ title }) => title), scope.getNodeById(4).title], [["My frame"], "My prompt"]);
});

test("an editor without frames or notes is wrapped all the same", () => {
  const { root, scope, places } = SHAPES["an image from a text"]();
  wrap(root, scope, promptOf(root), places, AGENTS, (type) => (type === "MarkdownNote" ? null : createNode(type)));
  assert.deepEqual(scope.groups, []);
  unwrap(scope);
  assert.deepEqual(saved(root), saved(SHAPES["an image from a text"]().root));
});

test("the packaged text encoder says where it can be downloaded; a file of the user's does not", () => {
  const models = (name) => wrapped("an image from a text", { planner: { kind: "clip", name }, critic: null }).scope.nodes.find((node) => node.type === "CLIPLoader").properties.models;
  const [{ name, url, directory }] = models(PACKAGED_CLIP);
  assert.deepEqual([name, directory], [PACKAGED_CLIP, "text_encoders"]);
  assert.ok(url.startsWith("https://huggingface.co/") && url.endsWith(`/${PACKAGED_CLIP}`), url);
  assert.equal(models("mine.safetensors"), undefined);
});

test("the record in Loop Open's properties says what was added and what was there: saved workflows hold it", () => {
  const { open, scope, places } = wrapped("text and seed from primitive nodes");
  const record = open.properties[RECORD];
  assert.equal(RECORD, "interleave_wrap");
  assert.deepEqual(record.added.map(({ id, type }) => scope.getNodeById(id).type === type), Array(7).fill(true));
  const rest = { fed: record.fed, exposed: record.exposed, chosen: record.chosen, request: record.request, open: record.open };
  assert.deepEqual(rest, {
    fed: [
      { node: 4, type: "CLIPTextEncode", input: "text", from: [20, 0], value: TEXT },
      { node: 7, type: "KSampler", input: "seed", from: [21, 0], value: 11 },
    ],
    exposed: [],
    chosen: places,
    request: TEXT,
    open: open.id,
  });
  const hidden = wrapped("around a subgraph node that hides text and seed").open.properties[RECORD];
  assert.deepEqual(hidden.exposed, [{ path: ["30"], name: "text" }, { path: ["30"], name: "seed" }]);
});

test("a request that was changed since is kept as the prompt; nothing else is touched by it", () => {
  for (const shape of ["an image from a text", "text and seed from primitive nodes", "a primitive node that feeds two texts", "around a subgraph node that hides text and seed", "one text in two encoders"]) {
    const { root, scope, places } = wrapped(shape);
    ours(scope, "Planner").widgets.find((widget) => widget.name === "request").value = "a blue disc";
    unwrap(scope);
    const { prompt, also } = places;
    const now = promptOf(root);
    assert.deepEqual([prompt, ...also].map(([id, input]) => now[id].inputs[input]), [prompt, ...also].map(() => "a blue disc"), shape);
    const [id, input] = places.seeds[0];
    assert.equal(now[id].inputs[input], 11);
  }
});

test("a value that changed behind the loop's link comes back as it was written down", () => {
  for (const shape of ["an image from a text", "text and seed from primitive nodes"]) {
    const { root, scope } = wrapped(shape);
    scope.getNodeById(7).widgets.find((widget) => widget.name === "seed").value = 99; // as "control after generate" does
    unwrap(scope);
    assert.equal(promptOf(root)[7].inputs.seed, 11, shape);
    assert.deepEqual(saved(root), saved(SHAPES[shape]().root));
  }
});

test("what a person connected since the wrap stays connected", () => {
  const { scope, open } = wrapped("an image from a text");
  const encoder = scope.getNodeById(4);
  const own = addNode(scope, 50, "Text", { widgets: { text: "mine" }, outputs: { STRING: "STRING" } });
  connect(own, "STRING", encoder, "text");
  const reader = addNode(scope, 51, "Reader", { inputs: { plan: "PLAN" } });
  connect(ours(scope, "Planner"), "PLAN", reader, "plan");
  unwrap(scope);
  assert.equal(encoder.getInputLink(0).origin_id, 50);
  assert.ok(ours(scope, "Planner"), "a node of ours that another node reads is not taken away");
  assert.equal(scope.getNodeById(open.id), null);
});

test("a reroute that a person put into the loop's link does not keep the loop", () => {
  const { root, scope, open } = wrapped("an image from a text");
  const reroute = addReroute(scope, 60, "STRING");
  connect(open, "PROMPT", reroute, "");
  connect(reroute, "", scope.getNodeById(4), "text");
  assert.deepEqual(unwrap(scope), { left: [], passed: 0, kept: true });
  scope.remove(reroute);
  assert.deepEqual(saved(root), saved(SHAPES["an image from a text"]().root));
});

test("a node that was put into a subgraph since, and so reads the loop by another, is named; nothing changes", () => {
  const { root, scope, open } = wrapped("an image from a text");
  scope.remove(scope.getNodeById(4));
  const holder = addSubgraph(scope, 70, "New Subgraph");
  exposed(holder, addNode(holder.subgraph, 4, "CLIPTextEncode", { widgets: { text: TEXT } }), "text");
  connect(open, "PROMPT", holder, "text");
  const before = saved(root);
  assert.throws(() => unwrap(scope), /New Subgraph \(node 70\)\. Undo what you changed/);
  assert.deepEqual(saved(root), before);
});

test("a socket that Wrap made in a subgraph stays where a person connected it to something else since", () => {
  const { root, scope } = wrapped("around a subgraph node that hides text and seed");
  const own = addNode(scope, 50, "Text", { widgets: { text: "mine" }, outputs: { STRING: "STRING" } });
  connect(own, "STRING", scope.getNodeById(30), "text");
  assert.equal(unwrap(scope).passed, 1);
  assert.deepEqual(promptOf(root)["30:4"].inputs.text, ["50", 0]);
  assert.deepEqual(scope.getNodeById(30).inputs.map(({ name }) => name), ["text"]);
});

test("unwrapping from another graph says where the loop is", () => {
  const inside = wrapped("inside a subgraph whose own inputs bring text and seed");
  inside.scope.name = "Draw";
  assert.throws(() => unwrap(inside.root), /It is in the subgraph "Draw": open that/);
  const { root } = wrapped("around a subgraph node that hides text and seed");
  const { subgraph } = root.getNodeById(30);
  subgraph.rootGraph = root;
  assert.throws(() => unwrap(subgraph), /It is outside this subgraph: go up/);
});

test("a node that a person deleted or replaced since is passed over", () => {
  const { scope } = wrapped("an image from a text");
  scope.remove(scope.getNodeById(4));
  addNode(scope, 4, "Another", { widgets: { text: "kept" } });
  scope.remove(ours(scope, "SaveDocument"));
  unwrap(scope);
  assert.equal(scope.getNodeById(4).widgets[0].value, "kept");
  assert.ok(!scope.nodes.some((node) => node.type.startsWith("InterleaveThinker")));
});

test("a node of another type that took a number and reads the loop by itself is left alone", () => {
  const { scope, open } = wrapped("an image from a text");
  scope.remove(scope.getNodeById(4));
  const other = addNode(scope, 4, "Another", { widgets: { text: "kept" } });
  connect(open, "PROMPT", other, "text");
  unwrap(scope);
  assert.deepEqual([other.widgets[0].value, other.getInputLink(0)?.origin_id], ["kept", open.id]);
});

test("a loop that was copied or made by hand is not unwrapped: its record is of other nodes", () => {
  const { open } = wrapped("an image from a text");
  const copy = SHAPES["an image from a text"]().root; // it has nodes with the ids that the record names
  addNode(copy, 77, "InterleaveThinkerLoopOpen").properties = structuredClone(open.properties);
  const before = saved(copy);
  assert.throws(() => unwrap(copy), /This loop is a copy/);
  assert.deepEqual(saved(copy), before);
  const hand = newGraph();
  addNode(hand, 1, "InterleaveThinkerLoopOpen");
  assert.throws(() => unwrap(hand), /was not made by Wrap/);
  assert.throws(() => unwrap(newGraph()), /There is no loop in this graph/);
});

test("what cannot be wrapped is refused with a reason, and changes nothing", () => {
  const refused = (parts, places, reason) => {
    const before = saved(parts.root);
    const act = () => wrap(parts.root, parts.scope, promptOf(parts.root), places, AGENTS, createNode, createGroup);
    assert.throws(act, (error) => error instanceof WrapError && reason.test(error.message), String(reason));
    assert.deepEqual(saved(parts.root), before, String(reason));
  };
  refused(wrapped("an image from a text"), PLACES, /has a loop already/);
  const plain = SHAPES["an image from a text"];
  refused({ ...plain(), scope: newGraph() }, PLACES, /is not part of this workflow/);
  const { root, holder } = withSubgraph();
  addNode(root, 4, "CLIPTextEncode", { widgets: { text: TEXT } });
  refused({ root, scope: holder.subgraph }, { ...inSubgraph, prompt: ["4", "text"] }, /lies outside this subgraph/);
  const twice = withSubgraph();
  addSubgraph(twice.root, 31).subgraph = twice.holder.subgraph;
  refused({ root: twice.root, scope: twice.holder.subgraph }, inSubgraph, /used 2 times.*Go up one level/);
  const deep = newGraph();
  const outer = addSubgraph(deep, 40, "Outer");
  const inner = addSubgraph(outer.subgraph, 30, "Inner");
  const encoding = addNode(inner.subgraph, 4, "CLIPTextEncode", { widgets: { text: TEXT }, outputs: { IMAGE: "IMAGE" } });
  connect(encoding, "IMAGE", addNode(inner.subgraph, 9, "SaveImage", { inputs: { images: "IMAGE" } }), "images");
  exposed(inner, encoding, "text");
  exposed(outer, inner, "text");
  refused({ root: deep, scope: inner.subgraph }, { ...PLACES, prompt: ["40:30:4", "text"], seeds: [], output: "40:30:9" }, /text is typed further out, in Outer \(node 40\)\. Go up one level/);
  const socketless = plain();
  const encoder = socketless.root.getNodeById(4);
  encoder.inputs = encoder.inputs.filter((input) => input.name !== "text");
  refused(socketless, PLACES, /has no socket/);
  const unread = plain();
  addNode(unread.root, 10, "LoadImage", { widgets: { image: "start.png" }, outputs: { IMAGE: "IMAGE" } });
  refused(unread, { ...PLACES, image: ["10", "image"] }, /Nothing in this graph reads the picture/);
  const blind = plain();
  blind.root.getNodeById(9).disconnectInput(0);
  refused(blind, PLACES, /shows no picture/);
  const inside = withSubgraph();
  const load = addNode(inside.holder.subgraph, 10, "LoadImage", { widgets: { image: "start.png" }, outputs: { IMAGE: "IMAGE" } });
  const reader = addNode(inside.holder.subgraph, 12, "VAEEncode", { inputs: { pixels: "IMAGE" }, outputs: { CONDITIONING: "CONDITIONING" } });
  connect(load, "IMAGE", reader, "pixels");
  connect(reader, "CONDITIONING", inside.sampler, "positive");
  refused({ root: inside.root, scope: inside.root }, { ...inSubgraph, image: ["30:10", "image"] }, /The picture is loaded inside Draw/);
});

/** The shape with a Load CLIP beside its text encoder, which may lie in a subgraph; its id in the queued prompt. */
function withOwnClip(shape) {
  const parts = SHAPES[shape]();
  const deep = parts.places.prompt[0].split(":").slice(0, -1);
  const graph = deep.reduce((inner, id) => inner.getNodeById(id)?.subgraph ?? inner.getNodeById(Number(id)).subgraph, parts.root);
  addNode(graph, 2, "CLIPLoader", { widgets: { clip_name: "qwen3vl_8b.safetensors" }, outputs: { CLIP: "CLIP" } });
  return { ...parts, clip: [...deep, 2].join(":") };
}

for (const shape of ["an image from a text", "an edit of the user's image, which two nodes read", ...Object.keys(SHAPES).filter((name) => name.includes("subgraph"))]) {
  test(`${shape}: the workflow's own CLIP is the agent, without a second loader`, () => {
    const before = withOwnClip(shape);
    const { root, scope, places, clip } = withOwnClip(shape);
    const open = wrap(root, scope, promptOf(root), places, { planner: { kind: "node", name: clip }, critic: null }, createNode, createGroup);
    const prompt = promptOf(root);
    const agent = Object.values(prompt).find((node) => node.class_type === "InterleaveThinkerAgentFromCLIP");
    assert.deepEqual(agent.inputs.clip, [clip, 0]);
    assert.equal(Object.values(prompt).filter((node) => node.class_type === "CLIPLoader").length, 1);
    open.properties = JSON.parse(JSON.stringify(open.properties));
    unwrap(scope);
    assert.deepEqual(saved(root), saved(before.root));
  });
}
