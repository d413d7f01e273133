"""Settings are data: frozen, typed, and an unknown key is an error that names the nearest known one."""

import difflib
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from puna.errors import ConfigError


class Settings(BaseModel):
    """The base of every setting in Puna."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    @classmethod
    def read(cls, values: dict[str, Any], where: str) -> Self:
        """Settings from plain values; ConfigError says which value is wrong and where it came from."""
        try:
            return cls.model_validate(values)
        except ValidationError as failure:
            raise ConfigError("\n".join(cls._sentence(e, where) for e in failure.errors())) from None
        except ConfigError as problem:  # from a validator's own need()
            raise ConfigError(f"{where}: {problem}") from None

    @classmethod
    def _sentence(cls, error: Any, where: str) -> str:
        key = ".".join(str(part) for part in error["loc"])
        if error["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, cls.model_fields, n=1)
            return f"{where}: unknown setting {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        said = error["msg"].removeprefix("Value error, ")
        return f"{where}: {key}: {said}" if key else f"{where}: {said}"
