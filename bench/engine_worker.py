"""One engine in a process of its own, for bench/engines.py: it opens a model and answers over pipes.

    python -P bench/engine_worker.py NAME            tells what is installed, as JSON
    python -P bench/engine_worker.py NAME FOLDER     makes of the Hugging Face folder what the engine opens
    python -P bench/engine_worker.py NAME MODEL THREADS CONTEXT TOGETHER

The last says that it has opened the model, then answers a line of JSON for each line: first, steps, peak. It
runs in the engine's own environment, whose packages may not fit ours, so nothing of puna is imported here but
by our two sides. Each engine is asked as its own documents say, is given no chance to remember a prompt, and
writes all the tokens it is asked for. Only its steps are timed; no text is made.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

Ids = Sequence[int]
BATCH = 512  # tokens of prompts read at once, where one may say


class Opened(Protocol):
    """As puna.engine.speed.Side: seconds, as whoever asks sees them."""

    def first(self, ids: Ids) -> float: ...

    def steps(self, prompts: Sequence[Ids], count: int) -> float: ...


class Told:
    """An engine of which we know when its tokens came."""

    def first(self, ids: Ids) -> float:
        begun = time.perf_counter()
        return self.times([ids], 1)[0] - begun

    def steps(self, prompts: Sequence[Ids], count: int) -> float:
        return statistics.median(b - a for a, b in pairwise(self.times(prompts, count + 1)))

    def times(self, prompts: Sequence[Ids], count: int) -> list[float]:
        """When each step that wrote a token of every prompt was over."""
        raise NotImplementedError


def open_puna(model: str, threads: int, context: int, together: int) -> Any:
    from puna.engine.speed import Ours

    return Ours(model, threads, context, together)


def open_llama_cpp(model: str, threads: int, context: int, together: int) -> Any:
    from puna.engine.peer import LlamaCpp

    return LlamaCpp(model, threads, context, together)


class IkLlamaCpp:
    """Through the C interface, as peer.LlamaCpp: nobody looks at its logits.

    Its flash attention is faster, but ends the process at a step of several sequences: those get a context
    without it.
    """

    def __init__(self, model: str, threads: int, context: int, together: int):
        from ik_llama_cpp import _ctypes_api as api

        self.api = api
        api.llama_backend_init()
        self.model = api.llama_model_load_from_file(model.encode(), api.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"ik_llama.cpp could not open {model}")
        self.alone, self.several = (self._context(threads, context, count) for count in (1, together))
        self.batch = api.llama_batch_init(BATCH, 0, 1)

    def first(self, ids: Ids) -> float:
        self.api.llama_kv_cache_clear(self.alone)
        return self._seconds(self.alone, [ids], 0)

    def steps(self, prompts: Sequence[Ids], count: int) -> float:
        context, held = self.alone if len(prompts) == 1 else self.several, len(prompts[0])
        self.api.llama_kv_cache_clear(context)
        for number, ids in enumerate(prompts):
            self._seconds(context, [ids], 0, number)
        return statistics.median(
            self._seconds(context, [[ids[n % held]] for ids in prompts], held + n) for n in range(count)
        )

    def _context(self, threads: int, tokens: int, together: int) -> Any:
        given = self.api.llama_context_default_params()
        given.n_ctx, given.n_seq_max, given.flash_attn = together * tokens, together, together == 1
        given.n_batch = given.n_ubatch = BATCH
        given.n_threads = given.n_threads_batch = threads
        context = self.api.llama_init_from_model(self.model, given)
        if not context:
            raise RuntimeError(f"ik_llama.cpp has no room for {together} x {tokens} tokens")
        return context

    def _seconds(self, context: Any, sequences: Sequence[Ids], held: int, first: int = 0) -> float:
        batch, row = self.batch, 0
        for number, ids in enumerate(sequences, first):
            for place, id in enumerate(ids, held):
                batch.token[row], batch.pos[row], batch.n_seq_id[row] = id, place, 1
                batch.seq_id[row][0], batch.logits[row] = number, place == held + len(ids) - 1
                row += 1
        batch.n_tokens = row
        begun = time.perf_counter()
        answer = self.api.llama_decode(context, batch)
        if answer:
            raise RuntimeError(f"llama_decode of {row} tokens answered {answer}")
        return time.perf_counter() - begun


class OpenVino(Told):
    """Its own scheduler, step by step; it turns the GGUF file into its int4 while it opens it."""

    def __init__(self, model: str, threads: int, context: int, together: int):
        import openvino_genai

        self.api, scheduler = openvino_genai, openvino_genai.SchedulerConfig()
        scheduler.max_num_batched_tokens = max(BATCH, together)
        scheduler.enable_prefix_caching = False
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(
            model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads}
        )

    def times(self, prompts: Sequence[Ids], count: int) -> list[float]:
        import numpy as np
        from openvino import Tensor

        wanted = self.api.GenerationConfig()
        wanted.max_new_tokens = wanted.min_new_tokens = count
        wanted.do_sample, wanted.ignore_eos = False, True
        inputs = [Tensor(np.array([ids], np.int64)) for ids in prompts]
        handles = [self.pipeline.add_request(n, ids, wanted) for n, ids in enumerate(inputs)]
        times = []
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
            times.append(time.perf_counter())
        wrote = {len(output.generated_ids) for handle in handles for output in handle.read_all()}
        assert wrote == {count}, f"wrote {wrote} tokens, not {count}"
        return times[-count:]  # before them the prompts were read


class OnnxRuntime(Told):
    """Its builder's int4, and its loop of one token for all."""

    def __init__(self, model: str, threads: int, context: int, together: int):
        import onnxruntime_genai

        self.api, config = onnxruntime_genai, onnxruntime_genai.Config(model)
        options = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": options}}))
        self.model = onnxruntime_genai.Model(config)

    def times(self, prompts: Sequence[Ids], count: int) -> list[float]:
        import numpy as np

        wanted, held = self.api.GeneratorParams(self.model), len(prompts[0]) + count
        wanted.set_search_options(do_sample=False, batch_size=len(prompts), min_length=held, max_length=held)
        generator, times = self.api.Generator(self.model, wanted), []
        generator.append_tokens(np.array(prompts, np.int32))
        while len(times) < count:
            generator.generate_next_token()
            times.append(time.perf_counter())
        return times

    @staticmethod
    def prepare(folder: str, out: str) -> None:
        builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
        _run([*builder, "-m", folder, "-o", out, "-p", "int4", "-e", "cpu", "-c", f"{out}.cache"])


class CTranslate2(Told):
    """Its converter's int8; its words are texts."""

    def __init__(self, model: str, threads: int, context: int, together: int):
        import ctranslate2

        self.words = json.loads(Path(model, "vocabulary.json").read_text())
        self.model = ctranslate2.Generator(model, device="cpu", intra_threads=threads, inter_threads=1)

    def times(self, prompts: Sequence[Ids], count: int) -> list[float]:
        times: list[float] = []

        def take(step: Any) -> bool:
            if step.batch_id == len(prompts) - 1:
                times.append(time.perf_counter())
            return False

        done = self.model.generate_batch(
            [[self.words[id] for id in ids] for ids in prompts],
            min_length=count,
            max_length=count,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=take,
        )
        assert {len(text.sequences_ids[0]) for text in done} == {count} == {len(times)}
        return times

    @staticmethod
    def prepare(folder: str, out: str) -> None:
        converter = [sys.executable, "-m", "ctranslate2.converters.transformers"]
        _run([*converter, "--model", folder, "--quantization", "int8", "--output_dir", out])


class Transformers(Told):
    """Its model in bfloat16 with its own cache, without the cost of its `generate`."""

    def __init__(self, model: str, threads: int, context: int, together: int):
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self.torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval()

    def times(self, prompts: Sequence[Ids], count: int) -> list[float]:
        ids, cache, times = self.torch.tensor(prompts), None, []
        with self.torch.inference_mode():
            while len(times) < count:
                told = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                ids, cache = told.logits[:, -1:].argmax(-1), told.past_key_values
                times.append(time.perf_counter())
        return times


class Vllm(Told):
    """The CPU build, in this process, step by step, without its prefix cache."""

    def __init__(self, model: str, threads: int, context: int, together: int):
        os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
        import vllm

        self.api = vllm
        self.engine = vllm.LLM(
            model,
            dtype="bfloat16",
            skip_tokenizer_init=True,
            max_model_len=context,
            max_num_seqs=together,
            max_num_batched_tokens=max(BATCH, context),
            enable_prefix_caching=False,
        ).llm_engine
        self.asked = 0

    def times(self, prompts: Sequence[Ids], count: int) -> list[float]:
        wanted = self.api.SamplingParams(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False)
        for ids in prompts:
            self.engine.add_request(str(self.asked), {"prompt_token_ids": list(ids)}, wanted)
            self.asked += 1
        times = []
        while self.engine.has_unfinished_requests():
            told = self.engine.step()
            if len(told) == len(prompts):
                times.append(time.perf_counter())
        assert len(times) >= count and len(told[0].outputs[0].token_ids) == count
        return times


OPENERS: dict[str, tuple[str, Callable[[str, int, int, int], Opened]]] = {  # by name: package, opener
    "puna": ("puna", open_puna),
    "llama.cpp": ("llama-cpp-python", open_llama_cpp),
    "ik_llama.cpp": ("ik-llama-cpp-python", IkLlamaCpp),
    "openvino-genai": ("openvino-genai", OpenVino),
    "onnxruntime-genai": ("onnxruntime-genai", OnnxRuntime),
    "ctranslate2": ("ctranslate2", CTranslate2),
    "transformers": ("transformers", Transformers),
    "vllm": ("vllm-cpu", Vllm),
}


def peak_memory() -> int:
    """Bytes at most since this program began: getrusage would count what its parent had held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def answer(side: Opened, asked: dict[str, Any]) -> float:
    if asked["do"] == "first":
        return side.first(asked["prompts"][0])
    if asked["do"] == "steps":
        return side.steps(asked["prompts"], asked["count"])
    return peak_memory()


def serve(name: str, model: str, threads: int, context: int, together: int, out: Any) -> None:
    """An error answers its own question only."""

    def tell(**told: Any) -> None:
        out.write(json.dumps(told) + "\n")
        out.flush()

    try:
        begun = time.perf_counter()
        side = OPENERS[name][1](model, threads, context, together)
        tell(answer=time.perf_counter() - begun)
    except Exception as error:
        return tell(error=_said(error))
    for line in sys.stdin:
        try:
            tell(answer=answer(side, json.loads(line)))
        except Exception as error:
            tell(error=_said(error))
    if hasattr(side, "close"):
        side.close()


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip()[:500]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


def main() -> None:
    out = os.fdopen(os.dup(1), "w")  # for answers alone: what an engine prints goes where its errors go
    os.dup2(2, 1)
    name, *given = sys.argv[1:]
    package, opener = OPENERS[name]
    if not given:
        told: dict[str, Any] = {"package": package, "prepares": hasattr(opener, "prepare")}
        with suppress(PackageNotFoundError):
            told["version"] = version(package)
            if name == "ik_llama.cpp":  # its wheel knows AVX2 alone
                told["version"] += ", built here" if "IK_LLAMA_CPP_LIB_PATH" in os.environ else ", AVX2 wheel"
        out.write(json.dumps(told))
    elif len(given) == 2:
        opener.prepare(*given)  # type: ignore[attr-defined]
    else:
        model, *numbers = given
        serve(name, model, *map(int, numbers), out)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
