"""A judge behind a real OpenAI-compatible HTTP server, answering by the form that it is asked to fill in."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

Answer = Callable[[str], str | None]
"""Text of a question -> reply, or None for a failed call."""


def lot(text: str, sides: int) -> int:
    """A fixed throw of a die, so that every run of a test sees the same judge."""
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % sides


def scripted(text: str) -> str:
    """A readable reply to any of the benchmarks' questions; marks are thrown by the question's text."""
    if '"criteria_met"' in text:
        return json.dumps({"criteria_met": lot(text, 2) == 0, "explanation": "thrown"})
    if "Consistency: n" in text:
        return f"Consistency: {lot(text, 3)}\nRealism: {lot(text + 'r', 3)}\nAesthetic Quality: 1"
    if "Final Score: n" in text:
        return f"Because.\n**Final Score:** **{lot(text, 2) if '0 or 1' in text else 3 + lot(text, 3)}**"
    if "Score: n" in text:
        return f"Score: {lot(text, 2)}"
    if '"pictures"' in text:
        hidden = len(re.findall(r"<picture \d+>", text.split("OUTPUT:")[-1]))
        return json.dumps({"pictures": [f"thing {n}" for n in range(hidden)]})
    if '"style_consistency"' in text:
        names = ("style", "entity", "trend", "overall")
        marks = {f"{n}_consistency": 5 + lot(text + n, 6) for n in names}
        return json.dumps(marks | {"completeness": lot(text, 11), "image_quality": 8})
    if '"fidelity"' in text:
        return json.dumps({"completeness": 8, "fidelity": lot(text, 11)})
    if '"overall_score"' in text:
        return json.dumps({"overall_score": lot(text, 11)})
    marks = 1 if "[n]" in text else 2
    return json.dumps({"score": [lot(text + str(n), 11) for n in range(marks)], "reasoning": "thrown"})


@dataclass
class JudgeServer:
    """`answer` may be replaced; `delay`: seconds a reply takes; `asked`: the questions' texts in order."""

    endpoints: Path
    answer: Answer = scripted
    delay: float = 0.0
    asked: list[str] = field(default_factory=list)
    pictures: list[int] = field(default_factory=list)

    @property
    def options(self) -> list[str]:
        return ["--judge", "endpoint:judge", "--endpoints", str(self.endpoints)]


@pytest.fixture
def judge_server(tmp_path: Path) -> Iterator[JudgeServer]:
    state = JudgeServer(tmp_path / "endpoints.json")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.close_connection = True
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            parts = [
                p for m in body["messages"] for p in ([m["content"]] if isinstance(m["content"], str) else m["content"])
            ]
            text = "\n".join(p if isinstance(p, str) else p.get("text", "") for p in parts)
            state.asked.append(text)
            state.pictures.append(sum(isinstance(p, dict) and p["type"] == "image_url" for p in parts))
            time.sleep(state.delay)
            reply = state.answer(text)
            if reply is None:
                return self.send(400, "application/json", b'{"error": {"message": "no"}}')
            events = [{"role": "assistant", "content": reply}, {}]
            lines = [
                {"id": "1", "object": "chat.completion.chunk", "model": "m", "choices": [
                    {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
                ]}
                for delta in events
            ]  # fmt: skip
            data = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
            self.send(200, "text/event-stream", data.encode())

        def send(self, status: int, kind: str, data: bytes) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                pass

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = http.server_address[1]
    endpoint = {"judge": {"base_url": f"http://127.0.0.1:{port}/v1", "model": "judge"}}
    state.endpoints.write_text(json.dumps(endpoint), encoding="utf-8")
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    yield state
    http.shutdown()
    http.server_close()
