"""The shipped workflows: the server accepts them, and the editor's files say the same as the API files.

An editor's file has more: nodes that only show something. An API file has none of those, because clients of other
people take the first node that shows anything for the result (docs/api.md).

The reading of the editor's format here is written apart from workflows/make_ui.py, so that both must agree.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_server import Comfy
from comfy_test_graphs import ONE_CLIP, PAGES, install_newer_nodes, shipped_for_editor, with_tiny_nodes
from make_thumbnails import STRIP_SAYS, run_pictures, strip
from PIL import Image

from interleave_thinker.comfyui.client import ComfyClient

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
NAMES = sorted(p.stem for p in (FOLDER / "api").glob("*.json"))
EXPECTED = {
    "tiny_story",
    "flux2_klein_story",
    "flux3_klein_story",
    "qwen_image_2_1_story",
    "qwen_image_edit_2511_story",
    "nano_banana_pro_story",
    "diffusers_klein_story",
    "critic_on_any_graph",
    "other_judge",
    "describe_sequence",
    "reason_then_draw",
}
FILES = {
    ("CheckpointLoaderSimple", "ckpt_name"),
    ("CLIPLoader", "clip_name"),
    ("InterleaveThinkerGenerateOrEdit", "pipeline"),
    ("InterleaveThinkerLoadAgent", "model"),
    ("LoadImage", "image"),
    ("LoraLoaderModelOnly", "lora_name"),
    ("UNETLoader", "unet_name"),
    ("VAELoader", "vae_name"),
}
"""Inputs that name a file, which this machine need not have."""
NEWER = json.loads((FOLDER / "newer" / "nodes.json").read_text(encoding="utf-8"))
"""What workflows take from a ComfyUI that is newer than 0.30: nodes, choices of older nodes, addresses of models."""
EDITOR_ONLY = {"MarkdownNote"}
SHOWS = {"PreviewImage", "PreviewAny", "InterleaveThinkerUnpackDocument"}
"""What an editor's file may have besides: previews, and what feeds them."""
RESULT = "InterleaveThinkerSaveDocument"
TITLES = {
    "InterleaveThinkerPlanner": "Request",
    "InterleaveThinkerLoopOpen": "Seed",
    "InterleaveThinkerLoopClose": "Run",
    RESULT: "Document",
    "SaveImage": "Pictures",
}
"""By which clients find the nodes that hold what they set and read."""
TITLE_HEIGHT = 30

Json = dict[str, Any]

each = pytest.mark.parametrize("name", NAMES)


def api(name: str) -> Json:
    return dict(json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8")))


def ui(name: str) -> Json:
    return shipped_for_editor(name)


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as reply:
        return json.loads(reply.read())


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    """A server that has the newer nodes: its own, else those of newer_pack."""
    base = tmp_path_factory.mktemp("workflows")
    install_newer_nodes(base)
    server = Comfy(base).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def known(comfy: Any) -> Json:
    """What the server says of its nodes."""
    return dict(get(f"{comfy.url}/object_info"))


# ---- the set


def test_all_are_there() -> None:
    """API files have plain names, for addresses and commands; the editor's have the names that the gallery shows."""
    assert set(NAMES) == EXPECTED == set(PAGES)
    assert {p.name for p in FOLDER.glob("*.json")} == {page.file for page in PAGES.values()}


def test_newer_nodes_are_described_as_a_server_that_has_them_does(known: Json) -> None:
    """The stand-ins are made from the description; a ComfyUI's own nodes say themselves what they take."""
    for kind, described in NEWER["nodes"].items():
        for category, inputs in described["input"].items():
            assert list(inputs) == list(known[kind]["input"][category]), kind
        assert [known[kind][field] for field in ("output", "output_name", "display_name")] == [
            described[field] for field in ("output", "output_name", "display_name")
        ]


def test_editor_files_are_made_from_the_api_files(comfy: Any) -> None:
    """After a change in api/ or pages.py: python workflows/make_ui.py --url <a running ComfyUI>."""
    command = [sys.executable, str(FOLDER / "make_ui.py"), "--url", comfy.url, "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_comfyui_lists_them(comfy: Any) -> None:
    listed = get(f"{comfy.url}/api/workflow_templates")
    assert any(set(names) >= {page.title for page in PAGES.values()} for names in listed.values()), listed


# ---- the API files


@each
def test_server_accepts(name: str, comfy: Any, known: Json) -> None:
    """All that is wrong on a machine without the models is that files are absent.

    One number upstream of every output is made wrong on purpose: the server then reports every other
    error as well, and never runs anything, whatever models are installed.
    """
    prompt = api(name)
    spoiled = spoil(prompt, known)
    errors = refusal(comfy.url, prompt)
    found = {
        (node_id, error["type"], error["extra_info"].get("input_name"))
        for node_id, entry in errors.items()
        for error in entry["errors"]
    }
    assert {(i, "value_smaller_than_min", n) for i, n in spoiled} <= found
    wrong = [f for f in found if (f[0], f[2]) not in spoiled]
    for node_id, why, field in wrong:
        assert why in ("value_not_in_list", "custom_validation_failed"), errors[node_id]
        kind = prompt[node_id]["class_type"]
        newer = NEWER["choices"].get(kind, {}).get(field, [])
        assert (kind, field) in FILES or prompt[node_id]["inputs"][field] in newer, errors[node_id]


def spoil(prompt: Json, known: Json) -> set[tuple[str, str]]:
    """Set numbers below their minimum until no output can run; returns where."""
    spoiled: set[tuple[str, str]] = set()
    for node_id, node in prompt.items():
        if not known[node["class_type"]]["output_node"]:
            continue
        above = set(upstream(prompt, node_id))
        if above & {i for i, _ in spoiled}:
            continue
        spoiled.add(next((i, n) for i in sorted(above) for n in plain_numbers(prompt[i], known)))
        for i, n in spoiled:
            prompt[i]["inputs"][n] = -1
    return spoiled


def plain_numbers(node: Json, known: Json) -> Iterator[str]:
    """Inputs with a minimum that the server itself checks."""
    if node["class_type"] == "InterleaveThinkerLoopClose":
        return
    for name, spec in known[node["class_type"]]["input"]["required"].items():
        if spec[0] == "INT" and spec[1].get("min", -1) >= 0 and not isinstance(node["inputs"][name], list):
            yield name


def upstream(prompt: Json, node_id: str) -> Iterator[str]:
    yield node_id
    for value in prompt[node_id]["inputs"].values():
        if isinstance(value, list):
            yield from upstream(prompt, value[0])


def refusal(url: str, prompt: Json) -> Json:
    body = json.dumps({"prompt": prompt}).encode()
    request = urllib.request.Request(f"{url}/prompt", body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    answer = json.loads(refused.value.read())
    assert answer["error"]["type"] == "prompt_outputs_failed_validation", answer["error"]
    return dict(answer["node_errors"])


@each
def test_every_value_is_said(name: str, known: Json) -> None:
    """The server fills in nothing, and unknown names are ignored silently: so name all, and only those."""
    for node_id, node in api(name).items():
        given = set(node["inputs"])
        for field, spec in all_inputs(node["class_type"], node["inputs"], known):
            if is_widget(spec):
                assert field in given, f"node {node_id}: {field}"
            given.discard(field)
        assert not given, f"node {node_id}: {given}"


@each
def test_the_result_is_all_that_an_api_file_shows(name: str, known: Json) -> None:
    """A client that stops at the first output, or asks for all, then has the document's pictures and no others."""
    kinds = [n["class_type"] for n in api(name).values()]
    assert "PreviewImage" not in kinds
    if RESULT in kinds:
        assert [kind for kind in kinds if known[kind]["output_node"]] == [RESULT]


@each
def test_titles_of_an_api_file_name_what_to_set_and_to_read(name: str) -> None:
    """Each stands once, so that it names one node, and the seed's is not on a node whose seed is a link."""
    nodes = api(name).values()
    titles = [n["_meta"]["title"] for n in nodes]
    for node in nodes:
        wanted = TITLES.get(node["class_type"])
        assert wanted is None or (node["_meta"]["title"] == wanted and titles.count(wanted) == 1)
    (seed,) = [n for n in nodes if n["_meta"]["title"] == "Seed"]
    assert isinstance(seed["inputs"]["seed"], int)


# ---- the editor's files


@each
def test_both_files_say_the_same(name: str, known: Json) -> None:
    flat = read_ui(ui(name), known)
    wanted = {i: (n["class_type"], n["inputs"]) for i, n in api(name).items()}
    assert {i: node for i, node in flat.items() if i in wanted} == wanted
    assert {kind for i, (kind, _) in flat.items() if i not in wanted} <= SHOWS


@each
def test_the_editor_shows_each_node_under_its_own_name(name: str) -> None:
    """Titles for clients would hide what a node is."""
    assert not {n.get("title") for n in ui(name)["nodes"]} & set(TITLES.values())


def read_ui(workflow: Json, known: Json) -> dict[str, tuple[str, Json]]:
    """An editor's workflow -> {id: (class, inputs)}, as the editor would queue it."""
    origins = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    flat = {}
    for node in workflow["nodes"]:
        if node["type"] in EDITOR_ONLY:
            continue
        values = iter(node["widgets_values"])
        inputs: Json = {}
        for field, spec in all_inputs(node["type"], None, known, values, inputs):
            if field.startswith("+"):
                assert next(values) == spec, f"node {node['id']}: {field}"
            elif is_widget(spec) and field not in inputs:
                inputs[field] = next(values)
        assert next(values, "end") == "end", f"node {node['id']} has more values than widgets"
        for slot in node["inputs"]:
            if slot["link"] is not None:
                inputs[slot["name"]] = origins[slot["link"]]
        flat[str(node["id"])] = (node["type"], inputs)
    return flat


def all_inputs(
    kind: str, given: Json | None, known: Json, values: Iterator[Any] | None = None, taken: Json | None = None
) -> Iterator[tuple[str, Any]]:
    """(name, specification) of a node's inputs, in order, with those that depend on a choice.

    Reading an API file, `given` has the choices. Reading an editor's, they are taken from `values` into
    `taken`, and widgets that only the editor has come as ("+...", their value).
    """
    for category in ("required", "optional"):
        for name, spec in known[kind]["input"].get(category, {}).items():
            options = spec[1] if len(spec) > 1 else {}
            if spec[0] == "COMFY_DYNAMICCOMBO_V3":
                if given is not None:
                    choice = given[name]
                else:
                    assert values is not None and taken is not None
                    choice = taken[name] = next(values)
                yield name, spec
                option = next(o for o in options["options"] if o["key"] == choice)
                for part in option["inputs"].values():
                    yield from ((f"{name}.{child}", child_spec) for child, child_spec in part.items())
            elif spec[0] == "COMFY_AUTOGROW_V3":
                if given is not None:
                    template = options["template"]
                    names = template.get("names") or [f"{template['prefix']}{i}" for i in range(template["max"])]
                    yield from ((f"{name}.{n}", ["IMAGE", {}]) for n in names if f"{name}.{n}" in given)
            else:
                yield name, spec
                if given is None and spec[0] == "INT":
                    if options.get("control_after_generate", name in ("seed", "noise_seed")):
                        yield f"+{name}", "fixed"
                if given is None and options.get("image_upload"):
                    yield f"+{name}", "image"


def is_widget(spec: Any) -> bool:
    kinds = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")
    return (isinstance(spec[0], list) or spec[0] in kinds) and not (len(spec) > 1 and spec[1].get("forceInput"))


@each
def test_ui_file_is_sound(name: str, known: Json) -> None:
    workflow = ui(name)
    nodes = {n["id"]: n for n in workflow["nodes"]}
    assert workflow["version"] == 0.4
    assert len(nodes) == len(workflow["nodes"]) and max(nodes) == workflow["last_node_id"]
    links = {link[0]: link for link in workflow["links"]}
    assert len(links) == len(workflow["links"]) and max(links) == workflow["last_link_id"]
    assert {n["type"] for n in nodes.values()} <= set(known) | EDITOR_ONLY
    seen = set()
    for number, source, out, target, place, kind in links.values():
        slot, output = nodes[target]["inputs"][place], nodes[source]["outputs"][out]
        assert slot["link"] == number and number in output["links"]
        assert output["type"] == kind and slot["type"] in (kind, "*")
        assert nodes[source]["order"] < nodes[target]["order"]
        seen.add((target, place))
    for node in nodes.values():
        assert node["mode"] == 0
        for place, slot in enumerate(node["inputs"]):
            assert (slot["link"] is not None) == ((node["id"], place) in seen)
        ends = sum(len(o["links"] or []) for o in node["outputs"])
        assert ends == sum(link[1] == node["id"] for link in links.values())
        if node["type"] == "ComfySwitchNode":  # the server does not check these types
            branches = {s["type"] for s in node["inputs"] if s["name"] != "switch"}
            assert branches == {node["outputs"][0]["type"]}
        if node["type"] in known:
            assert [o["name"] for o in node["outputs"]] == known[node["type"]]["output_name"]
    assert len({n["order"] for n in nodes.values()}) == len(nodes)


@each
def test_nothing_overlaps(name: str) -> None:
    workflow = ui(name)
    boxes = {n["id"]: (n["pos"][0], n["pos"][1] - TITLE_HEIGHT, *n["size"]) for n in workflow["nodes"]}
    boxes = {i: (x, y, x + w, y + h + TITLE_HEIGHT) for i, (x, y, w, h) in boxes.items()}
    frames = [(x, y, x + w, y + h) for x, y, w, h in (g["bounding"] for g in workflow["groups"])]
    for group in (list(boxes.values()), frames):
        for i, a in enumerate(group):
            for b in group[i + 1 :]:
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)
    for node in workflow["nodes"]:
        x1, y1, x2, y2 = boxes[node["id"]]
        inside = [f for f in frames if f[0] <= x1 and f[1] <= y1 and x2 <= f[2] and y2 <= f[3]]
        assert len(inside) == (0 if node["type"] in EDITOR_ONLY else 1), node["id"]


@each
def test_a_note_says_which_files_belong_where(name: str) -> None:
    (about,) = [n for n in ui(name)["nodes"] if n.get("title") == "About this workflow"]
    (text,) = about["widgets_values"]
    assert text.startswith("# ")
    for node in ui(name)["nodes"]:
        for model in node["properties"].get("models", []):
            assert model["name"] in text and f"models/{model['directory']}" in text


@each
def test_models_can_be_found(name: str) -> None:
    """Every model file of a stock loader has an address for ComfyUI's dialog of missing models."""
    for node in ui(name)["nodes"]:
        models = node["properties"].get("models", [])
        for model in models:
            assert set(model) == {"name", "url", "directory"}
            assert model["name"] in node["widgets_values"]
            assert model["url"].startswith("https://huggingface.co/")
            assert model["url"].split("?")[0].endswith("/" + model["name"])
        if node["type"].endswith(("Loader", "LoaderSimple", "LoaderModelOnly")) and name != "tiny_story":
            assert len(models) == 1, node["type"]


def test_models_are_those_of_the_official_templates() -> None:
    spec = importlib.util.find_spec("comfyui_workflow_templates_json")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("ComfyUI's template packages are not in this environment")
    folder = Path(next(iter(spec.submodule_search_locations))) / "templates"
    official = {tuple(entry) for entry in NEWER["models"]}  # of templates that this package may not have yet
    official |= {entry for path in folder.glob("*.json") for entry in models_of(json.loads(path.read_bytes()))}
    ours = {entry for name in NAMES for entry in models_of(ui(name))}
    assert ours and ours <= official, ours - official


def models_of(workflow: Any) -> Iterator[tuple[str, str, str]]:
    if not isinstance(workflow, dict):
        return
    for graph in [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]:
        for node in graph.get("nodes", []):
            for model in (node.get("properties") or {}).get("models") or []:
                yield model["name"], model["url"], model.get("directory", "")


# ---- the graphs at work, with small stand-ins for what is large


TINY = {"10": "tiny_kontext.safetensors", "11": "tiny_clip_l.pt", "12": "tiny_taef1.safetensors"}


def node(kind: str, **inputs: Any) -> Json:
    return {"class_type": kind, "inputs": inputs}


def test_the_tiny_storys_thumbnail_is_what_its_run_makes(comfy: Any, known: Json) -> None:
    """Whoever opens it and presses Run gets the pictures that the gallery shows."""
    load_tiny_models({}, known)
    made = strip(run_pictures(comfy.url, "tiny_story"), STRIP_SAYS)
    with Image.open(FOLDER / f"{PAGES['tiny_story'].title}.jpg") as picture:
        apart = np.abs(np.asarray(picture.convert("RGB"), int) - np.asarray(made, int)).mean()
    assert apart < 4, "due: python workflows/make_thumbnails.py"


def planned(prompt: Json, text: str) -> Json:
    """Without agents: a plan from text, and no critic."""
    prompt = copy.deepcopy(prompt)
    prompt["3"] = node("InterleaveThinkerPlanFromText", text=text, max_steps=10, title="")
    for node_id in [i for i, n in prompt.items() if n["class_type"] == "InterleaveThinkerCriticRefine"]:
        del prompt[node_id]
        prompt["31"]["inputs"].pop("judgment")
    return prompt


def load_tiny_models(prompt: Json, known: Json) -> None:
    if TINY["10"] not in known["UNETLoader"]["input"]["required"]["unet_name"][0]:
        pytest.skip("the tiny world is not installed: interleave-thinker tinyworld install")
    prompt["10"] = node("UNETLoader", unet_name=TINY["10"], weight_dtype="default")
    prompt["11"] = node("CLIPLoader", clip_name=TINY["11"], type="stable_diffusion", device="default")
    prompt["12"] = node("VAELoader", vae_name=TINY["12"])


def with_tiny_models(prompt: Json, known: Json) -> Json:
    """The FLUX.2 body around the tiny world's models, which have other latents and smaller pictures."""
    load_tiny_models(prompt, known)
    prompt["14"]["inputs"] |= {"width": 80, "height": 48}
    prompt["21"]["inputs"]["megapixels"] = 0.01
    prompt["34"]["class_type"] = "EmptySD3LatentImage"
    prompt["33"]["inputs"]["steps"] = 1
    return prompt


def result(comfy: Any, prompt: Json) -> Json:
    """The document of a run."""
    for output in ComfyClient(comfy.url).run(prompt).values():
        for entry in output.get("interleave_document", []):
            return dict(entry)
    raise AssertionError("no document")


def pictures(entry: Json) -> list[Path]:
    return sorted(Path(entry["path"]).parent.glob("image_*.png"))


def sizes(entry: Json) -> list[tuple[int, int]]:
    found = []
    for path in pictures(entry):
        with Image.open(path) as picture:
            found.append(picture.size)
    return found


def test_klein_draws_first_and_edits_at_the_reference_size(comfy: Any, known: Json) -> None:
    prompt = planned(api("flux2_klein_story"), "1. a red disc\n2. make it blue\n3. make it green")
    entry = result(comfy, with_tiny_models(prompt, known))
    assert [i["kind"] for i in entry["document"]["items"]].count("image") == 3
    first, second, third = sizes(entry)
    assert first == (80, 48)
    assert second[0] % 16 == second[1] % 16 == 0 and second[0] > second[1]
    assert third == second  # an edited picture keeps its size: nothing is resampled from step to step


def tiny_newer(name: str, known: Json) -> Json:
    """A workflow of one CLIP around the tiny world's models. A first attempt is rejected, a second accepted."""
    plan = "1. a big red circle at the center on a white background\n2. change the circle to green"
    prompt = with_tiny_nodes(planned(api(name), plan))
    del prompt["1"], prompt["2"]
    load_tiny_models(prompt, known)
    for entry in prompt.values():
        entry["inputs"] |= {n: ["11", 0] for n, v in entry["inputs"].items() if v == ["1", 0]}
    prompt["40"] = node("ComfyMathExpression", expression="a > 1", **{"values.a": ["4", 7]})
    prompt["41"] = node("InterleaveThinkerJudgment", accepted=["40", 2], refined_prompt="", reasoning="by rule")
    prompt["31"]["inputs"]["judgment"] = ["41", 0]
    return prompt


@pytest.mark.parametrize("name", ONE_CLIP)
def test_one_clip_plans_judges_and_encodes(name: str) -> None:
    """Loaded twice it would be in memory twice."""
    nodes = api(name)
    (loader,) = [i for i, n in nodes.items() if n["class_type"] == "CLIPLoader"]
    readers = {n["class_type"] for n in nodes.values() if [loader, 0] in n["inputs"].values()}
    (agent,) = [i for i, n in nodes.items() if n["class_type"] == "InterleaveThinkerAgentFromCLIP"]
    asking = {n["class_type"] for n in nodes.values() if [agent, 0] in n["inputs"].values()}
    assert "InterleaveThinkerAgentFromCLIP" in readers and len(readers) == 2
    assert asking == {"InterleaveThinkerPlanner", "InterleaveThinkerCriticRefine"}


@pytest.mark.parametrize("name", ONE_CLIP)
def test_a_first_step_is_drawn_from_text_and_a_later_one_edits_what_was_accepted(
    name: str, comfy: Any, known: Json
) -> None:
    """Each picture is what stock nodes make of the step's prompt and of the picture before."""
    prompt = tiny_newer(name, known)
    entry = result(comfy, prompt)
    made = [a for a in entry["document"]["trajectory"]["attempts"] if a["attempt"] == 2]
    before = None
    for attempt, path in zip(made, pictures(entry), strict=True):
        with Image.open(path) as picture:
            after = picture.convert("RGB")
        names_it = name == "flux3_klein_story" and before is not None
        text = f"In <ref_image_0>, {attempt['prompt']}" if names_it else attempt["prompt"]
        ours, theirs = (np.asarray(p, int) for p in (after, by_hand(comfy, text, attempt["seed"], before)))
        assert np.abs(ours - theirs).max() <= 1, "Save Image rounds down"
        assert len(after.getcolors(10**6) or []) > 1, "a picture, not a flat colour"
        before = after
    assert [a["step"] for a in made] == [1, 2]


def by_hand(comfy: Any, text: str, seed: int, before: Image.Image | None) -> Image.Image:
    """A picture by stock nodes, without the loop and without the newer nodes."""
    nodes = {
        "20": node("CLIPTextEncode", clip=["11", 0], text=text),
        "23": node("ReferenceLatent", conditioning=["20", 0]),
        "25": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "26": node("KSampler", model=["10", 0], seed=seed, steps=2, cfg=1.0, sampler_name="euler", scheduler="simple"),
        "27": node("VAEDecode", samples=["26", 0], vae=["12", 0]),
        "28": node("SaveImage", images=["27", 0], filename_prefix="by_hand"),
    }
    load_tiny_models(nodes, get(f"{comfy.url}/object_info"))
    nodes["26"]["inputs"] |= {"positive": ["23", 0], "negative": ["20", 0], "latent_image": ["25", 0], "denoise": 1.0}
    if before is not None:
        (comfy.base / "input").mkdir(exist_ok=True)
        before.save(comfy.base / "input" / f"before_{seed}.png")
        nodes["21"] = node("LoadImage", image=f"before_{seed}.png")
        nodes["22"] = node("VAEEncode", pixels=["21", 0], vae=["12", 0])
        nodes["23"]["inputs"]["latent"] = ["22", 0]
    (saved,) = ComfyClient(comfy.url).run(nodes)["28"]["images"]
    with Image.open(comfy.output / saved["subfolder"] / saved["filename"]) as picture:
        return picture.convert("RGB")


@pytest.mark.parametrize("name", ONE_CLIP)
def test_pictures_have_the_size_of_the_users_own(name: str, comfy: Any, known: Json) -> None:
    prompt = tiny_newer(name, known)
    prompt["5"] = node("EmptyImage", width=80, height=48, batch_size=1, color=0x406080)
    prompt["4"]["inputs"]["images.image_0"] = ["5", 0]
    assert sizes(result(comfy, prompt)) == [(80, 48), (80, 48)]


def test_other_judge_is_shown_one_picture_or_two(comfy: Any, known: Json) -> None:
    prompt = planned(api("other_judge"), "1. a red disc\n2. make it blue")
    with_tiny_models(prompt, known)
    prompt["50"] = node("GetImageSize", image=prompt["44"]["inputs"]["image"])
    reply = '{{"previous_step_success": false, "refine_prompt": "{a} pictures"}} {b}'
    prompt["44"] = node(
        "StringFormat", f_string=reply, **{"values.a": ["50", 2], "values.b": prompt["44"]["inputs"]["prompt"]}
    )
    del prompt["1"], prompt["2"]
    prompt["31"]["inputs"]["t_max"] = 3
    attempts = result(comfy, prompt)["document"]["trajectory"]["attempts"]
    assert [a["prompt"] for a in attempts] == ["a red disc", *["1 pictures"] * 2, "make it blue", *["2 pictures"] * 2]
    asked = attempts[-2]["judgment"]["raw"]
    assert "What was wanted: make it blue" in asked and "it was given: 2 pictures" in asked


def test_describe_needs_no_generator(comfy: Any) -> None:
    texts = ["A small square.", "It has become larger."]
    blank = {"step_name": "", "instruction": None, "prompt": None}
    steps = [blank | {"step_number": i, "auxiliary_text": text} for i, text in enumerate(texts, 1)]
    prompt = planned(api("describe_sequence"), json.dumps({"execution_plan": steps}))
    for node_id, size in (("5", 32), ("6", 48)):
        prompt[node_id] = node("EmptyImage", width=size, height=size, batch_size=1, color=0)
    del prompt["1"], prompt["2"]
    outputs = ComfyClient(comfy.url).run(prompt)
    assert set(outputs) == {"32"}
    (entry,) = outputs["32"]["interleave_document"]
    assert [(i["kind"], i["text"]) for i in entry["document"]["items"]] == [("text", text) for text in texts]
