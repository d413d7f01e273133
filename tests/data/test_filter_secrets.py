"""Keys are told by their form, values by how random they look; examples and headings are left alone.

The keys are put together here, so that no scanner takes this file for a leak.
"""

import random
import string

import pytest

from puna.data.filters.secrets import Secrets, SecretsGate, entropy
from tests.data.filter_rows import HOSTILE, of_texts, reasons

LETTERS = string.ascii_letters + string.digits
DICE = random.Random(5)


def some(count, letters=LETTERS):
    return "".join(DICE.choice(letters) for _ in range(count))


BLOCK = (
    "-----BEGIN {0}PRIVATE KEY-----\n"
    + "\n".join(some(64) for _ in range(12))
    + "\n-----END {0}PRIVATE KEY-----"
)
KEYS = [
    "AK" + "IA" + some(16, string.ascii_uppercase + "234567"),
    "AI" + "za" + some(35),
    "GOC" + "SPX-" + some(28),
    "gh" + "p_" + some(36),
    "github" + "_pat_" + some(22) + "_" + some(59),
    "glp" + "at-" + some(20),
    "xo" + "xb-" + some(40),
    "hooks.slack" + ".com/services/T" + some(9, "ABCDEF012") + "/B" + some(9, "ABCDEF012") + "/" + some(24),
    "sk_" + "live_" + some(24),
    "sk-" + "proj-" + some(30) + "T3Blbk" + "FJ" + some(30),
    "sk-" + "ant-api03-" + some(95),
    "hf" + "_" + some(34, string.ascii_letters),
    "np" + "m_" + some(36),
    "pypi" + "-AgEIcHlwaS5vcmc" + some(60),
    "S" + "G." + some(22) + "." + some(43),
    "S" + "K" + some(32, "0123456789abcdef"),
    "Account" + "Key=" + some(86) + "==",
    "ey" + "J" + some(20) + ".ey" + "J" + some(60) + "." + some(43),
    BLOCK.format(""),
    BLOCK.format("RSA "),
    BLOCK.format("OPENSSH "),
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:9].replace("\n", ""))
def test_a_key_is_masked_wherever_it_stands(key):
    for around in ("{}", "key: {}\nnext", '"{}",', "日本 {} 語", "A={};"):
        table = Secrets()(of_texts(around.format(key), "nothing"))
        assert table["text"].to_pylist() == [around.format("[KEY]"), "nothing"]
        assert table["pii.key"].to_pylist() == [1, 0]


@pytest.mark.parametrize(
    "name", ["api_key", "API_KEY", "secret", "client_secret", "password", "authToken", "access_key_id"]
)
def test_what_is_assigned_to_a_telling_name_is_masked_if_it_looks_random(name):
    value = "q8Zr2LmX0vT5wK9bJd3s"
    for form in ('{} = "{}"', "{}: '{}'", "'{}' => '{}'", '"{}": "{}"', '{}="{}"'):
        text = form.format(name, value)
        assert Secrets()(of_texts(text))["text"][0].as_py() == form.format(name, "[KEY]")
        assert Secrets(assigned=False)(of_texts(text))["text"][0].as_py() == text


@pytest.mark.parametrize(
    "text",
    [
        "AK" + "IA" + "X" * 16,
        "AK" + "IA" + "ABCDEFG",
        "gh" + "p_" + "x" * 36,
        "gh" + "p_short",
        "sk-learn and sk-toolkit",
        "password = 'changeme-changeme'",
        "password = 'correct-horse-battery-staple'",
        "secret: 'aaaaaaaa11111111'",
        "api_key = os.environ['API_KEY_OF_THE_SERVICE_1']",
        "token = 'short1'",
        "The line -----BEGIN PRIVATE KEY----- opens the file.",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "-----BEGIN PUBLIC KEY-----\n" + "Ab1+" * 30 + "\n-----END PUBLIC KEY-----",
        "d41d8cd98f00b204e9800998ecf8427e",
    ],
)
def test_examples_headings_and_checksums_are_left_alone(text):
    table = Secrets()(of_texts(text))
    assert table["text"][0].as_py() == text and table["pii.key"][0].as_py() == 0


def test_entropy_is_bits_per_character():
    assert entropy(b"aaaa") == 0 and entropy(b"ab") == 1 and entropy(b"abcdefgh") == 3
    assert entropy(b"aab") == pytest.approx(0.918, abs=1e-3)


def test_masking_twice_changes_nothing_and_the_placeholder_is_the_recipes_choice():
    once = Secrets(placeholder="<gone>")(of_texts(" ".join(KEYS)))
    assert once["text"][0].as_py() == " ".join(["<gone>"] * len(KEYS))
    assert Secrets()(once.drop_columns("pii.key"))["text"] == once["text"]


def test_a_dump_of_keys_goes():
    table = Secrets()(of_texts("\n".join(KEYS), KEYS[0], ""))
    assert reasons(SecretsGate(), table) == ["secrets.keys", None, None]
    assert SecretsGate()(table).values[0] == len(KEYS)


def test_hostile_text_is_read_in_linear_time():
    assert len(Secrets()(of_texts(*HOSTILE))) == len(HOSTILE)
