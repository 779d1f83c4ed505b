"""What goes wrong outside of us is one clear error at the node, or the declared fallback."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from comfy_test_graphs import loop, node, ours, plan_text, with_critic

from interleave_thinker.comfyui.client import WorkflowError

SAMPLING = {"max_tokens": 64, "temperature": 0.0, "max_megapixels": 1.0, "prompts": ""}
GOOD_PLAN = json.dumps({"execution_plan": [{"prompt": "one"}, {"prompt": "two"}]})


class Chat(ThreadingHTTPServer):
    """An OpenAI-compatible server whose replies a test decides; `asked` are the bodies it got.

    paths: what was asked for. frees: whether it unloads its model as Ollama does.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = GOOD_PLAN
        self.status = 200
        self.endless = False
        self.delay = 0.0
        self.cut = False
        self.asked: list[dict] = []
        self.paths: list[str] = []
        self.frees = True
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: Chat

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.paths.append(self.path)
        self.say_whole(200, {"models": []})

    def say_whole(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_POST(self):
        server = self.server
        server.paths.append(self.path)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/generate":
            self.say_whole(200 if server.frees else 404, {"done_reason": "unload"})
            return
        server.asked.append(body)
        time.sleep(server.delay)
        self.send_response(server.status)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        if server.status != 200:
            self.wfile.write(b'{"error": {"message": "no"}}')
            return
        try:
            while True:
                for start in range(0, len(server.reply), 8):
                    self.say({"content": server.reply[start : start + 8]})
                if server.cut:
                    return
                if not server.endless:
                    break
                time.sleep(0.001)
            self.say({}, "stop")
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            pass

    def say(self, delta, finish=None):
        chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "id": "x", "created": 0}
        chunk |= {"model": "m", "object": "chat.completion.chunk"}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()


@pytest.fixture
def chat(comfy):
    """A chat server and an entry for it in the user's endpoints file."""
    server = Chat()
    folder = comfy.base / "user" / "interleave_thinker"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "endpoints.toml").write_text(
        f'[test]\nbase_url = "http://127.0.0.1:{server.server_address[1]}/v1"\nmodel = "m"\ntimeout = 3\n'
    )
    yield server
    server.shutdown()


def planned(**planner) -> dict:
    values = {"request": f"story {time.time_ns()}", "max_steps": 8, "seed": 0, "if_unreadable": "error"} | planner
    return {
        "1": ours("AgentFromServer", endpoint="test", **SAMPLING),
        "2": ours("Planner", agent=["1", 0], **values),
        "3": node("PreviewAny", source=["2", 1]),
    }


def judged(chat_reply_matters: int, **critic) -> dict:
    """A loop whose critic is the chat server."""
    graph = loop(plan_text(2), seed=900 + chat_reply_matters, t_max=2)
    graph["9"] = ours("AgentFromServer", endpoint="test", **SAMPLING)
    return with_critic(graph, **critic)


def test_a_plan_comes_from_a_server(comfy, chat):
    ran = comfy.run(planned())
    assert [s["prompt"] for s in ran.of("planned")[0]["plan"]["execution_plan"]] == ["one", "two"]
    assert len(chat.asked) == 1


def test_an_unreadable_plan_is_asked_for_once_more_and_then_shown(comfy, chat):
    chat.reply = "I would rather write a poem."
    with pytest.raises(WorkflowError, match=r"node 2 .*not a usable plan.*rather write a poem"):
        comfy.run(planned())
    assert len(chat.asked) == 2
    assert "could not be used" in json.dumps(chat.asked[1])


def test_the_declared_fallback_makes_the_request_the_only_step(comfy, chat):
    chat.reply = "no"
    ran = comfy.run(planned(request="a fox at dusk", if_unreadable="single step"))
    assert [s["prompt"] for s in ran.of("planned")[0]["plan"]["execution_plan"]] == ["a fox at dusk"]


def test_a_judge_that_cannot_be_read_rejects_and_keeps_the_prompt(comfy, chat):
    chat.reply = "???"
    ran = comfy.run(judged(1))
    assert ran.made == [(1, 1), (1, 2), (2, 1), (2, 2)]
    attempts = ran.document["trajectory"]["attempts"]
    assert attempts[0]["judgment"]["parsed"] is False
    assert attempts[0]["judgment"]["raw"] == "???"
    assert attempts[0]["prompt"] == attempts[1]["prompt"]
    assert attempts[0]["seed"] != attempts[1]["seed"]


@pytest.mark.parametrize("frees", [True, False])
def test_a_server_on_the_same_card_frees_its_memory_before_the_next_picture(comfy, chat, frees):
    """Once for both questions of a judgment, of which a last attempt needs none. If the server cannot, the log says so
    once and nothing is lost."""
    file = comfy.base / "user" / "interleave_thinker" / "endpoints.toml"
    file.write_text(file.read_text() + 'free_memory = "ollama"\n')
    logged = len(comfy.log())
    chat.reply, chat.frees = "???", frees
    ran = comfy.run(judged(20 + frees))
    assert ran.made == [(1, 1), (1, 2), (2, 1), (2, 2)] and ran.document["status"] == "done"
    freed = ["/api/generate", "/api/ps"] if frees else ["/api/generate"]
    assert chat.paths == ["/v1/chat/completions", "/v1/chat/completions", *freed] * 2
    assert comfy.log()[logged:].count("did not free its memory") == (0 if frees else 1)


def test_a_refined_prompt_goes_back_into_the_graph(comfy, chat):
    chat.reply = '<answer>{"previous_step_success": false, "refine_prompt": "better words"}</answer>'
    ran = comfy.run(judged(2))
    assert [f["prompt"] for f in ran.of("attempt")] == [
        "picture number 1",
        "better words",
        "picture number 2",
        "better words",
    ]


def test_an_agent_that_never_stops_is_bounded(comfy, chat):
    chat.reply, chat.endless = "word ", True
    with pytest.raises(WorkflowError, match="not a usable plan"):
        comfy.run(planned())


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ({"status": 401}, "key"),
        ({"status": 404}, "model"),
        ({"delay": 5.0}, "nothing came|seconds| s"),
        ({"cut": True}, "cut off"),
    ],
)
def test_server_trouble_is_named_at_the_node(comfy, chat, trouble, message):
    for name, value in trouble.items():
        setattr(chat, name, value)
    with pytest.raises(WorkflowError, match=f"node 2 .*{message}") as caught:
        comfy.run(planned())
    assert "test" in str(caught.value)


def test_a_refused_connection_is_named_at_the_node(comfy, chat):
    chat.shutdown()
    chat.server_close()
    with pytest.raises(WorkflowError, match=r"node 2 .*test"):
        comfy.run(planned())


def test_an_unknown_endpoint_says_which_there_are(comfy, chat):
    graph = planned()
    graph["1"]["inputs"]["endpoint"] = "other"
    with pytest.raises(WorkflowError, match=r"no endpoint 'other'.*\['test'\]"):
        comfy.run(graph)


def test_a_server_cannot_shift_its_verdicts_and_that_is_said_before_it_is_asked(comfy, chat):
    """Its text alone would be believed: the user would think that the verdicts are stricter."""
    with pytest.raises(WorkflowError, match=r"node 21 .*strictness is 1.5, but .* gives no token prob.*Set strictness"):
        comfy.run(judged(6, strictness=1.5))
    assert chat.asked == []


def test_a_failing_critic_loses_no_finished_picture(comfy, chat):
    """The server dies after the first verdict; queued again, the first step is recalled."""
    chat.reply = '<answer>{"previous_step_success": true, "refine_prompt": ""}</answer>'

    def break_it(event, facts):
        if event == "judgment" and facts["step"] == 1:
            chat.status = 401

    graph = judged(3)
    with pytest.raises(WorkflowError, match="Step 2, attempt 1, node 21"):
        comfy.run(graph, break_it)
    chat.status = 200
    again = comfy.run(graph)
    assert again.made == []
    assert again.document["status"] == "done"


def test_an_interrupt_while_the_agent_writes_takes_effect_at_once(comfy, chat):
    chat.reply, chat.endless = "word ", True
    graph = planned()
    graph["1"]["inputs"]["max_tokens"] = 30000
    asked = []

    def stop(event, facts):
        if event == "executing" and facts["node"] == "2" and not asked:
            asked.append(time.monotonic())
            threading.Timer(0.5, lambda: comfy.post("/interrupt", {})).start()

    with pytest.raises(WorkflowError, match="Interrupted"):
        comfy.run(graph, stop)
    assert time.monotonic() - asked[0] < 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ('{"execution_plan": []}', "no steps"),
        ('{"execution_plan": "x"}', "no steps can be read"),
        ('{"execution_plan": [{"prompt": null, "auxiliary_text": null}]}', "neither a prompt nor a text"),
        (json.dumps({"execution_plan": [{"prompt": "x"}] * 10_000}), "10000 steps"),
        ("\n".join(f"{i}. x" for i in range(1, 500)), "499 steps"),
    ],
)
def test_plans_that_cannot_be_run_are_refused_before_anything_runs(comfy, text, message):
    with pytest.raises(WorkflowError, match=message):
        comfy.run(loop(text, seed=950))


def test_too_many_generator_calls_are_refused(comfy):
    with pytest.raises(WorkflowError, match="exceed 300"):
        comfy.run(loop(plan_text(100), seed=951, t_max=4))


def test_a_picture_with_nan_is_refused_and_finished_steps_stay(comfy):
    graph = loop("1. 0.1\n2. 1e300 * 1e300 - 1e300 * 1e300", seed=952, prompts_matter=True)
    with pytest.raises(WorkflowError, match=r"Step 2, attempt 1"):
        comfy.run(graph)
    end = time.monotonic() + 30  # an image is written in the background: after the error, on a busy machine
    while not (folders := list((comfy.output / "interleave").glob("0-1*/attempts/step01*.png"))):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert folders


def test_an_rgba_picture_loses_its_alpha_and_goes_on(comfy):
    graph = loop(plan_text(1), seed=953)
    graph["17"] = node("InvertMask", mask=["18", 0])
    graph["18"] = node("SolidMask", value=0.5, width=32, height=32)
    graph["19"] = node("JoinImageWithAlpha", image=["12", 0], alpha=["17", 0])
    graph["30"]["inputs"]["image"] = ["19", 0]
    assert comfy.run(graph).made == [(1, 1)]


def test_an_output_folder_that_cannot_be_written_says_so(comfy):
    blocked = comfy.output / "interleave" / "blocked"
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where a folder should be")
    with pytest.raises(WorkflowError, match=r"run folder .*blocked"):
        comfy.run(loop(plan_text(1), seed=954, run_name="blocked"))


def test_best_without_an_agent_says_what_to_connect(comfy):
    with pytest.raises(WorkflowError, match="connect 'agent'"):
        comfy.run(loop(plan_text(1), seed=955, on_exhausted="best"))


def test_pinned_without_a_picture_says_what_to_connect(comfy):
    with pytest.raises(WorkflowError, match="needs a user image"):
        comfy.run(loop(plan_text(1), seed=956, reference_policy="pinned"))
