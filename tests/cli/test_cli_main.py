"""The border of the process: exit codes, sentences instead of tracebacks, and a quick start."""

import subprocess
import sys
import time

import pytest
from terminal import environment

from puna import __version__
from puna.cli import main as command
from puna.cli.main import main
from puna.errors import HardwareError, PunaError


def run(*words, **more):
    return subprocess.run(
        [sys.executable, "-m", "puna.cli.main", *words], capture_output=True, text=True, timeout=60, **more
    )


@pytest.fixture(autouse=True)
def hook(monkeypatch):
    """`main` takes over the hook for what nobody foresaw; give it back."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.fixture
def verb(monkeypatch):
    """A verb that does what a test says."""

    def make(does):
        module = type(sys)("puna.cli.trial")
        module.trial = lambda: does()
        monkeypatch.setitem(sys.modules, "puna.cli.trial", module)
        monkeypatch.setitem(command.VERBS, "trial", ("A trial.", "puna trial"))

    return make


def fail_with(error):
    def does():
        raise error

    return does


def test_help_comes_at_once_and_without_heavy_imports(tmp_path):
    took = []
    for _ in range(3):
        started = time.monotonic()
        done = run("--help", env=environment(tmp_path))
        took.append(time.monotonic() - started)
    assert min(took) < 1.0  # 0.12 s on an idle core; other work may run beside this test
    assert done.returncode == 0 and "chat" in done.stdout and "serve" in done.stdout
    code = "import sys; from puna.cli.main import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(tmp_path)
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "cyclopts" in loaded and not loaded & {"torch", "numpy", "pydantic", "prompt_toolkit", "jinja2"}


@pytest.mark.parametrize("name", command.VERBS)
def test_every_verb_has_help_with_an_example_and_no_torch(name, capsys):
    assert main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "For example:" in shown and f"puna {name}" in shown
    code = f"import sys; from puna.cli.main import main; main([*'{name}'.split(), '--help'])"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"puna {__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chta"], "chat"),
        (["chat", "--temperatur", "1"], "--temperature"),
        (["--halp"], "--halp"),
        (["chat", "--temperature", "warm"], "warm"),
        (["chat", "--threads", "0"], "--threads"),
        (["chat", "smollm2", "why"], "'why'"),
        (["chat", "-p"], "-p"),
        (["chat", "--top-p", "1.5", "-p", "x"], "top_p"),
        (["chat", "--stop", "", "-p", "x"], "stop"),
        (["chat", "-p", "caf\udce9"], "--prompt: not UTF-8"),
        (["chat", "--file", "/no/such/file", "-p", "x"], "no such file"),
    ],
)
def test_bad_words_exit_with_2_and_say_what_is_wrong(words, said, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("puna: ") and said in err and "Traceback" not in err


def test_a_problem_is_a_sentence_and_its_own_exit_code(verb, capsys):
    verb(fail_with(PunaError("the file is short\n  try: another")))
    assert main(["trial"]) == 2
    assert capsys.readouterr().err == "puna: the file is short\n  try: another\n"
    verb(fail_with(HardwareError("too little memory")))
    assert main(["trial"]) == 1
    verb(fail_with(PermissionError(13, "Permission denied", "/x")))
    assert main(["trial"]) == 1
    assert capsys.readouterr().err.endswith("puna: /x: Permission denied\n")


def test_debug_shows_where_it_came_from(verb, capsys):
    verb(fail_with(PunaError("the file is short")))
    assert main(["trial", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_error_cannot_write_escape_sequences(verb, capsys):
    verb(fail_with(PunaError("architecture \x1b]0;owned\x07 is unknown")))
    assert main(["trial"]) == 2
    assert capsys.readouterr().err == "puna: architecture ]0;owned is unknown\n"


def test_an_interrupt_is_quiet_and_130(verb, capsys):
    verb(fail_with(KeyboardInterrupt()))
    assert main(["trial"]) == 130
    assert capsys.readouterr().err == ""


def test_a_bug_is_named_as_one(verb, capsys):
    verb(lambda: {}["missing"])
    with pytest.raises(KeyError) as bug:
        main(["trial"])
    sys.excepthook(KeyError, bug.value, bug.value.__traceback__)
    said = capsys.readouterr().err
    assert "KeyError: 'missing' (test_cli_main.py:" in said and "--debug" in said


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    code = (
        "import sys, types; from puna.cli import main as m\n"
        "t = types.ModuleType('puna.cli.trial'); t.trial = lambda: print('x' * 10**6)\n"
        "sys.modules['puna.cli.trial'] = t; m.VERBS['trial'] = ('', ''); sys.exit(m.main(['trial']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
    )
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_closed_streams_are_no_error(tmp_path):
    shell = f"{sys.executable} -m puna.cli.main --help >&- 2>&- <&-"
    assert subprocess.run(shell, shell=True, env=environment(tmp_path)).returncode == 0
