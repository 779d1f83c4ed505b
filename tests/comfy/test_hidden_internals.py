"""ComfyUIs that lack one of the internals the pack uses: it loads, the demo's workflow runs, the log says so once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from comfy_server import REPO, Comfy, Ran
from comfy_test_graphs import node, ours, plan_text, tiny_story
from comfy_variants import Edit, copy_comfyui, newer_comfyui, renamed
from inside import run_inside

from interleave_thinker.comfyui.client import WorkflowError

Start = Callable[..., Comfy]
LINE = "InterleaveThinker: this ComfyUI has no "


@pytest.fixture
def other_comfy(tmp_path: Path) -> Iterator[Start]:
    """Start a server from a changed copy of ComfyUI; it ends with the test."""
    begun: list[Comfy] = []

    def start(*edits: Edit, arguments: tuple[str, ...] = ()) -> Comfy:
        tree = copy_comfyui(tmp_path / "ComfyUI", *edits)
        nodes = tmp_path / "base" / "custom_nodes"
        nodes.mkdir(parents=True)
        (nodes / "body_nodes.py").symlink_to(Path(__file__).parent / "bodies" / "body_nodes.py")
        begun.append(Comfy(tmp_path / "base", ("--disable-api-nodes", *arguments), comfyui=tree).start())
        return begun[-1]

    yield start
    for server in begun:
        server.stop()


def missing(server: Comfy) -> list[str]:
    """What the log says is not there."""
    return [line.split(LINE)[1].split(": ")[0] for line in server.log().splitlines() if LINE in line]


def check_demo(ran: Ran) -> None:
    """Four steps with an image each, the last ones of several attempts."""
    document = ran.document
    assert document["status"] == "done"
    assert [r["accepted"] for r in document["trajectory"]["results"]] == [True] * 4
    assert len(document["trajectory"]["attempts"]) > 4


HIDDEN = {
    "caches in execution.execute": [renamed("caches", "kept")],
    "key sets in its caches as we know them": [renamed("cache_key_set", "key_set")],
    "execution.IsChangedCache": [renamed("IsChangedCache", "ChangedCache")],
    "comfy_execution.progress.get_progress_state": [renamed("get_progress_state", "progress_state")],
    "comfy_execution.utils.get_executing_context": [renamed("get_executing_context", "find_executing_context")],
    "prompt_queue.get_current_queue_volatile": [renamed("get_current_queue_volatile", "running_and_queued")],
    "PromptServer.sockets_metadata": [renamed("sockets_metadata", "sockets_about")],
    "PromptServer.send_progress_text": [renamed("send_progress_text", "send_text")],
    "line in its log for a loaded model": [renamed("Requested to load", "Asked to load")],
    "comfy.model_patcher.ModelPatcher": [renamed("ModelPatcher", "PatchedModel")],
}


def test_without_any_of_them_the_demo_runs_and_the_log_names_each_once(other_comfy: Start) -> None:
    server = other_comfy(*(edit for edits in HIDDEN.values() for edit in edits))
    check_demo(server.run(tiny_story()))
    # Where the caches are not found nobody looks for their keys; the tiny agents are CLIPs and need no ModelPatcher.
    hidden = set(HIDDEN) - {"key sets in its caches as we know them"}
    found = missing(server)
    assert len(found) == len(set(found)) and hidden - {"comfy.model_patcher.ModelPatcher"} <= set(found) <= hidden
    # Without the outputs the node that blocks is not known, but where.
    with pytest.raises(
        WorkflowError, match=r"(?s)step 1\b.*attempt 1\b.*node 13 \(BodyBlock\), or a node before it, blocks"
    ):
        server.run(BLOCKED)


BLOCKED = {
    "1": ours("PlanFromText", text=plan_text(1), max_steps=10, title=""),
    "2": ours("LoopOpen", plan=["1", 0], seed=0),
    "12": node("BodyDraw", seed=["2", 5], prompt=["2", 1]),
    "13": node("BodyBlock", value=["12", 0], block=True),
    "30": ours(
        "LoopClose",
        loop=["2", 0],
        image=["13", 0],
        t_max=1,
        on_exhausted="last",
        reference_policy="previous",
        gate="off",
        run_name="",
        accept_attempts="",
    ),
    "31": ours("SaveDocument", document=["30", 0]),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", HIDDEN)
def test_without_it_the_demo_runs_and_the_log_says_so_in_one_line(other_comfy: Start, what: str) -> None:
    server = other_comfy(*HIDDEN[what])
    check_demo(server.run(tiny_story()))
    assert missing(server) == [what]


def with_one_argument_more(path: str, text: str) -> str:
    """As if upstream had changed what a part takes, and all who call it."""
    text = re.sub(r"(?<!def )\binit_kv_cache\(", "init_kv_cache(None, ", text)
    return text.replace("def init_kv_cache(self, ", "def init_kv_cache(self, kind, ")


def with_logits_that_take_more(path: str, text: str) -> str:
    text = text.replace("def logits(self, x)", "def logits(self, x, kind)")
    return re.sub(r"\.logits\((x|outputs\[0\])\)", r".logits(\1, None)", text)


def with_layers_that_return_more(path: str, text: str) -> str:
    text = text.replace("return x, intermediate, next_key_values", "return x, intermediate, next_key_values, None")
    return text.replace("x, _, past_key_values = self.model.forward(", "x, _, past_key_values, _ = self.model.forward(")


@pytest.mark.slow
@pytest.mark.parametrize(
    "edit",
    [
        renamed("init_kv_cache", "new_kv_cache"),
        with_one_argument_more,
        with_logits_that_take_more,
        with_layers_that_return_more,
    ],
)
def test_without_its_parts_a_clip_still_writes_as_transformers_does(tmp_path: Path, edit: Edit) -> None:
    """By ComfyUI's own `clip.generate`. The file that a CLIP came from is not told either."""
    tree = copy_comfyui(
        tmp_path / "ComfyUI",
        edit,
        renamed("cached_patcher_init", "loaded_from"),
    )
    found = run_inside("native_parity.py", str(tmp_path / "checkpoint"), comfyui=tree)
    for case in ("text", "one image", "two images of different sizes"):
        ours, reference = found[case]
        assert ours == reference
    assert [line.split(": ")[1] for line in found["log"]] == [
        "this ComfyUI has no patcher.cached_patcher_init",
        "this ComfyUI has no CLIP that can be decoded token by token",
    ]
    assert "Use Load Agent or Agent from Server" in found["wordless"]


def with_layers_that_compute_otherwise(path: str, text: str) -> str:
    """As if upstream had changed a layer, and nothing else."""
    return text.replace(
        "x = residual + x\n\n        return x, present_key_value",
        "x = residual + 0.9 * x\n\n        return x, present_key_value",
    )


@pytest.mark.slow
@pytest.mark.parametrize("edit", [renamed("TransformerBlock", "DecoderBlock"), with_layers_that_compute_otherwise])
def test_layers_of_another_kind_write_one_token_at_a_time(tmp_path: Path, edit: Edit) -> None:
    """By ComfyUI's own forward, as every layer is meant, and the log says so once."""
    found = run_inside(
        "native_parity.py", str(tmp_path / "checkpoint"), comfyui=copy_comfyui(tmp_path / "ComfyUI", edit)
    )
    if edit is not with_layers_that_compute_otherwise:
        ours, reference = found["two images of different sizes"]
        assert ours == reference
    assert [line.split(": ")[1] for line in found["log"]] == [
        "this ComfyUI has no layers of a CLIP that take several tokens at once"
    ]
    replies = {name: pair for name, pair in found["changed"].items() if name != "shapes"}  # of the layers, unused here
    assert found["form"] and replies and all(ours == wanted for ours, wanted, _ in replies.values())


@pytest.mark.slow
def test_without_what_names_users_all_share_the_folder_of_an_unknown_one(other_comfy: Start) -> None:
    server = other_comfy(
        renamed("get_current_queue_volatile", "running_and_queued"),
        renamed("get_request_user_id", "user_id_of"),
        arguments=("--multi-user",),
    )
    ran = server.run(tiny_story())
    check_demo(ran)
    assert ran.folder.parent.name == "@__unknown"
    assert sorted(missing(server)) == [
        "prompt_queue.get_current_queue_volatile",
        "user_manager.get_request_user_id",
    ]


def test_a_newer_comfyui_drops_outputs_in_its_own_way(other_comfy: Start) -> None:
    """By the hidden `execution_list`; nothing is looked for on the call stack. It does not tell its version either."""
    server = other_comfy(newer_comfyui, renamed("caches", "kept"), renamed("comfyui_version", "comfyui_release"))
    ran = server.run(tiny_story())
    check_demo(ran)
    removed = re.findall(r"^REMOVED (\S+) True", server.log(), re.M)
    assert set(removed) >= {f"31.s{step}a{attempt}.b26" for step, attempt in ran.made[:-1]}  # of the sampler
    assert missing(server) == ["comfyui_version.__version__"]


def test_nodes_asked_directly_say_of_their_files_what_they_say_to_comfyui() -> None:
    """So what was made before is recalled."""
    found = run_inside("file_states.py")
    assert found["without it"] == found["by ComfyUI"]
    assert found["by ComfyUI"]["Failing"] == "changed" and found["by ComfyUI"]["Silent"] is False
    assert len(found["by ComfyUI"]["LoadImage"][0]) == 64


def test_between_two_replies_of_a_node_captured_graphs_are_let_go() -> None:
    """Else ComfyUI's own `generate` crashes at the second one; where there is nothing to let go, nothing is said."""
    found = run_inside("released_graphs.py")
    assert found["with it"] == ["reply", "released", "reply", "released", "failing", "released"]
    assert found["renamed"] == found["of another form"] == ["reply", "reply", "failing"]


def test_each_name_that_has_no_fallback_is_official_and_there() -> None:
    """docs/comfyui_versions.md has the modules. A ComfyUI without one of the names is named here before all else."""
    found = run_inside("official_names.py")
    assert found["missing"] == []
    page = (REPO / "docs" / "comfyui_versions.md").read_text(encoding="utf-8")
    assert not [module for module in found["asked"] if f"`{module}`" not in page]
