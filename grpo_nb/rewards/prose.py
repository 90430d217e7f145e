r"""A solution in words → the numbers in it: what `check_numbers` reads where the solution is more than a number.

Units go away from their number. A number within an expression (the 3 of `3\pi`) or before a word that multiplies it
(3 million) is not what the solution says.
"""

import re

from grpo_nb.rewards import parsing

# A word that may hold a number, with the sign before it unless that is a hyphen, and with its exponent's sign.
_WORD = re.compile(r"(?:(?<![\w)])[-+] ?)?(?:[$€£¥] ?)?[\w.,/]+(?:(?<=[0-9][eE])[-+][0-9]+)?", re.ASCII)
_MATHS = (
    "sqrt|root of|pi|log|ln|sin|cos|tan|exp|squared|cubed|factorial|half|halves|and a quarter|and a third"
    "|hundred|thousand|million|billion|trillion|dozen|lakh|crore|tenths|hundredths|thousandths|thirds|fifths"
    "|three quarters"
)
_UNIT = re.compile(  # what follows the digits in 20cm, 72 cm², 60km/h, $5/lb, 6th
    rf"(?<=[0-9])(?:\^?\{{?(?:st|nd|rd|th)\}}?|/ ?(?:lb|kg|hr?|(?!{_MATHS})[a-z]{{3,12}})"
    r"|(?: ?(?:[cdkm]?m|in|ft|yd|mi|[km]?g|lbs?|oz|m?s|sec|min|hr?s?|m?[lL]|[kM]?Hz|[kKMG]B|kWh?|[mk]ph|[ap]m|px|pcs)"
    rf"|(?: ?unit|cup)s?|[A-Z]{{3}}|(?!{_MATHS})[a-z]{{4,20}})"
    r"(?: ?/ ?[a-z]{1,12})?(?:\^ ?\{?-?[23]\}?|[²³23])?)(?![\w^])",
    re.ASCII,
)
_EXPRESSION = re.compile(  # beside a number, any of these says that the answer is not that number
    r"[\\^|√∛∜π∞±∓⁻≤≥≠∈]|!=|_\{|[0-9] ?(?:[αβγδθλρσφψω十万亿萬億]|[百千](?![米克瓦升]))|[αβγδθλρσφψω] ?[0-9]|分之"
    r"|[\w)] ?\* ?[\w(]|[0-9)] ?[×·÷]|[×·÷] ?[0-9(]|\b[a-zA-Z] ?/ ?[0-9]|[0-9] ?/ ?[a-zA-Z]\b"  # 2*x, 2·x, x / 2
    r"|[\w)](?<![0-9][eE])(?:\+[\w$(]|-[$(0-9]| \+ )|(?:\b[b-zB-HJ-Z]|[0-9)]) [-+] ?[$(0-9]"  # x+1, x-5, x - 5
    r"|[0-9)] ?[-+] ?[a-zA-Z]\b|[–—―]"  # 5-x, answer – 5
    r"|(?<![</\w])[a-zA-Z] ?[<>]=? ?[-$0-9]|[0-9)] ?[<>]=? ?[a-zA-Z]\b(?!>)"  # x>3
    r"|[-+] ?[$€£¥]? ?[(\[]|\w\(|\)[0-9]|(?:^|[=(] ?)[0-9]+!|[0-9]\)!"  # -(5 cm), f(2), 5!
    r"|\b(?:twice|double|triple|third of|quarter of) [$0-9]"
    r"|\b[b-fi-kn-rt-zXYZ] [0-9]|[0-9] [b-fi-kn-rt-zXYZ]\b"  # 3 x; a is a word, g h l m s are units
    r"|\b[b-fi-z] (?:plus|minus|times|over|mod)\b|\b(?:plus|minus|times|over|mod) [b-fi-z]\b"
    rf"|(?<![A-Za-z])(?i:{_MATHS})s?(?![A-Za-z])",
    re.ASCII,
)


def number_words(text: str) -> list[str]:
    """Words with a digit in them, each perhaps a number.

    If one is left and it stands within an expression, it comes with all its text, which is no number. Nothing is found
    in a text of more than `PROSE_LIMIT` characters or with digits that are not ASCII.

    >>> number_words("Therefore, x = - 5."), number_words("x=10-7=3"), number_words("72 cm²"), number_words("x + 1")
    (['- 5'], ['10', '7', '3'], ['72'], ['x + 1'])
    """
    return [text] if parsing.number(text) is not None else _words(parsing.undressed(text))


def _words(text: str) -> list[str]:
    bare = _UNIT.sub("", text)
    if any(c.isdigit() and not c.isascii() for c in bare):
        return []
    words = [word.rstrip(".,") for word in _WORD.findall(bare) if any(c.isdigit() for c in word)]
    return [text] if len(words) == 1 and _EXPRESSION.search(bare) else words
