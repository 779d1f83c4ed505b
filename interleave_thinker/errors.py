"""Errors that are meant for the user: each names the value that is wrong and what to do about it.

InterleaveError
├── PlanError        a plan that cannot be executed
├── AgentError       a chat model that cannot be loaded, reached or understood
├── GeneratorError   a picture that could not be made
├── RunError         a run folder or attempt store that cannot be used
└── ConfigError      a setting, a prompt file or an endpoint that is missing or wrong
"""


class InterleaveError(Exception):
    """Base of all errors raised on purpose; `str(error)` is shown to the user as it is."""


class PlanError(InterleaveError):
    pass


class AgentError(InterleaveError):
    pass


class GeneratorError(InterleaveError):
    pass


class RunError(InterleaveError):
    pass


class ConfigError(InterleaveError):
    pass
