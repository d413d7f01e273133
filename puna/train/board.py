"""The records of a run where TensorBoard reads them: a listener, while it trains or afterwards."""

from pathlib import Path
from types import TracebackType
from typing import Any

from puna.errors import ConfigError
from puna.train.history import measured

STEP = ("loss", "gradient", "rate", "tokens_s", "memory", "data_s")  # of a step's record


class Board:
    """Writes what it is told into a folder, until it is left."""

    def __init__(self, folder: Path):
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            fix = "pip install 'puna[train]', or --tensorboard false"
            raise ConfigError(f"tensorboard is not installed\n  try: {fix}") from None
        self.writer = EventFileWriter(str(folder))

    def __enter__(self) -> "Board":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()

    def __call__(self, record: dict[str, Any]) -> None:
        step, when = record.get("step", 0), record.get("time", 0.0)
        if record["event"] == "step":
            self._numbers({name: record[name] for name in STEP if name in record}, step, when)
            self._numbers({"left out": float(bool(record["skipped"]))}, step, when)
        elif record["event"] == "judged":
            found = {f"bits_per_byte/{name}": bits for name, bits in record["bits_per_byte"].items()}
            self._numbers(found, step, when)
        elif record["event"] == "sample":
            self._text(record["prompt"], record["prompt"] + record["text"], step, when)
        elif record["event"] == "statistics":
            for kind, values in measured(record).items():
                self._numbers({f"{kind}/{name}": value for name, value in values.items()}, step, when)

    def _numbers(self, values: dict[str, float], step: int, when: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        said = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self.writer.add_event(Event(wall_time=when, step=step, summary=Summary(value=said)))

    def _text(self, name: str, text: str, step: int, when: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.plugins.text.metadata import create_summary_metadata

        tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()])
        about = create_summary_metadata(display_name=f"sample/{name}", description="")
        value = Summary.Value(tag=f"sample/{name}", tensor=tensor, metadata=about)
        self.writer.add_event(Event(wall_time=when, step=step, summary=Summary(value=[value])))
