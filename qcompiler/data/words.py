"""How data is read, as words of a command: what one command was given, another needs too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from qcompiler.data.options import FLAGS, DataOptions

PLAIN = {"--calib-batch": "--batch", "--calib-column": "--column"}
"""Names of options in commands whose data calibrates nothing."""


def reading_words(options: DataOptions) -> tuple[str, ...]:
    """Those that are not the default, as a compile takes them; how many samples is another command's affair."""
    usual = DataOptions()
    found: list[str] = []
    for name, flag in FLAGS.items():
        value = getattr(options, name)
        if name == "limit" or value == getattr(usual, name):
            continue
        texts = (
            [f"{key}={column}" for key, column in value.items()]
            if isinstance(value, Mapping)
            else [_word(value)]
        )
        found += [word for text in texts for word in (flag, text)]
    return tuple(found)


def plain_words(words: Sequence[str]) -> tuple[str, ...]:
    """The same out of the words of a compile, as ``diagnose`` takes them."""
    return tuple(_plain(words))


def _plain(words: Sequence[str]) -> Iterator[str]:
    kept = {flag: PLAIN.get(flag, flag) for name, flag in FLAGS.items() if name != "limit"}
    for word, following in zip(words, (*words[1:], ""), strict=True):
        flag, equals, value = word.partition("=")
        if flag in kept:
            yield from (kept[flag], value if equals else following)


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return ("x" if all(isinstance(each, int) for each in value) else ",").join(map(str, value))
    return str(value)
