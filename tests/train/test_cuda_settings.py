"""What a recipe asks of GPUs is what torch is told."""

import os
import subprocess
import sys

import pytest

PROBE = """
import os, torch
from puna.train.cuda import CudaSettings, prepare
prepare(CudaSettings({0}))
print(torch.get_float32_matmul_precision(), torch.backends.cuda.flash_sdp_enabled(),
      torch.backends.cuda.cudnn_sdp_enabled(), torch.are_deterministic_algorithms_enabled(),
      os.environ.get("CUBLAS_WORKSPACE_CONFIG"), os.environ["PYTORCH_CUDA_ALLOC_CONF"])
"""


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("", "high True True False None expandable_segments:True"),
        (
            "tf32=False, attention='cudnn', deterministic=True",
            "highest False True True :4096:8 expandable_segments:True",
        ),
    ],
)
def test_gpus_are_told_what_the_recipe_says(asked, told):
    unset = {"CUBLAS_WORKSPACE_CONFIG", "PYTORCH_CUDA_ALLOC_CONF"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-W", "error", "-c", PROBE.format(asked)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == told.split(), done.stderr
