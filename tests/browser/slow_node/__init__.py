"""Custom nodes of the test server: a picture that is not ready before the test says so, as a slow sampler's, and an
agent that writes as slowly as a big model's.

With them a run is met in its middle however fast the machine and however slow the page.
"""

import dataclasses
import time
from pathlib import Path

import comfy.model_management
import folder_paths

HOLD = "hold_from_step"
"""A file in the output folder with the number of the first step that waits; none waits where it is missing."""


class HoldPicture:
    CATEGORY = "tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "hold"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"image": ("IMAGE",), "step": ("INT", {"forceInput": True})}}

    def hold(self, image, step):
        file = Path(folder_paths.get_output_directory()) / HOLD
        while file.is_file() and step >= int(file.read_text() or 1):
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.05)
        return (image,)


class SlowAgent:
    CATEGORY = "tests"
    RETURN_TYPES = ("INTERLEAVE_AGENT",)
    FUNCTION = "slow"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"agent": ("INTERLEAVE_AGENT",)}}

    def slow(self, agent):
        return (dataclasses.replace(agent, agent=Slowly(agent.agent)),)


class Slowly:
    def __init__(self, agent):
        self._agent = agent

    def __getattr__(self, name):
        return getattr(self._agent, name)

    def complete(self, messages, sampling, on_text=None):
        def slowly(text):
            time.sleep(0.02)
            return on_text is None or on_text(text)

        return self._agent.complete(messages, sampling, slowly)


NODE_CLASS_MAPPINGS = {"TestHoldPicture": HoldPicture, "TestSlowAgent": SlowAgent}
