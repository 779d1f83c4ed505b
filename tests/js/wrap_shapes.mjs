/** Graphs to wrap, for the tests of wrap. */
import { addNode, addPrimitive, addReroute, addSubgraph, connect, newGraph } from "./litegraph.mjs";

export const TEXT = "a red disc";

/** Text encoder 4, sampler 7, decoder 8, saver 9: an image from a text. */
function addBody(graph, text = TEXT) {
  const encoder = addNode(graph, 4, "CLIPTextEncode", { widgets: { text }, outputs: { CONDITIONING: "CONDITIONING" } });
  const sampler = addNode(graph, 7, "KSampler", { inputs: { positive: "CONDITIONING" }, widgets: { seed: 11, steps: 20 }, outputs: { LATENT: "LATENT" } });
  const decoder = addNode(graph, 8, "VAEDecode", { inputs: { samples: "LATENT" }, outputs: { IMAGE: "IMAGE" } });
  connect(encoder, "CONDITIONING", sampler, "positive");
  connect(sampler, "LATENT", decoder, "samples");
  return { encoder, sampler, decoder };
}

function addSaver(graph, from, output = "IMAGE") {
  connect(from, output, addNode(graph, 9, "SaveImage", { inputs: { images: "IMAGE" } }), "images");
}

export const PLACES = { prompt: ["4", "text"], also: [], seeds: [["7", "seed"]], image: null, output: "9", shows: "images" };

/** The graphs to wrap, each as {root, scope, places, from}: `from` says what the body must read inside the loop. */
export const SHAPES = {
  "an image from a text": () => {
    const root = newGraph();
    addSaver(root, addBody(root).decoder);
    return { root, scope: root, places: PLACES, from: { "4 text": 1, "7 seed": 5 } };
  },
  "an edit of the user's image, which two nodes read": () => {
    const root = newGraph();
    const { sampler, decoder } = addBody(root);
    const load = addNode(root, 10, "LoadImage", { widgets: { image: "start.png" }, outputs: { IMAGE: "IMAGE", MASK: "MASK" } });
    const scale = addNode(root, 12, "ScaleImage", { inputs: { image: "IMAGE", mask: "MASK", also: "IMAGE" }, outputs: { CONDITIONING: "CONDITIONING" } });
    for (const input of ["image", "also"]) connect(load, "IMAGE", scale, input);
    connect(load, "MASK", scale, "mask");
    connect(scale, "CONDITIONING", sampler, "positive");
    addSaver(root, decoder);
    connect(load, "IMAGE", addNode(root, 13, "PreviewImage", { inputs: { images: "IMAGE" } }), "images");
    const places = { ...PLACES, image: ["10", "image"] };
    return { root, scope: root, places, from: { "4 text": 1, "7 seed": 5, "12 image": 2, "12 also": 2 } };
  },
  "one text in two encoders": () => {
    const root = newGraph();
    const { decoder } = addBody(root);
    addNode(root, 5, "CLIPTextEncode", { widgets: { text: TEXT } });
    addSaver(root, decoder);
    return { root, scope: root, places: { ...PLACES, also: [["5", "text"]] }, from: { "4 text": 1, "5 text": 1, "7 seed": 5 } };
  },
  "no seed": () => {
    const root = newGraph();
    addSaver(root, addBody(root).decoder);
    return { root, scope: root, places: { ...PLACES, seeds: [] }, from: { "4 text": 1 } };
  },
  "text and seed from primitive nodes": () => {
    const root = newGraph();
    const { encoder, sampler, decoder } = addBody(root);
    connect(addPrimitive(root, 20), "value", encoder, "text");
    connect(addPrimitive(root, 21), "value", sampler, "seed");
    addSaver(root, decoder);
    return { root, scope: root, places: PLACES, from: { "4 text": 1, "7 seed": 5 } };
  },
  "a primitive node that feeds another node as well": () => {
    const root = newGraph();
    const { sampler, decoder } = addBody(root);
    const primitive = addPrimitive(root, 21);
    connect(primitive, "value", sampler, "seed");
    connect(primitive, "value", addNode(root, 22, "Other", { widgets: { seed: 3 } }), "seed");
    addSaver(root, decoder);
    return { root, scope: root, places: PLACES, from: { "4 text": 1, "7 seed": 5 } };
  },
  "a primitive node that feeds two texts": () => {
    const root = newGraph();
    const { encoder, decoder } = addBody(root);
    const primitive = addPrimitive(root, 20);
    connect(primitive, "value", encoder, "text");
    connect(primitive, "value", addNode(root, 5, "Other", { widgets: { text: TEXT } }), "text");
    addSaver(root, decoder);
    return { root, scope: root, places: PLACES, from: { "4 text": 1, "7 seed": 5 } };
  },
  "ids that are texts": () => {
    const root = newGraph();
    const { decoder } = addBody(root);
    addSaver(root, decoder);
    for (const node of root.nodes) node.id = `n${node.id}`;
    for (const link of root.links.values()) Object.assign(link, { origin_id: `n${link.origin_id}`, target_id: `n${link.target_id}` });
    const places = { ...PLACES, prompt: ["n4", "text"], seeds: [["n7", "seed"]], output: "n9" };
    return { root, scope: root, places, from: { "n4 text": 1, "n7 seed": 5 } };
  },
  "around a subgraph node that shows text and seed outside": () => {
    const { root, holder, encoder, sampler } = withSubgraph();
    exposed(holder, encoder, "text");
    exposed(holder, sampler, "seed");
    return { root, scope: root, places: inSubgraph, from: { "30 text": 1, "30 seed": 5 } };
  },
  "around a subgraph node that hides text and seed": () => {
    const { root } = withSubgraph();
    return { root, scope: root, places: inSubgraph, from: { "30 text": 1, "30 seed": 5 } };
  },
  "around a subgraph node that has an input of the same name": () => {
    const { root, holder } = withSubgraph();
    holder.subgraph.addInput("text", "STRING");
    return { root, scope: root, places: inSubgraph, from: { "30 text_2": 1, "30 seed": 5 } };
  },
  "around a subgraph in a subgraph": () => {
    const root = newGraph();
    const outer = addSubgraph(root, 40, "Outer");
    const inner = addSubgraph(outer.subgraph, 30, "Inner");
    const { decoder } = addBody(inner.subgraph);
    shown(inner, decoder);
    shown(outer, inner);
    addSaver(root, outer);
    const places = { ...PLACES, prompt: ["40:30:4", "text"], seeds: [["40:30:7", "seed"]] };
    return { root, scope: root, places, from: { "40 text": 1, "40 seed": 5 } };
  },
  "a picture that is saved inside a subgraph in a subgraph, and leaves neither": () => {
    const root = newGraph();
    const outer = addSubgraph(root, 40, "Outer");
    const inner = addSubgraph(outer.subgraph, 30, "Inner");
    const { sampler, decoder } = addBody(inner.subgraph);
    addSaver(inner.subgraph, decoder);
    const encoder = addNode(root, 4, "CLIPTextEncode", { widgets: { text: TEXT }, outputs: { CONDITIONING: "CONDITIONING" } });
    inner.subgraph.addInput("positive", "CONDITIONING").connect(sampler.inputs[0], sampler);
    outer.subgraph.addInput("positive", "CONDITIONING").connect(inner.inputs[0], inner);
    connect(encoder, "CONDITIONING", outer, "positive");
    const places = { ...PLACES, prompt: ["4", "text"], seeds: [["40:30:7", "seed"]], output: "40:30:9" };
    return { root, scope: root, places, from: { "4 text": 1, "40 seed": 5 } };
  },
  "inside a subgraph whose own inputs bring text and seed": () => {
    const { root, holder, encoder, sampler } = withSubgraph();
    exposed(holder, encoder, "text");
    exposed(holder, sampler, "seed");
    return { root, scope: holder.subgraph, places: inSubgraph, from: { "4 text": 1, "7 seed": 5 } };
  },
  "an image that comes into a subgraph through a reroute": () => {
    const { root, holder, sampler } = withSubgraph();
    const load = addNode(root, 10, "LoadImage", { widgets: { image: "start.png" }, outputs: { IMAGE: "IMAGE" } });
    const reader = addNode(holder.subgraph, 12, "VAEEncode", { inputs: { pixels: "IMAGE" }, outputs: { CONDITIONING: "CONDITIONING" } });
    const reroute = addReroute(holder.subgraph, 14, "IMAGE");
    holder.subgraph.addInput("start", "IMAGE").connect(reroute.inputs[0], reroute);
    connect(reroute, "", reader, "pixels");
    connect(reader, "CONDITIONING", sampler, "positive");
    connect(load, "IMAGE", holder, "start");
    return { root, scope: root, places: { ...inSubgraph, image: ["10", "image"] }, from: { "30 text": 1, "30 seed": 5, "30 start": 2 } };
  },
};

export const inSubgraph = { ...PLACES, prompt: ["30:4", "text"], seeds: [["30:7", "seed"]] };

/** The body inside subgraph node 30, its image shown outside and saved there. */
export function withSubgraph() {
  const root = newGraph();
  const holder = addSubgraph(root, 30, "Draw");
  const body = addBody(holder.subgraph);
  shown(holder, body.decoder);
  addSaver(root, holder);
  return { root, holder, ...body };
}

/** The subgraph's own output shows a node's picture. */
function shown(holder, node) {
  holder.subgraph.addOutput("IMAGE", "IMAGE").connect(node.outputs[0], node);
}

export function exposed(holder, node, name) {
  const slot = node.inputs.find((input) => input.name === name);
  holder.subgraph.addInput(name, slot.type).connect(slot, node);
}
