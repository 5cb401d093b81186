"""The encoding of bytes that are not UTF-8, as a suggestion in errors.

Each encoding is tried on the words that are not ASCII. An encoding fits if the words consist of letters of its
languages, without capitals after small letters. (charset-normalizer was tried: on columns of names it takes cp1252 for
iso8859-10 and cp1250 for cp1252.)
"""

import codecs
import re
from collections.abc import Iterator
from itertools import pairwise

CYRILLIC = "".join(map(chr, range(0x410, 0x450))) + "ёЁіІїЇєЄґҐ"
GREEK = "".join(map(chr, range(0x391, 0x3CA))) + "άέήίόύώϊϋΐΰΆΈΉΊΌΎΏ"
WESTERN = "äöüßÄÖÜéèêëàâçîïôûùœæñáíóúãõåøÅØÆÉÈÊÀÂÇÑÁÍÓÚÔÕÃŒ€°µ²³§"
CENTRAL = "ąćęłńóśźżĄĆĘŁŃÓŚŹŻáčďéěíňřšťúůýžÁČĎÉĚÍŇŘŠŤÚŮÝŽőűŐŰäöüßÄÖÜăâîşţĂÂÎŞŢľĺŕôĽ€°"
TURKISH = "çğıöşüÇĞİÖŞÜâîû€°"
LETTERS = {  # if several fit equally well, the first is used
    "cp1252": WESTERN,
    "cp1250": CENTRAL,
    "cp1251": CYRILLIC,
    "koi8-r": CYRILLIC,
    "cp1253": GREEK,
    "cp1254": TURKISH,
    "iso8859-2": CENTRAL,
    "cp850": WESTERN,
    "mac-roman": WESTERN,
}
EAST_ASIAN = {  # a codec for only the usual characters, and their first and last one
    "euc-kr": ("euc_kr", "\uac00", "\ud7a3"),
    "gb18030": ("gb2312", "\u4e00", "\u9fff"),
    "shift_jis": ("shift_jis", "\u4e00", "\u9fff"),
    "big5": ("big5", "\u4e00", "\u9fff"),
}
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def encoding_that_fits(data: bytes) -> tuple[str, str] | None:
    """Return the encoding of some bytes, and one of their words decoded; None if no encoding fits."""
    best = max(_tried(data), default=(0.0, "", ""), key=lambda tried: tried[0])
    return (best[1], best[2]) if best[0] > 0.5 else None


def _tried(data: bytes) -> Iterator[tuple[float, str, str]]:
    """Yield how well each encoding fits, 0 to 1, its name and a word."""
    words = list(dict.fromkeys(re.findall(rb"[A-Za-z\x80-\xff]*[\x80-\xff]+[A-Za-z\x80-\xff]*", data)))[:500]
    for name, letters in LETTERS.items():
        read = [word.decode(name, "replace") for word in words]
        odd = [char for word in read for char in word if not char.isascii()]
        wrong = sum(b.isupper() for word in read for a, b in pairwise(word) if a.islower())
        if letters in (CYRILLIC, GREEK):  # no word is half Latin
            wrong += sum(any(map(str.isascii, word)) for word in read)
        if odd:
            yield (sum(char in letters for char in odd) - wrong) / len(odd), name, read[0]
    cells = [cell for cell in re.split(rb"[,;\t\r\n]", data[:100_000]) if not cell.isascii()]
    for name, (strict, first, last) in EAST_ASIAN.items():
        try:
            read = [cell.decode(strict) for cell in cells]
        except UnicodeDecodeError:
            continue
        odd = [char for cell in read for char in cell if not char.isascii()]
        if odd:
            fitting = sum(first <= char <= last or "\u3040" <= char <= "\u30ff" for char in odd)
            yield fitting / len(odd) - 0.01, name, read[0]


def marked(start: bytes) -> str | None:
    """Return the encoding by the first bytes: by a byte order mark, or UTF-16 by its zeros."""
    for mark, name in MARKS.items():
        if start.startswith(mark):
            return name
    if len(start) >= 4 and start[0] and start[2] and start[1] == start[3] == 0:
        return "utf-16-le"
    if len(start) >= 4 and start[1] and start[3] and start[0] == start[2] == 0:
        return "utf-16-be"
    return None
