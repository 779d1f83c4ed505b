import { test } from "node:test";
import assert from "node:assert/strict";
import { RECORD, WrapError, recordIn, unwrap, wrap } from "../../js/wrap.mjs";
import { compared, missingIn, missingWords, refuseMissing, unwrapChanges, withoutMissing, wrapChanges } from "../../js/wrap_check.mjs";
import { pathTo } from "../../js/graph.mjs";
import { addNode, connect, createGroup, createNode, promptOf, saved } from "./litegraph.mjs";
import { PLACES, SHAPES, TEXT, inSubgraph, withSubgraph } from "./wrap_shapes.mjs";

const AGENTS = { planner: { kind: "clip", name: "qwen.safetensors" }, critic: null };

/** What wrap_check asks of the editor. `takes` changes what graphToPrompt gives, by the number of the take. */
function editor(root, takes = () => {}) {
  const loaded = [];
  let take = 0;
  return {
    rootGraph: root,
    loaded,
    graphToPrompt: async () => {
      const output = promptOf(root);
      takes(output, take++);
      return { output };
    },
    loadGraphData: async (graph) => loaded.push(graph),
  };
}

function wrapIn(app, { root, scope, places }, spoil = () => {}) {
  const act = (now) => {
    const open = wrap(root, scope, now, places, AGENTS, createNode, createGroup);
    spoil(scope, open);
    return open;
  };
  return compared(app, "Wrapping", act, (before, after, open) => wrapChanges(before, after, open, pathTo(root, scope)));
}

function unwrapIn(app, { root, scope }, spoil = () => {}) {
  const { record, request } = recordIn(scope);
  const act = () => {
    unwrap(scope);
    spoil(scope);
  };
  return compared(app, "Unwrapping", act, (before, after) => unwrapChanges(before, after, record, request, pathTo(root, scope)));
}

const ours = (scope, kind) => scope.nodes.find((node) => node.type === `InterleaveThinker${kind}`);
const graphsIn = (graph) => [graph, ...graph.nodes.flatMap((node) => (node.subgraph ? graphsIn(node.subgraph) : []))];

for (const shape of Object.keys(SHAPES)) {
  test(`${shape}: wrap, unwrap, wrap, unwrap: the comparison finds nothing, and the prompt is the same each time`, async () => {
    const parts = SHAPES[shape]();
    const app = editor(parts.root);
    const before = promptOf(parts.root);
    for (let round = 0; round < 2; round++) {
      await wrapIn(app, parts);
      await unwrapIn(app, parts);
      assert.deepEqual(promptOf(parts.root), before);
    }
    assert.deepEqual(app.loaded, []);
  });

  test(`${shape}: a graph that declares lower last ids than it uses keeps its links and nodes`, async () => {
    const parts = SHAPES[shape]();
    const before = promptOf(parts.root);
    const lower = () => graphsIn(parts.root).forEach((graph) => Object.assign(graph.state, { lastLinkId: 0, lastNodeId: 0 }));
    const app = editor(parts.root);
    lower();
    await wrapIn(app, parts);
    lower();
    await unwrapIn(app, parts);
    assert.deepEqual(promptOf(parts.root), before);
    assert.deepEqual(app.loaded, []);
  });

  test(`${shape}: an edited request stays as the prompt, and is no change to complain of`, async () => {
    const parts = SHAPES[shape]();
    const app = editor(parts.root);
    await wrapIn(app, parts);
    ours(parts.scope, "Planner").widgets.find((widget) => widget.name === "request").value = "a blue disc";
    await unwrapIn(app, parts);
    const [id, input] = parts.places.prompt;
    const outside = shape === "inside a subgraph whose own inputs bring text and seed"; // the text is not in the graph that is open
    assert.equal(promptOf(parts.root)[id].inputs[input], outside ? TEXT : "a blue disc");
  });
}

const SHAPE = "an edit of the user's image, which two nodes read";
const widget = (scope, id, name) => scope.getNodeById(id).widgets.find((one) => one.name === name);

/** What a graph, a pack or an editor could do to it meanwhile, and how it is named. */
const SPOILT = {
  "a value of another node": [(scope) => (widget(scope, 7, "steps").value = 3), /steps of KSampler \(node 7\)/],
  "values that moved on by one": [(scope) => scope.getNodeById(7).widgets.push(scope.getNodeById(7).widgets.shift()) && Object.assign(widget(scope, 7, "steps"), { value: 11 }), /steps of KSampler/],
  "a link that is gone": [(scope) => scope.getNodeById(8).disconnectInput(0), /samples of VAEDecode \(node 8\)/],
  "a link that goes elsewhere": [(scope) => connect(addNode(scope, 60, "Other", { outputs: { LATENT: "LATENT" } }), "LATENT", scope.getNodeById(8), "samples"), /samples of VAEDecode/],
  "an input that grew": [(scope) => scope.getNodeById(13).widgets.push({ name: "images_2", value: 1 }), /images_2 of PreviewImage/],
  "a node that is gone": [(scope) => scope.remove(scope.getNodeById(13)), /PreviewImage \(node 13\)/],
  "a node of another type": [(scope) => (scope.getNodeById(13).type = "Other"), /PreviewImage \(node 13\)/],
  "a node that came": [(scope) => addNode(scope, 60, "Other"), /a new node \(node 60\)/],
  "a node that is bypassed": [(scope) => (scope.getNodeById(12).mode = 4), /ScaleImage \(node 12\)/],
};

for (const [what, [spoil, words]] of Object.entries(SPOILT)) {
  test(`wrapping that changes ${what} is taken back and named`, async () => {
    const parts = SHAPES[SHAPE]();
    const app = editor(parts.root);
    const before = saved(parts.root);
    await assert.rejects(wrapIn(app, parts, spoil), (error) => error instanceof WrapError && words.test(error.message) && /^Wrapping would have changed .*; nothing was changed\. Please report this workflow\.$/.test(error.message));
    assert.deepEqual(app.loaded, [before]);
  });

  test(`unwrapping that changes ${what} is taken back and named`, async () => {
    const parts = SHAPES[SHAPE]();
    const app = editor(parts.root);
    await wrapIn(app, parts);
    const wrapped = JSON.parse(JSON.stringify(saved(parts.root)));
    await assert.rejects(unwrapIn(app, parts, spoil), (error) => error instanceof WrapError && words.test(error.message));
    assert.deepEqual(app.loaded, [wrapped]);
  });
}

test("a chosen place that does not read the loop, and a loop's node that is not there, are changes", async () => {
  const spoilt = {
    text: (scope) => scope.getNodeById(4).disconnectInput(0),
    seed: (scope, open) => connect(open, "STEP", scope.getNodeById(7), "seed"),
    "image of ScaleImage": (scope) => connect(scope.getNodeById(10), "IMAGE", scope.getNodeById(12), "image"),
    "a new node": (scope) => scope.remove(ours(scope, "SaveDocument")),
  };
  for (const [words, spoil] of Object.entries(spoilt)) {
    const parts = SHAPES[SHAPE]();
    await assert.rejects(wrapIn(editor(parts.root), parts, spoil), new RegExp(words));
  }
});

test("a place that does not get back what it held is a change: text, seed and picture", async () => {
  const spoilt = {
    "text of .*CLIPTextEncode": (scope) => (widget(scope, 4, "text").value = "another"),
    "seed of KSampler": (scope) => (widget(scope, 7, "seed").value = 12),
    "also of ScaleImage": (scope) => scope.getNodeById(12).disconnectInput(2),
  };
  for (const [words, spoil] of Object.entries(spoilt)) {
    const parts = SHAPES[SHAPE]();
    await wrapIn(editor(parts.root), parts);
    await assert.rejects(unwrapIn(editor(parts.root), parts, spoil), new RegExp(words));
  }
});

test("what shares a subgraph's box with a chosen place reads the loop too, and gets back what the box held", async () => {
  const box = () => {
    const { root, holder, encoder } = withSubgraph();
    const other = addNode(holder.subgraph, 16, "Switch", { widgets: { on_false: TEXT, apart: TEXT } });
    const input = holder.subgraph.addInput("text", "STRING");
    for (const [node, name] of [[encoder, "text"], [other, "on_false"]]) input.connect(node.inputs.find((one) => one.name === name), node);
    return { root, scope: root, places: inSubgraph, holder, other };
  };
  const parts = box();
  const app = editor(parts.root);
  const before = promptOf(parts.root);
  const open = await wrapIn(app, parts);
  const wrapped = promptOf(parts.root)["30:16"].inputs;
  assert.deepEqual(wrapped, { on_false: [String(open.id), 1], apart: TEXT });
  await unwrapIn(app, parts);
  assert.deepEqual(promptOf(parts.root), before);
  assert.deepEqual(app.loaded, []);
  const apart = ({ holder, other }) => holder.subgraph.inputs[0].connect(other.inputs[1], other);
  const more = box();
  await wrapIn(editor(more.root), more);
  await assert.rejects(unwrapIn(editor(more.root), more, () => (widget(more.holder.subgraph, 16, "on_false").value = "another")), /on_false of Switch \(node 30:16\)|text of/);
  const wired = box();
  widget(wired.holder.subgraph, 16, "apart").value = "other words";
  await assert.rejects(wrapIn(editor(wired.root), wired, () => apart(wired)), /apart of Switch \(node 30:16\)/);
});

test("what differs by itself is no change: a random seed, words of which one is drawn, a counter", async () => {
  const kinds = {
    "another at each take": (prompt, take) => (prompt["7"].inputs.steps = take),
    "one of two, the same at first": (prompt, take) => (prompt["7"].inputs.steps = take > 1 && take % 3 ? "b" : "a"),
    "one of many": (prompt, take) => (prompt["7"].inputs.steps = take < 2 ? "a" : "bcbdbcbdbcbdbcbdbcbdbcbdbcbd"[take % 7]),
  };
  for (const [kind, takes] of Object.entries(kinds)) {
    const parts = SHAPES[SHAPE]();
    const app = editor(parts.root, takes);
    await wrapIn(app, parts);
    await unwrapIn(app, parts);
    assert.deepEqual(app.loaded, [], kind);
  }
});

test("a text of which the editor draws one of several words comes back as it was, whatever is drawn then", async () => {
  const parts = SHAPES["an image from a text"]();
  const app = editor(parts.root, (prompt, take) => {
    if (typeof prompt["4"].inputs.text === "string") prompt["4"].inputs.text = take < 4 ? "red" : ["green", "blue"][take % 2];
  });
  await wrapIn(app, parts);
  await unwrapIn(app, parts);
  assert.deepEqual(app.loaded, []);
});

test("a wrap that fails by an error of JavaScript in a node of another pack is taken back", async () => {
  const parts = SHAPES[SHAPE]();
  const before = saved(parts.root);
  const app = editor(parts.root);
  await assert.rejects(wrapIn(app, parts, () => undefined.type), TypeError);
  assert.deepEqual(app.loaded, [before]);
  const unwrapped = editor(parts.root);
  await assert.rejects(unwrapIn(unwrapped, parts, () => undefined.type), TypeError);
  assert.equal(unwrapped.loaded.length, 1);
});

test("a wrap that is refused leaves the graph alone: nothing has to be loaded", async () => {
  const parts = SHAPES[SHAPE]();
  parts.root.getNodeById(4).refuses = true;
  const app = editor(parts.root);
  await assert.rejects(wrapIn(app, parts), /does not take what the loop gives/);
  assert.deepEqual(app.loaded, []);
});

test("loading again does not make an unsaved workflow look saved", async () => {
  const parts = SHAPES[SHAPE]();
  const app = editor(parts.root);
  const workflow = { isModified: true };
  app.extensionManager = { workflow: { activeWorkflow: workflow } };
  app.loadGraphData = async (graph, clean, view, into) => {
    assert.equal(into, workflow);
    workflow.isModified = false;
  };
  await assert.rejects(wrapIn(app, parts, SPOILT["a node that came"][0]), WrapError);
  assert.equal(workflow.isModified, true);
});

test("a workflow that a person opens meanwhile is left alone, whatever the comparison finds", async () => {
  for (const [at, words] of [[1, /meanwhile; nothing was changed/], [2, /Go back to the first one/]]) {
    const parts = SHAPES[SHAPE]();
    const before = saved(parts.root);
    const app = editor(parts.root, (output, take) => {
      if (take < at) return;
      app.extensionManager.workflow.activeWorkflow = { other: true };
      delete output[13];
    });
    app.extensionManager = { workflow: { activeWorkflow: {} } };
    await assert.rejects(wrapIn(app, parts), (error) => error instanceof WrapError && words.test(error.message));
    assert.deepEqual(app.loaded, []);
    if (at === 1) assert.deepEqual(saved(parts.root), before);
  }
});

test("a record of before this check is unwrapped as well; the rest is compared", async () => {
  const parts = SHAPES[SHAPE]();
  const before = promptOf(parts.root);
  await wrapIn(editor(parts.root), parts);
  delete ours(parts.scope, "LoopOpen").properties[RECORD].was;
  await unwrapIn(editor(parts.root), parts);
  assert.deepEqual(promptOf(parts.root), before);
});

test("what a person connected to the loop since is no change to complain of", async () => {
  const parts = SHAPES["an image from a text"]();
  await wrapIn(editor(parts.root), parts);
  const reader = addNode(parts.scope, 51, "Reader", { inputs: { step: "INT", plan: "PLAN" } });
  connect(ours(parts.scope, "LoopOpen"), "STEP", reader, "step");
  connect(ours(parts.scope, "Planner"), "PLAN", reader, "plan");
  const app = editor(parts.root);
  await unwrapIn(app, parts);
  assert.deepEqual(app.loaded, []);
});

function missing(graph, id, type, parts) {
  const node = addNode(graph, id, type, parts);
  return Object.assign(node, { missing: true, title: parts?.title ?? type });
}

test("a missing node on the way to the result is named, by title and type; others are left out", () => {
  const { root } = SHAPES["an image from a text"]();
  const upscale = missing(root, 20, "Magic Upscale", { title: "Make it big", inputs: { image: "IMAGE" }, outputs: { IMAGE: "IMAGE" } });
  connect(root.getNodeById(8), "IMAGE", missing(root, 21, "Save Elsewhere", { inputs: { images: "IMAGE" } }), "images");
  missing(root, 22, "Notes of a pack");
  const apart = promptOf(root);
  assert.deepEqual(missingIn(apart), ["20", "21", "22"]);
  assert.doesNotThrow(() => refuseMissing(root, apart, "9"));
  assert.deepEqual(Object.keys(withoutMissing(apart)), ["4", "7", "8", "9"]);
  connect(root.getNodeById(8), "IMAGE", upscale, "image");
  connect(upscale, "IMAGE", root.getNodeById(9), "images");
  const words = "This workflow needs nodes that are not installed: Make it big (Magic Upscale, node 20). Install them first (Manager > Install Missing Custom Nodes), then wrap again.";
  assert.throws(() => refuseMissing(root, promptOf(root), "9"), new WrapError(words));
  assert.equal("images" in withoutMissing(promptOf(root))["9"].inputs, false, "no link to what is left out");
  upscale.mode = 4; // bypassed: not part of the prompt
  assert.doesNotThrow(() => refuseMissing(root, promptOf(root), "9"));
});

test("a missing node inside a subgraph, and a missing saver, are named", () => {
  const { root, holder, sampler } = withSubgraph();
  const patch = missing(holder.subgraph, 15, "Patch", { inputs: { in: "CONDITIONING" }, outputs: { CONDITIONING: "CONDITIONING" } });
  connect(patch, "CONDITIONING", sampler, "positive");
  assert.throws(() => refuseMissing(root, promptOf(root), "9"), /: Patch \(node 30:15\)\. Install/);
  assert.match(missingWords(root, missingIn(promptOf(root))), /Patch \(node 30:15\)/);
  const saver = SHAPES["an image from a text"]().root;
  Object.assign(saver.getNodeById(9), { missing: true, title: "A node nobody installed", last_serialization: { type: "A node nobody installed" }, type: "" });
  assert.match(missingWords(saver, missingIn(promptOf(saver))), /: A node nobody installed \(node 9\)\./);
});

test("many missing nodes, or long names, still make one short message", () => {
  const { root } = SHAPES["an image from a text"]();
  for (let id = 20; id < 40; id++) missing(root, id, `${"x".repeat(100)}${id}`);
  const words = missingWords(root, missingIn(promptOf(root)));
  assert.ok(words.length < 800 && / and 14 more\. /.test(words), words);
});

test("missing nodes that are apart do not hinder wrap, and stay", async () => {
  const parts = SHAPES["an image from a text"]();
  missing(parts.root, 22, "Notes of a pack");
  const before = promptOf(parts.root);
  const app = editor(parts.root);
  await wrapIn(app, { ...parts, places: PLACES });
  await unwrapIn(app, parts);
  assert.deepEqual(promptOf(parts.root), before);
  assert.deepEqual(app.loaded, []);
});
