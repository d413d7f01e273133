"""Texts that make text kernels go wrong, and how to hand them over."""

import numpy as np
from hypothesis import strategies as st

FIXTURES = [
    "",
    " \n \n\n",
    "One two, THREE four five six!one two three FOUR five six",
    "Don’t say 'don't' or DON'T; rock 'n' roll, l'été, O''Brien's'",
    "ΟΔΥΣΣΕΎΣ οδυσσεύς İSTANBUL ıstanbul ÇA ça STRASSE straße ŒUVRE ǅ ǆ",
    "我喜欢读书。你呢？「はい、そうです！」カタカナー ｶﾀｶﾅ ๑๒ ภาษาไทยเขียนติดกัน ລາວ ភាសាខ្មែរ မြန်မာ",
    "नमस्ते दुनिया। یک می‌خواهم متن؟ שָׁלוֹם עוֹלָם 안녕하세요 세계 é e\u0301",
    "a 👩‍💻 b 👍🏽👍🏽 c … d ..... e ### ### #tag == -- — ––",
    "- one...\n* two…\n• three...\n\t– four \n\n– four\r\n- one...\n",
    "He said “yes.” She: (no!) Mr. Smith paid $3.50. Why?! ...end",
    "a b c d e f g h i j k l\n" * 9 + "x\n\n\n\nx\n \ny\n\nx",
    "Enable JavaScript. Lorem Ipsum dolor { sit }\nWe USE COOKIES, see our Privacy Policy.\nthe terms of use",
    "no end. at. all.\nquote\"\nquote'\nwhat...\nwhat?\nwow!\n。終わり。\u2028next\x85line\x0bv\x0cf",
    "word " * 3000,
    "\ufffd\ufeff\u200b\u00a0\u3000 x\u00adsoft \u0301mark first \U0001d400\U00020000\U0010ffff\x00\x01",
]
BROKEN = [
    b"\xff\xfe plain \xc3",
    b"caf\xc3\xa9 caf\xe9 \xe2\x82 \xe2\x82\xac \xed\xa0\x80 \xf0\x9f\x98 \xf0\x9f\x98\x80",
    b"\xc0\xaf \xe0\x80\xaf \xf4\x90\x80\x80 \xf8\x88\x80\x80\x80 \x80\x80\nline \xe2\x80\xa6 \xe2\x80\n",
]
# Few letters, many borders: n-grams and lines repeat, apostrophes and marks meet everything.
DENSE = st.text(
    alphabet="aAbİ's’ \n\n.…-•#!?。」\"中ก\u0e31\u0301ー1५{\u200d\t\r\u2028\ufffd😀", max_size=160
)
WORDY = st.lists(st.sampled_from(["a", "the", "of", "b", "cc", "\n", "\n\n", ".", "..."]), max_size=120)
BYTES = st.one_of(
    st.text(max_size=60).map(str.encode),
    DENSE.map(str.encode),
    WORDY.map(lambda parts: " ".join(parts).encode()),
    st.binary(max_size=60),
    st.lists(
        st.sampled_from([b"a", b" ", b"\xe2", b"\x82", b"\xac", b"\xf0", b"\x9f", b"\xed", b"\xa0"])
    ).map(b"".join),
)


def column(texts):
    """(data, offsets) of texts or bytes."""
    parts = [text.encode() if isinstance(text, str) else text for text in texts]
    return np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *map(len, parts)], dtype=np.int64)
