"""What the editor's workflows have beyond the API files: names, where nodes stand, notes, what only shows something,
where models come from.

Read by make_ui.py and make_thumbnails.py. Node ids are those of api/<name>.json; titles are there too (`_meta`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from interleave_thinker.comfyui.known_sizes import KNOWN_SIZES
from interleave_thinker.contract import PACKAGED_CLIP

Columns = list[list[str | int]]
"""Node ids from left to right, and from top to bottom in each column. A number is room, for links to pass."""

_HF = "https://huggingface.co/"
_KNOWN = {
    "flux-2-klein-4b-fp8.safetensors": "diffusion_models",
    "qwen_3_4b.safetensors": "text_encoders",
    "flux2-vae.safetensors": "vae",
    PACKAGED_CLIP: "text_encoders",
    "qwen_2.5_vl_7b_fp8_scaled.safetensors": "text_encoders",
    "qwen_image_2.1_int8_convrot.safetensors": "diffusion_models",
    "qwen3vl_8b_int8_convrot.safetensors": "text_encoders",
    "qwen_image_2.1_vae_bf16.safetensors": "vae",
    "qwen3vl_4b_int8_convrot.safetensors": "text_encoders",
}
"""Files whose address the command `vram` has, too."""
MODELS = {
    **{name: (folder, KNOWN_SIZES[name].download) for name, folder in _KNOWN.items()},
    "qwen_image_edit_2511_fp8mixed.safetensors": (
        "diffusion_models",
        _HF + "Comfy-Org/Qwen-Image-Edit_ComfyUI/resolve/main/split_files/diffusion_models/"
        "qwen_image_edit_2511_fp8mixed.safetensors",
    ),
    "qwen_image_vae.safetensors": (
        "vae",
        _HF + "Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files/vae/qwen_image_vae.safetensors",
    ),
    "Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16.safetensors": (
        "loras",
        _HF + "lightx2v/Qwen-Image-Edit-2511-Lightning/resolve/main/"
        "Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16.safetensors",
    ),
    "flux3-image-klein-int8-convrot.safetensors": (
        "diffusion_models",
        _HF + "black-forest-labs/flux-3-image-klein-comfy/resolve/main/diffusion_models/"
        "flux3-image-klein-int8-convrot.safetensors",
    ),
    "sd_xl_base_1.0.safetensors": (
        "checkpoints",
        _HF + "stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors?download=true",
    ),
}
"""File -> (folder below models, address), as in the templates that ComfyUI ships (0.11.27), and for Qwen-Image-2.1 and
FLUX.3 in those of later ones (comfyui-workflow-templates-json 0.1.123).
"""


AGENTS = "Agents"
PLAN = "Plan"
PROMPT = "Prompt"
GRAPH = "Your sampler graph"
JUDGE = "Judge"
RESULT = "Result"
COLORS = {AGENTS: "#8A8", PLAN: "#b58b2a", GRAPH: "#3f789e", JUDGE: "#a1309b", RESULT: "#88A"}
"""Of a group in the editor, and of what belongs to it in a thumbnail."""


@dataclass(frozen=True)
class Group:
    """A titled frame around some nodes."""

    title: str
    columns: Columns

    @property
    def nodes(self) -> list[str]:
        return [node_id for column in self.columns for node_id in column if isinstance(node_id, str)]


REQUEST = "3"
"""The node that holds what the user writes."""
START, ABOUT = "start", "about"
"""The two notes: what to do first, beside the request, and what the workflow is (make_ui.py adds its files)."""


@dataclass(frozen=True)
class Box:
    """Something that the workflow takes, does or gives, as its thumbnail shows it. group: whose colour it has."""

    title: str
    detail: str = ""
    group: str = RESULT

    @property
    def colour(self) -> str:
        return COLORS[self.group]


RUN: list[list[Box]] = []
"""A thumbnail of what the workflow has made, for one that runs on any machine; the others are drawn."""


@dataclass(frozen=True)
class Page:
    """One workflow of the gallery: stacks of notes, groups and room, from left to right.

    title: its name in the gallery, which is its file's name. The gallery has no other words, and ComfyUI lists what it
    finds in a folder: so the alphabet puts first what runs anywhere (js/gallery_order.js).
    first: what to do, as the lines of a numbered list.
    drawn: its thumbnail from top to bottom (`RUN`: pictures of a run); two boxes beside each other are the loop.
    again: what leads from the last box back to the first.
    shown: nodes of the editor's workflow that only show something. An API file has none: many clients take the first
    node that shows anything for the result.
    """

    title: str
    about: str
    stacks: list[list[Group | str | int]]
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)
    first: tuple[str, ...] = ()
    drawn: list[list[Box]] = field(default_factory=lambda: RUN)
    again: str = ""

    @property
    def file(self) -> str:
        return f"{self.title}.json"


def _shown(kind: str, title: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}


def _each_attempt(node_id: str, maker: str) -> dict[str, dict[str, Any]]:
    """A preview of what the node `maker` makes."""
    return {node_id: _shown("PreviewImage", "Each attempt", images=[maker, 0])}


_AGENTS = Group(AGENTS, [["1", "2"]])
_REQUEST = Group(PLAN, [["3"], ["4"]])
_KLEIN = Group(
    GRAPH,
    [
        [220, "21", "12", "11", "14"],
        ["27", "20", "22"],
        [100, "35", "28", 120, "10", "23", "24"],
        ["25"],
        ["13", "33", "26", "34"],
        [80, "36"],
        [60, "38", "37"],
    ],
)
_JUDGED = Group(JUDGE, [["30"]])
_ENDS = Group(RESULT, [["31"], ["32"]])
_SMALL_CLIP = "qwen3vl_4b_fp8_scaled.safetensors"
_SMALLER = (
    f"Low on VRAM? For the agents, [{_SMALL_CLIP}]({KNOWN_SIZES[_SMALL_CLIP].download}) works too, less reliably."
)
_OWN_PICTURES = (
    "To start from a picture of yours, connect Load Image to `images` of the Planner **and** of Loop Open: "
    "the first step then edits it."
)

_FILES = "Get the model files: ComfyUI offers them when it opens this, and *About this workflow* lists them."
_WRITE = "Write what you want in **Planner**, beside this note."
_RUN = "Press **Run**, at the top right."
_WATCH = "Open **Interleave** in the bar at the left edge: plan, attempts and judgments appear there as they come."
_READ = "Read the document in **Save Document**, at the right. `output/interleave` has it, too."
_DOCUMENT = Box("Document", "text, picture, text, picture")


def _drawn(
    maker: Box,
    judge: Box,
    agents: str = "Qwen3-VL 8B",
    request: Box = Box("Your request", "in your own words", PLAN),
    last: Box = _DOCUMENT,
) -> list[list[Box]]:
    """A plan, and a loop that works it off."""
    return [[request], [Box("Planner", agents, AGENTS)], [maker, judge], [last]]


def _maker(title: str, detail: str = "draws, edits") -> Box:
    return Box(title, detail, GRAPH)


_CRITIC = Box("Critic", "Qwen3-VL 8B", JUDGE)
_STORY = (_WRITE, _RUN, _WATCH, _READ)
_STORY_OF_FILES = (_FILES, *_STORY)

PAGES = {
    "tiny_story": Page(
        "A first story, without a GPU",
        """# A story in a world of shapes

The whole system, small enough for a CPU: a planner turns the request into steps, a tiny diffusion model draws and
edits 64-pixel pictures, and a critic rejects what went wrong and rewrites the prompt.

Change the request as you like: shapes, colours, places and backgrounds, in your own words.""",
        [
            [START, _AGENTS, ABOUT],
            [_REQUEST],
            [
                350,
                Group(
                    GRAPH,
                    [
                        [520, "12", "11"],
                        [120, "20", "21"],
                        ["23", 80, "22", "25", 20, "10"],
                        ["24", "26"],
                        [120, "28", "27"],
                    ],
                ),
            ],
            [_JUDGED],
            [400, _ENDS],
        ],
        _each_attempt("28", "27"),
        first=(
            "Once: run `interleave-thinker tinyworld install --comfyui <your ComfyUI folder>`, which writes the small "
            "models, and press **R**.",
            *_STORY,
        ),
    ),
    "flux2_klein_story": Page(
        "A story with FLUX.2 klein",
        """# An illustrated story with FLUX.2 klein

A planner (Qwen3-VL) turns the request into steps. Step 1 is drawn from text, every later step edits the picture
before it: `has_reference` of Loop Open drives the two switches. A critic judges each attempt and rewrites its prompt,
up to `t_max` times a step.

"""
        + _OWN_PICTURES
        + "\n\n"
        + _SMALLER
        + " klein 9B fits in as well: `flux-2-klein-9b-fp8` with `qwen_3_8b_fp8mixed`.",
        [[START, _AGENTS, ABOUT], [_REQUEST], [450, _KLEIN], [_JUDGED], [400, _ENDS]],
        _each_attempt("38", "37"),
        first=_STORY_OF_FILES,
        drawn=_drawn(_maker("FLUX.2 klein"), _CRITIC),
    ),
    "qwen_image_2_1_story": Page(
        "A story with Qwen-Image-2.1",
        """# An illustrated story with Qwen-Image-2.1

**One language model does all three**: the text encoder that Qwen-Image-2.1 brings, a whole Qwen3-VL 8B, is also the
planner and the critic. Nothing is loaded twice.

One graph draws and edits, without a switch: the encoder leaves out a reference that is not there. Step 1 is drawn from
text, 1024 x 1024; every later step edits the last accepted picture, and the latent has its size.

**Needs** a ComfyUI with the node Text Encode Qwen Image 2.1. 25 steps are a start; the model is made for 40 to 50.

"""
        + _OWN_PICTURES
        + """ With `resolution` 0 it keeps its size, up to 2048 x 2048; another number, such as 1024, is the size of the
first picture and shrinks yours to as many pixels.""",
        [
            [START, 150, _AGENTS, ABOUT],
            [_REQUEST],
            [450, Group(GRAPH, [[200, "10", "12", "20"], ["26"], ["37", "38"]])],
            [_JUDGED],
            [500, _ENDS],
        ],
        _each_attempt("38", "37"),
        first=_STORY_OF_FILES,
        drawn=_drawn(_maker("Qwen-Image-2.1"), Box("Critic", "the same model", JUDGE), "the model's text encoder"),
    ),
    "flux3_klein_story": Page(
        "A story with FLUX.3 klein",
        """# An illustrated story with FLUX.3 klein

**One language model does all three**: the text encoder of FLUX.3 klein, a whole Qwen3-VL 4B, is also the planner and
the critic. Nothing is loaded twice.

Step 1 is drawn from text; every later step edits the last accepted picture, which the prompt calls `<ref_image_0>`.
`has_reference` of Loop Open drives three switches: the prompt, the conditioning, and whose size the picture has.

**Needs** a ComfyUI with the node Set Reference Multi Latent, and the files of a page that asks you to agree to its
terms first.

"""
        + _OWN_PICTURES
        + " It is brought to 1 megapixel.",
        [
            [START, 200, _AGENTS, ABOUT],
            [_REQUEST],
            [
                550,
                Group(
                    GRAPH,
                    [
                        [340, "21", "20", "14"],
                        [180, "22", "12"],
                        [640, "10", "23"],
                        ["27", "24"],
                        [440, "26", "25"],
                        ["38", "37"],
                    ],
                ),
            ],
            [_JUDGED],
            [400, _ENDS],
        ],
        _each_attempt("38", "37"),
        first=_STORY_OF_FILES,
        drawn=_drawn(_maker("FLUX.3 klein"), Box("Critic", "the same model", JUDGE), "the model's text encoder"),
    ),
    "qwen_image_edit_2511_story": Page(
        "A story with Qwen-Image-Edit 2511",
        """# An illustrated story with Qwen-Image-Edit 2511

As the FLUX.2 story, with Qwen-Image-Edit as the generator. In step 1 the same model draws from text (plain
CLIP Text Encode, empty latent); later steps edit the last accepted picture. Three switches choose.

For full quality bypass the 4-step LoRA and set the KSampler to 40 steps, cfg 4.

"""
        + _OWN_PICTURES
        + "\n\n"
        + _SMALLER,
        [
            [START, _AGENTS, ABOUT],
            [_REQUEST],
            [
                450,
                Group(
                    GRAPH,
                    [
                        [700, "12", "22", "23", "11", "10"],
                        [200, "20", "13", "24"],
                        [800, "26", "25", "21"],
                        ["14"],
                        ["15", 120, "27", "29", 20, "28"],
                        [420, "38", "37", "36"],
                    ],
                ),
            ],
            [100, _JUDGED],
            [500, _ENDS],
        ],
        _each_attempt("38", "37"),
        first=_STORY_OF_FILES,
        drawn=_drawn(_maker("Qwen-Image-Edit"), _CRITIC),
    ),
    "nano_banana_pro_story": Page(
        "A story with Nano Banana Pro",
        """# An illustrated explanation with Nano Banana Pro

The generator is ComfyUI's API node for Gemini images: without a reference it draws, with one it edits, so one node is
the whole body of the loop. Planner and critic run on your own card.

**Every attempt costs credits** of your Comfy account: steps x `t_max` attempts at most.

"""
        + _OWN_PICTURES
        + " Set `aspect_ratio` to auto in that case.\n\n"
        + _SMALLER,
        [[START, _AGENTS, ABOUT], [_REQUEST], [500, Group(GRAPH, [["20"], [150, "38"]])], [400, _JUDGED], [_ENDS]],
        _each_attempt("38", "20"),
        first=("Log in to your Comfy account: **every attempt costs credits**.", *_STORY_OF_FILES),
        drawn=_drawn(_maker("Nano Banana Pro", "costs credits"), _CRITIC),
    ),
    "diffusers_klein_story": Page(
        "A story with the original agents",
        """# The paper's own agents, and a diffusers pipeline

For Hugging Face folders instead of ComfyUI checkpoints. The agents are the checkpoints that the authors released, the
generator is a diffusers pipeline in one node: without a reference it draws, with one it edits.

**Folders** (whole repositories, nothing is downloaded by the nodes):
- `models/VLM/InterleaveThinker-Planner-8B` and `models/VLM/InterleaveThinker-Critic-8B` from
  [InterleaveThinker](https://huggingface.co/InterleaveThinker)
- `models/diffusers/FLUX.2-klein-4B` from
  [black-forest-labs](https://huggingface.co/black-forest-labs/FLUX.2-klein-4B)

Needs `pip install transformers accelerate diffusers` in ComfyUI's Python. Any Qwen3-VL folder can stand in for an
agent.""",
        [[START, _AGENTS, ABOUT], [_REQUEST], [500, Group(GRAPH, [["20"], [150, "38"]])], [300, _JUDGED], [_ENDS]],
        _each_attempt("38", "20"),
        first=("Put the folders that *About this workflow* lists in their places, and press **R**.", *_STORY),
        drawn=_drawn(_maker("FLUX.2 klein", "diffusers"), Box("Critic 8B", "as released", JUDGE), "the authors' 8B"),
    ),
    "critic_on_any_graph": Page(
        "Check and improve one picture",
        """# Critic-Refine on an ordinary graph

No plan and no loop: a text-to-image graph as you have it, and Critic-Refine behind it. It says whether the picture
shows what the prompt asked for, why, and what to write instead.

To put the critic behind your own graph, copy the group *Judge* with its agent.

"""
        + _SMALLER,
        [
            [START, _AGENTS, ABOUT],
            [Group(PROMPT, [["3"]])],
            [300, Group(GRAPH, [[300, "10"], ["22", "20", "21"], [300, "26"], ["27", "28"]])],
            [_JUDGED],
            [Group(RESULT, [["31", "32", "33"]])],
        ],
        first=(
            _FILES,
            "Write what you want to see in **Prompt**, beside this note.",
            _RUN,
            "Read the three texts at the right: accepted or not, a better prompt, and why.",
            "Paste the better prompt into **Prompt**, and press Run again.",
        ),
        drawn=[
            [Box("Prompt", "", PLAN)],
            [_maker("Your graph", "any model")],
            [_CRITIC],
            [Box("Accepted? Why?", "and a better prompt")],
        ],
        again="paste it, run again",
    ),
    "other_judge": Page(
        "Another judge in the loop",
        """# Another judge closes the loop

The judge is not our critic but core's *Generate Text*: any node that answers with a STRING will do. The node
Judgment reads the reply (`previous_step_success`, `refine_prompt`, as JSON or nearly so) and hands it to Loop Close.
A rule or a person works too: connect `accepted` and `refined_prompt` instead of `reply`.

What the judge is asked stands in *What to ask the judge*; keep `{wanted}` and `{prompt}` in it.

"""
        + _SMALLER,
        [
            [START, _AGENTS, ABOUT],
            [_REQUEST],
            [450, _KLEIN],
            [Group(JUDGE, [["42", 240, "40"], [120, "43", "41"], ["44", 480, "30"]])],
            [400, _ENDS],
        ],
        _each_attempt("38", "37"),
        first=_STORY_OF_FILES,
        drawn=_drawn(_maker("FLUX.2 klein"), Box("Your judge", "any node, a rule", JUDGE)),
    ),
    "describe_sequence": Page(
        "Describe your own pictures",
        """# Pictures in, text out

The planner looks at your pictures and writes texts about them; no picture is made, so there is no generator between
Loop Open and Loop Close.

More pictures: add Load Image and connect it to the next free `images` of the Planner and of Loop Open. If the plan
makes pictures after all, the request asked for them: use a story workflow for that.

"""
        + _SMALLER,
        [
            [START, _AGENTS, ABOUT],
            [_REQUEST, Group("Your pictures", [["5"], ["6"]])],
            [Group(RESULT, [["31"], ["33", "32"], ["34"]])],
        ],
        {
            "33": _shown("InterleaveThinkerUnpackDocument", "Interleave Unpack Document", document=["31", 0]),
            "34": _shown("PreviewAny", "Texts", source=["33", 1]),
        },
        first=(
            _FILES,
            "Choose your pictures in the two **Load Image** nodes.",
            "Write what to say of them in **Planner**, beside this note; `<image>` marks where a picture belongs.",
            *_STORY[1:],
        ),
        drawn=[
            [Box("Your pictures", "", GRAPH)],
            [Box("Planner", "looks at them", AGENTS)],
            [Box("Texts about them", "no picture is made")],
        ],
    ),
    "reason_then_draw": Page(
        "Reason first, then draw",
        """# Reason first, then draw one picture

A plan of one step: the planner works out what the request implies (knowledge, riddles, cause and effect) and writes
the prompt; the critic checks the picture and rewrites, up to five times. In the paper this use gave the gains on
WISE and RISE.

For RISE's kind of task, reasoning about a given picture, connect Load Image to `images` of the Planner **and** of
Loop Open: the step then edits it.

"""
        + _SMALLER,
        [[START, _AGENTS, ABOUT], [_REQUEST], [450, _KLEIN], [_JUDGED], [400, _ENDS]],
        _each_attempt("38", "37"),
        first=_STORY_OF_FILES,
        drawn=_drawn(
            _maker("FLUX.2 klein"),
            _CRITIC,
            "reasons what is meant",
            Box("A riddle, a question", "", PLAN),
            Box("One picture"),
        ),
    ),
}
