"""What points at a person is masked whatever stands around it, and numbers that only look so are left alone."""

import ipaddress
import re
import string

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.filters.pii import IBAN_LENGTH, PRIVATE, Pii, PiiGate, luhn
from tests.data.filter_rows import HOSTILE, of_texts, reasons

FOUND = {
    "email": ["joe.doe@corp.co.uk", "a_b+c%d-e@x-y.museum", "O'Neil@mail.ie", "x@xn--bcher-kva.de", "1@2.fr"],
    "ip": ["93.184.216.34", "203.0.112.1", "2a00:1450:4001:82b::200e", "2607:F8B0:4005:805:0:0:0:200E"],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "FR14 2004 1010 0505 0001 3M02 606", "NO93-8601-1117-947"],
    "card": ["4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "3782 822463 10005", "6011111111111117", "30569309025904"],
    "ssn": ["123-45-6789", "078-05-1120"],
    "phone": ["(212) 555-0123", "212-555-0123", "212.555.0123", "1-800-555-0199", "+1 212 555 0123", "+12125550123", "+49 30 1234567", "+44 (0)20 7946 0958",
              "0049 30 1234567", "020 7946 0958", "07700 900123", "01 23 45 67 89", "06.12.34.56.78", "030/1234567", "0171 1234567", "089-12345678",
              "03-1234-5678", "090-1234-5678", "(11) 91234-5678", "138-1234-5678", "+7 495 123-45-67", "+86 138 1234 5678"],
}  # fmt: skip
LEFT = [
    "logo@2x.png", "git@github.com:a/b.git", "someone@example.com", "user@host.local", "npm i pkg@1.2.3", "a@b.c", "@handle", "x @ y.com", "a..b@c", "@media.print",
    "192.168.1.1", "10.1.2.3", "127.0.0.1", "172.16.5.4", "169.254.1.1", "224.0.0.1", "255.255.255.255", "192.0.2.55", "0.0.0.0", "256.100.20.30",
    "v2.10.13.4", "version 91.20.44.12", "Firefox/93.18.21.34", "pkg==10.20.30.41", ">=12.20.30.41", "1.2.3.4", "1.3.6.1.4.1.311.21", "12.34.56.78-beta", "01.02.03.04", "section 4.10.11.12", "93.184.216.0/24", "2620:4f:8000::/48", "4220315081820346526",
    "2001:db8::1", "fe80::1", "::1", "12:30:45", "00:1b:44:11:3a:b7", "std::vector", "2023:11:21 10:30:00", "2001::",
    "DE89 3704 0044 0532 0130 01", "GB29NWBK60161331926818", "XX8937040044053201300", "ISO 9001 2015",
    "4111 1111 1111 1112", "4111-1111 1111 1111", "1234567890123456", "0.4111111111111111", "41111111111111111", "41 111111 1111 111 1", "3.14159265358979323846",
    "000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "1123-45-6789", "123-45-67890",
    "978-3-16-148410-0", "0-306-40615-2", "ISBN 9783161484100", "ISSN 0317-8471", "10.1000/182.12345", "arXiv:2407.21783",
    "2023-11-21", "21.11.2023", "11/21/2023", "2023-11-21T10:30:00+02:00", "20231121103000", "1700562600", "1700562600123", "1999-2003", "call 2023-11-21",
    "3.141592653589", "1,234,567.89", "1 234 567", "612 345 678", "12345678", "123-456-7890 123", "123.456.7890", "100-200-3000", "1.800.555", "+1234", "+0200", "x+1234567890",
    "01 02 03 04 05", "$212-555-0123", "ID 212-555-01234", "0123456789", "550e8400-e29b-41d4-a716-446655440000", "0xdeadbeef", "#02079460958", "2-3-4-5", "192-168-001-001",
]  # fmt: skip


def masked(text, **kinds):
    return Pii(**kinds)(of_texts(text))["text"][0].as_py()


@pytest.mark.parametrize(("kind", "found"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
@pytest.mark.parametrize(
    "around", ["{}", "Write to {} today.", "<{}>, or not", "日本{}語", "x\n{}\n", "({})", '"{}";']
)
def test_each_kind_is_found_whatever_stands_around(kind, found, around):
    if kind == "email" and around.startswith("日"):
        found = found.lower()
    table = Pii()(of_texts(around.format(found)))
    assert table["text"][0].as_py() == around.format(f"[{kind.upper()}]")
    assert {k: table[f"pii.{k}"][0].as_py() for k in FOUND} == {k: int(k == kind) for k in FOUND}


@pytest.mark.parametrize("left", LEFT)
def test_what_only_looks_so_is_left_alone(left):
    for text in (left, f"see {left}, then", f"({left})"):
        assert masked(text) == text


def test_a_number_that_one_is_asked_to_call_is_a_telephone():
    for text in (
        "Tel.: {}",
        "phone {}",
        "Fax (office) {}",
        "WhatsApp: {}",
        "тел. {}",
        "电话：{}",
        "téléphone : {}",
    ):
        assert masked(text.format("612 345 678")) == text.format("[PHONE]")
    assert masked("hotel 612 345 678") == "hotel 612 345 678"
    assert masked("ping 8.8.8.8 and http://9.9.9.9/") == "ping [IP] and http://[IP]/"


def test_several_in_one_text_are_all_masked_and_counted():
    text = "DE89 3704 0044 0532 0130 00 GB29NWBK60161331926819; 4111 1111 1111 1112 378282246310005 a@b.de,c@d.fr 4111 1111 1111 1111 123"
    table = Pii()(of_texts(text, "nothing", ""))
    assert table["text"].to_pylist() == [
        "[IBAN] [IBAN]; 4111 1111 1111 1112 [CARD] [EMAIL],[EMAIL] [CARD] 123",
        "nothing",
        "",
    ]
    assert [table[f"pii.{k}"].to_pylist() for k in ("iban", "card", "email")] == [[2, 0, 0]] * 3


def test_kinds_and_placeholders_are_the_recipes_choice():
    text = "a@b.de 93.184.216.34"
    assert masked(text, kinds=("ip",)) == "a@b.de [IP]"
    assert (
        masked(text, placeholders={"email": "somebody@example.com", "ip": "198.51.100.1"})
        == "somebody@example.com 198.51.100.1"
    )
    assert Pii(kinds=("ip",)).fingerprint() != Pii().fingerprint()


@settings(max_examples=40, deadline=None)
@given(st.text("abc. @日-", max_size=20), st.data())
def test_generated_ones_are_found_and_masking_twice_changes_nothing(around, data):
    account = data.draw(st.sampled_from(sorted(IBAN_LENGTH)))
    body = data.draw(
        st.text(
            string.ascii_uppercase + string.digits,
            min_size=IBAN_LENGTH[account] - 4,
            max_size=IBAN_LENGTH[account] - 4,
        )
    )
    check = 98 - int("".join(str(int(c, 36)) for c in body + account + "00")) % 97
    card = "4" + data.draw(st.text(string.digits, min_size=14, max_size=14))
    card += next(d for d in string.digits if luhn(card + d))
    number = data.draw(
        st.ip_addresses(v=4).filter(
            lambda a: a.is_global and not any(a in n for n in PRIVATE if n.version == 4)
        )
    )
    six = data.draw(st.integers(0, (1 << 112) - 1).map(lambda x: ipaddress.IPv6Address(0x2A00 << 112 | x)))
    local = data.draw(
        st.from_regex(r"[a-z0-9]([a-z0-9_+]|[.-][a-z0-9]){0,20}", fullmatch=True).filter(lambda x: x != "git")
    )
    secrets = {
        "iban": f"{account}{check:02}{body}",
        "card": card,
        "ip": f"//{number}",
        "email": f"{local}@mail.org",
        "ip6": str(six),
    }
    text = "; ".join([around, *secrets.values(), around])
    table = Pii(kinds=("email", "ip", "iban", "card"))(of_texts(text))
    once = table["text"][0].as_py()
    assert not [secret for secret in secrets.values() if secret.strip("/") in once]
    assert [table[f"pii.{kind}"][0].as_py() for kind in ("email", "ip", "iban", "card")] == [1, 2, 1, 1]
    assert once.replace("[", "").count("]") == 5 + text.count("]")
    assert masked(once) == once


@settings(max_examples=50, deadline=None)
@given(st.text(string.ascii_letters + " \n.,é日", max_size=200))
def test_text_without_digits_or_at_signs_is_never_touched(text):
    assert masked(text) == text


def test_luhn_agrees_with_its_textbook_form():
    def slowly(digits):
        total = 0
        for i, digit in enumerate(reversed(digits)):
            value = int(digit) * (1 + i % 2)
            total += value - 9 if value > 9 else value
        return total % 10 == 0

    assert all(luhn(str(n)) == slowly(str(n)) for n in range(1000, 9000, 7))


def test_the_rest_of_a_text_keeps_every_byte():
    text = "Größe 日本 " + "x" * 50 + " a@b.de \u200b tail\n"
    assert masked(text) == text.replace("a@b.de", "[EMAIL]")


def test_a_directory_of_people_goes():
    listing = "\n".join(f"Person {i}: p{i}@mail.org" for i in range(30))
    table = Pii()(of_texts(listing, "write to a@b.de", "prose " * 2000 + listing))
    assert reasons(PiiGate(), table) == ["pii.too_much", None, None]
    assert PiiGate()(table).values[0] > 10


def test_hostile_text_is_read_in_linear_time():
    table = Pii()(of_texts(*HOSTILE))
    assert len(table) == len(HOSTILE) and table["text"].type == pa.large_string()
    assert not re.search("EMAIL", table["text"][HOSTILE.index("a@" * 10_000)].as_py())
