"""The torch-free rooms really import without torch: not by reading the code but by importing it in a fresh
process.
"""

import subprocess
import sys
from pathlib import Path

import puna
from tests.house.rules import TORCH_FREE, Package

PROBE = """
import importlib, sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'torch':
            raise ImportError('torch was imported')
sys.meta_path.insert(0, NoTorch())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_torch_free_rooms_import_without_torch():
    package = Package(Path(puna.__file__).parent)
    free = [
        name
        for name in package.modules
        if name
        and (package.room(name) == "root" or any(f"{name}.".startswith(f"{room}.") for room in TORCH_FREE))
    ]
    names = [f"puna.{name}" for name in free if not name.endswith("__main__")]
    assert len(names) > 8
    done = subprocess.run([sys.executable, "-c", PROBE, *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
