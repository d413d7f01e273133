"""Every error that a user can meet, and `need`, which raises them: what is wrong, where, what to try.

PunaError                 a sentence the user can act on; exit code 2 (bad input)
├── ConfigError           a setting or a model's config.json
├── WeightsError          a weights file: safetensors, .pth, GGUF
├── TokenizerError        a vocabulary or a chat template
├── DataError             documents, conversations, shards
├── HardwareError         too little memory, no such device; exit code 1 (failed)
└── RequestError          a request to the engine or the server; carries the HTTP status
"""


class PunaError(Exception):
    exit_code = 2


class ConfigError(PunaError):
    pass


class WeightsError(PunaError):
    pass


class TokenizerError(PunaError):
    pass


class DataError(PunaError):
    pass


class HardwareError(PunaError):
    exit_code = 1


class RequestError(PunaError):
    """`code` and `param` are OpenAI's: a short name of the problem, and the field that has it."""

    def __init__(self, message: str, status: int = 400, code: str = "", param: str = ""):
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


def need(condition: object, problem: str, fix: str = "", error: type[PunaError] = PunaError) -> None:
    """Stop with a sentence the user can act on. For mistakes a user can make; `assert` is for ours."""
    if not condition:
        raise error(problem + (f"\n  try: {fix}" if fix else ""))
