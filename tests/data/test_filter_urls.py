"""Addresses are taken apart as browsers do, and lists of millions of domains are answered from a few bytes each."""

import gzip
import hashlib
import tarfile
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.filters import urls as urls_module
from puna.data.filters.lists import stamps
from puna.data.filters.urls import Hosts, UrlLists, plain_host
from puna.errors import DataError
from tests.data.filter_rows import HOSTILE, of_urls, reasons

TAKEN_APART = {  # address: host, registered domain
    "https://www.example.com/a": ("www.example.com", "example.com"),
    "http://good.com@evil.co.uk:80/x?q#f": ("evil.co.uk", "evil.co.uk"),
    "http://user:pa@ss@a.b.com.br/": ("a.b.com.br", "b.com.br"),
    "http://evil.com\\@good.com/": ("evil.com", "evil.com"),
    "http://evil.com?@good.com/": ("evil.com", "evil.com"),
    "HTTPS://WWW.Example.COM.:8443/a/": ("www.example.com", "example.com"),
    "http:\\\\example.org\\x": ("example.org", "example.org"),
    "\t http://exa\nmple.org/ ": ("example.org", "example.org"),
    "http://2130706433/": ("127.0.0.1", "127.0.0.1"),
    "http://0x7f.1/": ("127.0.0.1", "127.0.0.1"),
    "http://0177.0.0.01/": ("127.0.0.1", "127.0.0.1"),
    "http://[2001:DB8::0:1]:8080/": ("[2001:db8::1]", "[2001:db8::1]"),
    "http://bücher.de/x": ("xn--bcher-kva.de", "xn--bcher-kva.de"),
    "http://xn--bcher-kva.de/x": ("xn--bcher-kva.de", "xn--bcher-kva.de"),
    "http://ｅｖｉｌ。com/": ("evil.com", "evil.com"),
    "http://%65vil.com/": ("evil.com", "evil.com"),
    "http://me.blogspot.com/": ("me.blogspot.com", "me.blogspot.com"),
    "http://a.me.github.io/": ("a.me.github.io", "me.github.io"),
    "http://github.io/": ("github.io", "github.io"),
    "http://localhost:8080/": ("localhost", "localhost"),
    "ftp://files.example.org/x": ("files.example.org", "example.org"),
    "http://1.2.3.4.5/": ("", ""),
    "http://256.1.1.1/": ("", ""),
    "http://a..b/": ("", ""),
    "http://a b.com/": ("", ""),
    "http:///": ("", ""),
    "http://" + "a" * 300 + ".com/": ("", ""),
    "http://example.com/" + "a" * 9000: ("", ""),
    "javascript:alert(1)": ("", ""),
    "path/to/a.txt": ("", ""),
    "C:\\path": ("", ""),
    "": ("", ""),
}


def test_hosts_and_domains_are_those_a_browser_goes_to():
    table = Hosts()(of_urls(*TAKEN_APART))
    found = zip(table["url.host"].to_pylist(), table["url.domain"].to_pylist(), strict=True)
    assert dict(zip(TAKEN_APART, found, strict=True)) == TAKEN_APART


def test_what_is_no_address_goes_and_a_path_stays():
    urls = [
        "http://a..b/",
        "http://256.1.1.1/",
        "http://x" + "y" * 9000,
        "ftp://a.b/c",
        "data:text/html,x",
        "src/a.py",
        "",
        "http://1.2.3.4/",
    ]
    assert reasons(UrlLists(), of_urls(*urls)) == [
        *["url.malformed"] * 3,
        "url.scheme",
        "url.scheme",
        None,
        None,
        None,
    ]
    assert reasons(UrlLists(ip_hosts=False), of_urls("http://0x1020304/", "http://a.com/")) == [
        "url.ip_host",
        None,
    ]


def test_a_domain_covers_what_is_below_it_and_a_host_itself_alone():
    gate = UrlLists(
        domains=("bad.com", "Bücher.de", "co.uk", "*.worse.org", "1.2.3.4"), hosts=("www.mixed.com",)
    )
    urls = ["http://bad.com/", "http://x.y.bad.com", "http://notbad.com/", "http://bad.com.org/", "http://www.bücher.de/",
            "http://fine.co.uk/", "http://co.uk/", "http://a.worse.org/", "http://www.mixed.com/", "http://a.www.mixed.com/", "http://16909060/"]  # fmt: skip
    d, h = "url.domain", "url.host"
    assert reasons(gate, of_urls(*urls)) == [d, d, None, None, d, None, d, d, h, None, d]


def test_a_listed_address_is_the_same_with_another_scheme_port_fragment_or_slash():
    gate = UrlLists(urls=("example.com/a/b", "http://WWW.example.com/x?q=1#there"))
    urls = [
        "https://example.com:443/a/b/#f",
        "http://www.example.com/x?q=1",
        "http://www.example.com/x?q=2",
        "http://example.com/a/B",
        "example.com/a/b",
    ]
    assert reasons(gate, of_urls(*urls)) == ["url.listed", "url.listed", None, None, None]


def test_words_of_an_address_are_whole_parts_are_not():
    gate = UrlLists(hard_words=("porn",), soft_words=("sex", "cam", "live"), parts=("hardcore",))
    urls = ["http://a.com/porn-x", "http://pornography.org/", "http://a.com/p%6Frn", "http://a.com/x_PORN.html", "http://a.com/sex/sex",
            "http://sex.com/live_cam", "http://a.com/h-a-r-d-core", "http://a.com/xhardcorex", "http://user:porn@a.com/"]  # fmt: skip
    verdict = gate(of_urls(*urls))
    assert [None if c < 0 else gate.reasons[c] for c in verdict.codes] == [
        "url.hard_word", None, "url.hard_word", "url.hard_word", None, "url.soft_words", "url.part", "url.part", None,
    ]  # fmt: skip
    assert verdict.values[5] == 3


def test_lists_come_from_files_and_what_these_say_is_in_the_fingerprint(tmp_path):
    plain, packed = tmp_path / "domains", tmp_path / "hosts.gz"
    plain.write_bytes(
        b"# a comment\r\nBad.com\r\n\n.worse.org\n b\xc3\xbccher.de\n\xff\xfe\n" + b"filler.net\n" * 10
    )
    packed.write_bytes(gzip.compress(b"one.host.com\n"))
    gate = UrlLists(domain_files=(str(plain),), host_files=(str(packed),))
    urls = [
        "http://a.bad.com/",
        "http://worse.org",
        "http://bücher.de",
        "http://one.host.com",
        "http://host.com",
    ]
    assert reasons(gate, of_urls(*urls)) == [*["url.domain"] * 3, "url.host", None]
    before = gate.fingerprint()
    assert before == UrlLists(domain_files=(str(plain),), host_files=(str(packed),)).fingerprint()
    plain.write_text("host.com\n")
    assert gate.fingerprint() != before
    assert reasons(gate, of_urls(*urls)) == [None, None, None, "url.domain", "url.domain"]


def long_list(path, count=60_000):
    path.write_text("".join(f"host-number-{i}.example.org\n" for i in range(count)))
    return UrlLists(domain_files=(str(path),))


def test_a_long_list_is_compiled_once_and_mapped_by_whoever_comes_later(tmp_path):
    gate, urls = (
        long_list(tmp_path / "domains"),
        ["http://a.host-number-7.example.org/", "http://example.org/"],
    )
    assert reasons(gate, of_urls(*urls)) == ["url.domain", None]
    (made,) = tmp_path.glob("domains.*.npy")
    assert np.load(made).tolist() == sorted(set(np.load(made).tolist())) and len(np.load(made)) == 60_000
    before, told = made.stat().st_mtime_ns, gate.fingerprint()
    urls_module._hosts.cache_clear()
    assert reasons(gate, of_urls(*urls)) == ["url.domain", None]
    (mapped,) = urls_module._hosts((), stamps(gate.domain_files))
    assert isinstance(mapped, np.memmap) and made.stat().st_mtime_ns == before
    (tmp_path / "domains").write_text((tmp_path / "domains").read_text().replace("number-7.", "number-x."))
    assert reasons(gate, of_urls(*urls)) == [None, None] and gate.fingerprint() != told
    assert len(list(tmp_path.glob("domains.*.npy"))) == 2 and not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("damage", [b"", b"no array", b"cut"])
def test_a_compiled_list_that_is_damaged_is_made_again(tmp_path, damage):
    gate = long_list(tmp_path / "domains")
    assert reasons(gate, of_urls("http://host-number-7.example.org/")) == ["url.domain"]
    (made,) = tmp_path.glob("*.npy")
    whole = made.read_bytes()
    made.write_bytes(whole[:-1000] if damage == b"cut" else damage)
    urls_module._hosts.cache_clear()
    assert reasons(gate, of_urls("http://host-number-7.example.org/")) == ["url.domain"]
    assert made.read_bytes() == whole


def test_where_nothing_can_be_written_the_list_is_held_in_memory(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    gate = long_list(folder / "domains")
    name = compiled_name(folder / "domains")
    (folder / name).mkdir()  # nobody can put a file there, not even root
    assert reasons(gate, of_urls("http://host-number-7.example.org/")) == ["url.domain"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(["domains", name])


def compiled_name(path):
    said = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{path.name}.{said[:16]}.v1.npy"


def asked_in_a_process(path):
    return reasons(UrlLists(domain_files=(path,)), of_urls("http://host-number-7.example.org/"))


def test_workers_that_compile_a_list_at_the_same_time_all_answer(tmp_path):
    long_list(tmp_path / "domains")
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        answers = list(pool.map(asked_in_a_process, [str(tmp_path / "domains")] * 4))
    assert answers == [["url.domain"]] * 4
    assert len(list(tmp_path.iterdir())) == 2


def test_a_list_that_is_not_there_or_broken_is_told(tmp_path):
    with pytest.raises(DataError, match="no such list"):
        UrlLists(domain_files=("nowhere",))(of_urls("http://a.com"))
    broken = tmp_path / "x.gz"
    broken.write_bytes(b"not gzip")
    with pytest.raises(DataError, match="broken gzip"):
        UrlLists(domain_files=(str(broken),))(of_urls("http://a.com"))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text(), max_size=5),
    st.lists(st.from_regex(r"https?://[a-z0-9.@:\[\]%\\-]{0,30}/.{0,10}", fullmatch=True), max_size=5),
)
def test_any_string_is_answered_and_a_row_does_not_depend_on_its_neighbours(odd, urls):
    gate = UrlLists(domains=("a.b",), soft_words=("a", "b"), ip_hosts=False)
    rows = odd + urls
    together = list(gate(of_urls(*rows)).codes)
    assert together == [int(gate(of_urls(row)).codes[0]) for row in rows]
    hosts = Hosts()(of_urls(*rows))
    for host, domain in zip(hosts["url.host"].to_pylist(), hosts["url.domain"].to_pylist(), strict=True):
        assert host.endswith(domain) and bool(host) == bool(domain)


def test_hostile_addresses_are_answered():
    assert len(
        UrlLists(domains=("a.b",), parts=("x",))(
            of_urls(*HOSTILE, *("http://" + text for text in HOSTILE))
        ).codes
    ) == 2 * len(HOSTILE)
    assert plain_host("\ud800.com") == ""


@pytest.mark.slow
def test_four_and_a_half_million_domains_take_little_memory(tmp_path):
    spec = find_spec("datatrove")
    if not spec:
        pytest.skip("the list of 4.5 million domains is in the package datatrove")
    with tarfile.open(Path(spec.origin).parent / "assets" / "url_filterblacklistsv0_3_0.tar.gz") as tar:
        tar.extract("domains", tmp_path, filter="data")
    listed = (tmp_path / "domains").read_text().split("\n")[:4_000_000:2_003]
    gate = UrlLists(domain_files=(str(tmp_path / "domains"),))
    tracemalloc.start()
    codes = gate(of_urls(*(f"https://deeper.{name}/x" for name in listed if "/" not in name))).codes
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (codes >= 0).mean() > 0.98  # the list holds some public suffixes and addresses that are no hosts
    assert held < 60e6 and peak < 300e6
    assert reasons(gate, of_urls("https://www.python.org/", "https://en.wikipedia.org/wiki/Puna")) == [
        None,
        None,
    ]
