"""Loop Close: finds the body between the two ends and runs a copy of it until the plan is done."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, get_args

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker, is_link

from ..interleave_thinker.contract import T_MAX, T_MAX_LIMIT, Gate, OnExhausted, ReferencePolicy
from ..interleave_thinker.errors import ConfigError, InterleaveError
from ..interleave_thinker.loop.state import LoopSettings, LoopState, begin
from ..interleave_thinker.session import Session, Signature
from ..interleave_thinker.storage.branches import Work, open_run
from ..interleave_thinker.storage.run_folder import safe_name
from ..interleave_thinker.storage.write_behind import WriteBehind, wait_for_writes
from .agents import AgentValue
from .body import Body, find_body, state_of_side_outputs
from .checks import node_needing_reference
from .comfy_internals.caches import executor_caches, hidden_execution_list
from .comfy_internals.server import prompt_and_targets
from .events import editors_graph, is_heard, send_event, workflow_id
from .folders import attempt_store, runs_root, saved_file
from .loop_open import LoopContext
from .placing import place_next_attempt
from .prompt_graph import PromptGraph
from .running_loops import RunningLoop, add_running_loop, drop_ended_loops, running_prompt_id
from .signatures import BodySignatures
from .types import AGENT, DOCUMENT, JUDGMENT, LOOP, expect, only, schema
from .users import current_user

MAX_ACCEPTED_TEXT = 10_000
"""Characters of accept_attempts."""


class LoopClose(io.ComfyNode):
    """The image and judgment inputs are never evaluated here: they only say which nodes to copy."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoopClose",
            display_name="Interleave Loop Close",
            description="End of the loop: repeats the nodes between Loop Open and here until every step of the plan "
            "is accepted or has used up its attempts.",
            search_aliases=["interleave", "loop end", "retry until accepted", "T_max", "while", "for each step"],
            enable_expand=True,
            is_input_list=True,
            has_intermediate_output=True,
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id, io.Hidden.extra_pnginfo, *hidden_execution_list()],
            inputs=[
                LOOP.Input("loop", tooltip="From Loop Open."),
                io.Image.Input(
                    "image",
                    optional=True,
                    lazy=True,
                    raw_link=True,
                    tooltip="The picture that your graph makes; of a batch, the first. A plan of text only needs none.",
                ),
                JUDGMENT.Input(
                    "judgment",
                    optional=True,
                    lazy=True,
                    raw_link=True,
                    tooltip="From Critic-Refine or Judgment. Without it every first attempt is accepted.",
                ),
                io.Int.Input(
                    "t_max",
                    default=T_MAX,
                    min=1,
                    max=T_MAX_LIMIT,
                    tooltip="T_max: how often the generator may try one step. 3 is quick, the paper's best is 5.",
                ),
                io.Combo.Input(
                    "on_exhausted",
                    options=list(get_args(OnExhausted)),
                    default="last",
                    tooltip="No attempt was accepted: go on with the last one (paper), the best by comparison, "
                    "the first, or stop.",
                ),
                io.Combo.Input(
                    "reference_policy",
                    options=list(get_args(ReferencePolicy)),
                    default="previous",
                    advanced=True,
                    tooltip="What each step edits: the previous picture (paper), the first one, or your own (pinned). "
                    "Against drift over many edits.",
                ),
                io.Combo.Input(
                    "gate",
                    options=list(get_args(Gate)),
                    default="off",
                    advanced=True,
                    tooltip="End the run after each new step or rejection, everything saved; queue again to go on.",
                ),
                io.String.Input(
                    "run_name",
                    default="",
                    advanced=True,
                    tooltip="Folder below output/interleave. Empty: made from the request.",
                ),
                io.String.Input(
                    "accept_attempts",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip='Your own verdicts as step:attempt, e.g. "2:1, 3:2": these go on whatever the critic says.',
                ),
                AGENT.Input("agent", optional=True, tooltip="Only for on_exhausted = best: compares the attempts."),
            ],
            outputs=[DOCUMENT.Output("DOCUMENT", "document", tooltip="To Save Document and Unpack Document.")],
        )

    @classmethod
    def validate_inputs(cls, run_name: Any = "", accept_attempts: Any = "") -> bool | str:
        """Names and verdicts typed into the node are refused before anything runs."""
        if len(str(_single(accept_attempts) or "")) > MAX_ACCEPTED_TEXT:
            return f"accept_attempts has more than {MAX_ACCEPTED_TEXT} characters. Write step:attempt, such as 2:1."
        try:
            if _single(run_name):
                safe_name(_single(run_name))
            read_accepted_attempts(_single(accept_attempts) or "")
        except InterleaveError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, gate: Any = "off", **_: Any) -> Any:
        """NaN with a gate: the same prompt must run again to go on.

        Otherwise the user, whose run it is, and a hash of the output nodes beside its pictures: ComfyUI does not see
        that Loop Close runs them.
        """
        if _single(gate) != "off":
            return float("nan")
        running = prompt_and_targets(running_prompt_id())
        node_id = str(cls.hidden.unique_id) if cls.hidden is not None else ""
        if running is None or node_id not in running[0]:
            return current_user()
        return current_user() + state_of_side_outputs(running[0], node_id, running[1])

    @classmethod
    def execute(
        cls,
        loop: list[LoopContext],
        t_max: list[int],
        on_exhausted: list[str],
        reference_policy: list[str],
        gate: list[str],
        run_name: list[str],
        image: Any = None,
        judgment: Any = None,
        accept_attempts: list[str] | None = None,
        agent: list[AgentValue] | None = None,
    ) -> io.NodeOutput:
        if len(loop) > 1:
            raise ConfigError(f"Loop Close takes one loop, but got {len(loop)}. Give Loop Open single values.")
        context = expect(_only(loop, "loop"), LoopContext, "Loop Close's 'loop'")
        dynprompt, close_id = cls.hidden.dynprompt, cls.hidden.unique_id
        name = expect(_only(run_name, "run_name"), str, "Loop Close's 'run_name'")
        accepted = expect(_only(accept_attempts or [""], "accept_attempts"), str, "Loop Close's 'accept_attempts'")
        settings = LoopSettings(
            _only(t_max, "t_max") if _raw_link(judgment) else 1,
            _only(on_exhausted, "on_exhausted"),
            _only(reference_policy, "reference_policy"),
            _only(gate, "gate"),
            context.seed,
        )
        if settings.on_exhausted == "best" and not agent:
            raise ConfigError("on_exhausted 'best' needs an agent for the comparison: connect 'agent'.")
        running = prompt_and_targets(running_prompt_id())
        targets = running[1] if running else None
        _check_run_names(dynprompt, close_id, name, targets)
        wait_for_writes()  # what an interrupted run still writes is part of its folder
        drop_ended_loops()
        state = begin(context.plan, settings, context.user_images, read_accepted_attempts(accepted))
        if state.finished and _raw_link(image) is None:
            session = _begun_session(cls.hidden, state, context, name, None)
            session.writer.settle()
            session.folder.release()
            return io.NodeOutput(session.document(), ui=_run_files(session))
        body = find_body(dynprompt, context.open_id, close_id, _raw_link(image), _raw_link(judgment), targets)
        if body.is_inside_another:  # which runs copies of this loop; here there is nothing to make pictures from
            return io.NodeOutput(ExecutionBlocker(None))
        _check_reference(dynprompt, body, state)
        signed = BodySignatures(dynprompt, body)
        session = _begun_session(cls.hidden, state, context, name, signed)
        agent_link = dynprompt.get_node(close_id)["inputs"].get("agent")
        display_id = dynprompt.get_display_node_id(close_id)
        begun = RunningLoop(session, body, dynprompt, agent_link, display_id, signed.side_outputs)
        add_running_loop(begun)
        begun.caches = executor_caches(cls.hidden.execution_list)
        return place_next_attempt(begun, _run_files(session))


def _begun_session(
    hidden: Any, state: LoopState, context: LoopContext, name: str, signed: BodySignatures | None
) -> Session:
    """The session of a run, written down and told. signed: None where no picture is to be made."""
    node_id = hidden.dynprompt.get_display_node_id(hidden.unique_id)
    settings = state.settings
    work = Work(context.plan, settings, context.user_images, node=node_id)
    if signed is not None:
        work = replace(
            work,
            body=signed.made_by.key,
            judge=signed.judged_by.key if signed.judged_by else "",
            always_changes=bool(signed.changing),
            reopens_finished=settings.gate != "off" or bool(state.picks),
        )
    folder = open_run(runs_root(), work, name)
    workflow = workflow_id(hidden.extra_pnginfo)
    try:
        session = Session(
            state,
            attempt_store(),
            folder,
            *(signed.in_run(folder.about.get("token", "")) if signed else (Signature("", frozenset()), None)),
            title=context.plan.headline,
            origin={"node": str(node_id), "workflow": workflow, "prompt": running_prompt_id()},
            notify=lambda event, facts: send_event(event, node_id, {"workflow": workflow, **facts}),
            writer=WriteBehind(),
        )
        session.start()
        if signed is not None and signed.changing:
            session.warn(_warning_of(signed.changing))
        graph = editors_graph(hidden.extra_pnginfo)
        if graph is not None:
            folder.write_workflow(graph)  # beside the run that it made, so that it can be opened again
    except BaseException:
        folder.release()
        raise
    return session


def _check_reference(dynprompt: Any, body: Body, state: LoopState) -> None:
    """Raises:
    ConfigError: the first picture is made from text, and a node of the body cannot do without a reference.
    """
    stuck = None if state.finished or state.reference_key else node_needing_reference(dynprompt, body)
    if stuck is not None:
        kind = dynprompt.get_node(stuck)["class_type"]
        raise ConfigError(
            f"Step {state.step} has no picture to edit, but node {stuck} ({kind}) needs one. Connect your picture to "
            "Loop Open, or let has_reference drive ComfyUI's own Switch between text-to-image and edit: it runs only "
            "the side that it takes."
        )


def _warning_of(changing: Mapping[str, str]) -> str:
    named = ", ".join(f"node {node_id} ({kind})" for node_id, kind in sorted(changing.items())[:5])
    return (
        f"Always changes: {named}. This run keeps its pictures until it is done. Queued again after that, all is made "
        "anew, unless a gate is set or attempts are accepted. To keep pictures for good, fix the seed there."
    )


def _run_files(session: Session) -> dict[str, Any] | None:
    """Where the run lies, for who asks for a job's history: also of one that fails or is interrupted.

    None where a client listens: the event "plan" tells it, and some take the first output for the end of the job.
    """
    if is_heard():
        return None
    folder = session.folder
    return {
        "interleave_run": [{"run": folder.name, **saved_file(folder.trajectory_file), "warnings": session.warnings}]
    }


def _only(values: Any, name: str) -> Any:
    return only(values, "Loop Close", name)


def _check_run_names(dynprompt: Any, close_id: str, run_name: str, targets: Collection[str] | None) -> None:
    """Two loops of a prompt with one run_name would be branches of each other by chance.

    targets: the output nodes that ComfyUI runs; a Loop Close that none of them needs does not matter.

    Raises:
        ConfigError: another Loop Close of the prompt has the same name.
    """
    if not run_name.strip():
        return
    mine = dynprompt.get_display_node_id(close_id)
    kind = dynprompt.get_node(close_id)["class_type"]
    prompt = dynprompt.get_original_prompt()
    will_run = set(prompt) if targets is None else PromptGraph(prompt).above(targets)
    for node_id, node in prompt.items():
        other = node["inputs"].get("run_name")
        if node_id == mine or node.get("class_type") != kind or not isinstance(other, str) or not other.strip():
            continue
        if node_id not in will_run:
            continue
        if safe_name(other).casefold() == safe_name(run_name).casefold():
            first, second = sorted((str(mine), str(node_id)))
            raise ConfigError(
                f"run_name {run_name.strip()!r} stands in two Loop Close nodes ({first} and {second}). Give each loop "
                "a name of its own, or leave it empty."
            )


def read_accepted_attempts(text: str) -> Mapping[int, int]:
    """ "2:1, 3:2" -> {2: 1, 3: 2}: step -> attempt.

    Raises:
        ConfigError: a part is not step:attempt.
    """
    accepted = {}
    for part in re.split(r"[,;\s]+", text.strip()):
        if not part:
            continue
        found = re.fullmatch(r"(\d{1,4}):(\d{1,4})", part)
        if not found:
            raise ConfigError(f"accept_attempts: {part[:40]!r} is not step:attempt, such as 2:1.")
        accepted[int(found.group(1))] = int(found.group(2))
    return accepted


def _raw_link(value: Any) -> Any:
    """A raw link as it is; list inputs wrap it once."""
    if isinstance(value, list) and len(value) == 1 and is_link(value[0]):
        return value[0]
    return value if is_link(value) else None


def _single(value: Any) -> Any:
    """Of a list input. While ComfyUI checks the prompt, one that is connected is (None,)."""
    return (value[0] if value else None) if isinstance(value, (list, tuple)) else value
