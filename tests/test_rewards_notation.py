r"""How an answer may be written: a table of kinds, each row a solution, the truth, and what the two rewards pay for it.

A number that is right in value earns both full scores (5, 3.5) if it stands alone in whatever dress, and the second one
(-2.5, 3.5) among words or units. What is no number earns neither.
"""

import random
import re
from fractions import Fraction

import pytest

from grpo_nb import evaluate, rewards
from grpo_nb.rewards import notation, parsing, prose
from tests.reward_calls import paid

BOTH, IN_WORDS, SEVERAL, NOTHING = [5.0, 3.5], [-2.5, 3.5], [-2.5, -1.5], [-2.5, -2.5]
CHOICE, NO_CHOICE = [5.0, None], [-2.5, None]


def block(solution):
    return f"1+1=2<end_working_out><SOLUTION>{solution}</SOLUTION>"


def rows(kind: str, expected: list, *pairs: tuple[str, str]) -> list:
    return [pytest.param(*pair, expected, id=f"{kind}: {ascii(pair[0])} for {ascii(pair[1])}") for pair in pairs]


def of(truth: str, *solutions: str) -> list[tuple[str, str]]:
    return [(solution, truth) for solution in solutions]


DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d\u2796"
TABLE = [
    *rows("sign", BOTH, *of("-5", *(f"{dash}5" for dash in DASHES), r"-\$5", "-(5)", "minus 5", "负5", "-¥5", "-US$5")),
    *rows("sign", BOTH, *of("-5", "$-5$", r"$-\$5$", r"-\boxed{5}", r"-\,5", "{-}5", "-{5}", "-**5**", "–5%")),
    *rows("sign", BOTH, *of("-1/3", "-(1/3)", r"-\frac{1}{3}", r"\frac{-1}{3}", r"-\left(\frac13\right)")),
    *rows("sign", BOTH, *of("0", "-0", "−0.0", "+0")),
    *rows("sign", IN_WORDS, *of("-5", "It is -5", "x = –5", "-5°C", "it is - 5")),
    *rows("sign", SEVERAL, *of("5", "–5", "－5", r"-\$5", "-(5)", "minus 5", "负5", "x=-(5)", "-Rs. 5", "-USD 5")),
    *rows("sign", NOTHING, *of("5", "-(5 cm)", "-|5|", "⁻5", "answer – 5")),
    *rows("list", SEVERAL, *of("36104", "[36,104]", "(36,104)", "{36,104}", r"\{36,104\}", "[36，104]", "<36,104>")),
    *rows("list", SEVERAL, *of("-36104", "[-36,104]", r"$[-36,104]$", r"\left\{-36,104\right\}", "A = [-36,104]")),
    *rows("list", SEVERAL, *of("36104", "36, 104", "36;104", "36 104", "36、104", "(x,y)=(36,104)", "[36,104)")),
    *rows("list", BOTH, *of("36104", "36,104", "36，104", "$36,104")),
    *rows("list", IN_WORDS, *of("36104", "($36,104)", "x = 36,104")),
    *rows(
        "mixed", BOTH, *of("2.5", "2½", "2 1/2", "2 ½", r"2\frac{1}{2}", r"2\frac12", r"$2\,\dfrac{1}{2}$", "2又1/2")
    ),
    *rows("mixed", BOTH, ("½", "0.5"), ("-2½", "-2.5"), ("- 2 1/2", "-2.5"), ("2⅓", "7/3"), ("$2 1/2.", "2.5")),
    *rows("mixed", IN_WORDS, *of("2.5", "x = 2 1/2", "2½ cups", "2 1/2 cm²")),
    *rows("mixed", SEVERAL, *of("2", "2½", "2 1/2", "2 and 1/2", "2-1/2", "2 4/2", "2 1/0"), ("2½3", "1/23")),
    *rows("mixed", NOTHING, *of("2", "2 and a half", "2 half"), ("1/2 × 10^4", "5000")),
    *rows(
        "unit", IN_WORDS, *of("20", "20cm", "20km/h", "20th", "20 cm²", "20 cm^2", "20cm^{2}", "20 m2", r"20\text{ cm}")
    ),
    *rows(
        "unit",
        IN_WORDS,
        *of("20", "20kg", "20 kg/m^3", "20 km / h", "20 m/s²", "20miles", "$20/hour", "20USD", "20°C", "x = 20cm"),
    ),
    *rows(
        "unit",
        IN_WORDS,
        *of("20", "20 dollars", "20 per hour", r"\boxed{20\text{ cm}}", r"20^{\text{th}}", "20个"),
    ),
    *rows(
        "unit",
        IN_WORDS,
        *of("20", r"20 \mathrm{~m}^{2}", r"20 \mathrm{~km} / \mathrm{h}", "20~cm", r"\$20~\text{each}"),
    ),
    *rows("unit", SEVERAL, *of("20", "21cm", "20cm 3mm", "20 cm × 30 cm", "20 in 3 days")),
    *rows("unit", NOTHING, *of("20", "20k", "20M", "20 million", "20thousand", "20万", "20百", "20 dozen")),
    *rows("period", BOTH, *of("29", "29.00.", "29.", "$29.00.", "29。", r"\boxed{29}.", "$29$.", "**29**.", "29 %.")),
    *rows("period", NOTHING, *of("29", "29.0.0", "2.9.0")),
    *rows(
        "LaTeX",
        BOTH,
        *of("72", r"\boxed{72}", "$72$", r"\(72\)", r"\[72\]", r"72\%", r"72^\circ", r"72^{\circ}", r"\$72"),
    ),
    *rows(
        "LaTeX",
        BOTH,
        *of(
            "72", r"$\boxed{\text{72}}$", r"\mathbf{72}", r"\bm{72}", r"\boxed{72.}", "{72}", r"\boxed{{72}}", "$$72$$"
        ),
    ),
    *rows(
        "LaTeX",
        BOTH,
        *of("2/3", r"\frac{2}{3}", r"\dfrac{2}{3}", r"\tfrac23", r"\frac23", r"\frac2{3}", r"\frac {2} {3}"),
    ),
    *rows(
        "LaTeX", BOTH, *of("2/3", r"\boxed{\frac{2}{3}}", r"\[ \boxed{\dfrac{2}{3}} \]", r"\displaystyle\frac{2}{3}")
    ),
    *rows("LaTeX", [2.0, -1.5], (r"\boxed{72}", "71")),
    *rows("LaTeX", IN_WORDS, *of("72", r"The answer is $\boxed{72}$.", "$x = 72$", r"\approx 72", r"\boxed{72")),
    *rows(
        "LaTeX",
        SEVERAL,
        *of("72", r"\boxed{71} \boxed{72}", r"\boxed{7}\boxed{2}", r"\boxed{7}2"),
        (r"\frac{1}{2}3", "1/23"),
    ),
    *rows("LaTeX", NOTHING, (r"\frac123", "1/23"), (r"\frac{6}{2}", "3"), (r"\frac{2}{3}x", "2/3")),
    *rows("thousands", BOTH, ("14400", r"14,\!400"), ("8880", "8{,}880"), ("72000", "72，000"), (r"14,\!400", "14400")),
    *rows(
        "thousands", BOTH, *of("72000", "72\u00a0000", "72\u2009000", "72\u202f000", r"72\,000", "72~000", "$72{,}000$")
    ),
    *rows("thousands", SEVERAL, *of("72000", "72 000", "72, 000", "72'000"), ("12\u00a034", "1234")),
    *rows(
        "thousands",
        NOTHING,
        ("1.234,56", "1234.56"),
        ("1.234,56", "1.234"),
        ("1,5", "1.5"),
        ("1{,}5", "15"),
        ("1_000", "1000"),
    ),
    *rows(
        "percent",
        BOTH,
        *of("28", "28%", "28 percent", "28 pct", "28 per cent", "28percent.", "28％", r"28 \text{ percent}"),
    ),
    *rows("percent", BOTH, ("28%", "28 percent"), ("28 degrees", "28°")),
    *rows("percent", NOTHING, ("百分之28", "28")),
    *rows(
        "power",
        BOTH,
        *of("30000", "3 × 10^4", r"3 \times 10^4", r"$3\cdot10^{4}$", "3×10⁴", "3 x 10^4", "3*10**4", "3e4"),
    ),
    *rows(
        "power",
        BOTH,
        ("10^{-2}", "0.01"),
        ("10⁻²", "0.01"),
        ("-3 × 10^−4", "-0.0003"),
        ("1.5e3", "1500"),
        ("3 × 10^99", "3e99"),
    ),
    *rows("power", IN_WORDS, *of("30000", "3 × 10^4 m", "x = 3×10⁴")),
    *rows(
        "power", SEVERAL, *of("3", "3 × 10^4", "3 × 10", "3 × 10^4^2"), ("10^10^10", "10"), ("2^10", "2"), ("7^2", "49")
    ),
    *rows(
        "power",
        NOTHING,
        ("3 × 10^100", "3"),
        ("10^999999999999", "10"),
        ("1e999999999", "1"),
        ("7²", "49"),
        ("3×10⁴5", "3e45"),
    ),
    *rows(
        "expression",
        NOTHING,
        *of("2", r"\sqrt{2}", r"\sqrt2", "√2", "sqrt(2)", "sqrt 2", "log 2", r"\ln 2", "f(2)", "|2|"),
    ),
    *rows(
        "expression",
        NOTHING,
        *of("3", r"3\pi", r"3 \pi", "3π", "3 pi", "3pi", "3*pi", r"\frac{\pi}{3}", "3θ", "3x", "3 x", "3i"),
    ),
    *rows(
        "expression",
        NOTHING,
        *of("1", "x+1", "x + 1", "1+x", "x-1", "x - 1", "1 - x", "x^1", "2^x", "x_{1}", "x plus 1"),
    ),
    *rows(
        "expression",
        NOTHING,
        *of("3", "3(x)", "(x)3", r"3\cdot x", "3/x", "x / 3", "±3", r"\pm 3", "x > 3", "x ≤ 3", "3!"),
    ),
    *rows("expression", NOTHING, *of("3", "3 lakh", "3 crore", "3 tenths", "3 hundredths", "3 and two thirds", "(3)!")),
    *rows("expression", NOTHING, *of("3", "twice 3", "double 3", "one third of 3", "a quarter of $3", "3 fifths")),
    *rows("expression", NOTHING, *of("3", "3 squared", "square root of 3", "half of 3", "3 mod n", "n/3", "COVID-3")),
    *rows("fused", SEVERAL, ("{3}12", "312"), ("-(5)2", "-52"), ("10^{4}5", "10"), ("3{4}", "34"), ("½3", "1/23")),
    *rows("expression", SEVERAL, *of("1", "1+1", "2(x+1)", "10 - 9", r"\frac{\sqrt{1}}{2}", "x=2y+1")),
    *rows(
        "choice",
        CHOICE,
        *of("B", "B", "(B)", "B.", "b", "(b)", "B)", "[B]", "B:", "$B$", r"\text{B}", r"\boxed{B}", "**B**"),
    ),
    *rows(
        "choice",
        CHOICE,
        *of("B", r"\textbf{(B)}", r"\boxed{\text{(B)}}", "（Ｂ）", "B。", "`B`"),
        ("B", r"\text{(B)}"),
        ("(B)", "b."),
    ),
    *rows(
        "choice", NO_CHOICE, *of("B", "A", "(A)", "A or B", "AB", "(A)(B)", "B) 72", "not B", "72", "The answer is B")
    ),
    *rows("choice", NOTHING, ("B", "72")),
    *rows("text", CHOICE, (r"\text{blue}", "blue"), (r"$\sqrt{2}$", r"\sqrt{2}"), ("x", "x"), ("nan", "nan")),
    *rows("text", CHOICE, ("blue.", "blue"), ("New York.", "New York"), ("“blue”", "blue"), ("y = 5", "y=5")),
    *rows("text", NO_CHOICE, ("NewYork", "New York"), ("3 4 x", "34 x"), ("blue!", "blue"), (r"\pi r", r"\pir")),
    *rows("tuple", CHOICE, *of("(3, 4)", "(3,4)", "(3, 4)", "( 3 , 4 ).", r"$\left(3,\,4\right)$", r"\boxed{(3,4)}")),
    *rows(
        "tuple",
        CHOICE,
        ("[1,2)", "[1, 2)"),
        (r"[1,\infty)", r"[1, \infty)"),
        (r"\{1, 2\}", r"\{1,2\}"),
        ("3 : 4", "3:4"),
    ),
    *rows("tuple", NO_CHOICE, ("(3,5)", "(3, 4)"), ("(4,3)", "(3, 4)"), ("(34)", "(3, 4)"), ("[3,4)", "[3, 4]")),
    *rows(
        "formula", CHOICE, (r"\sqrt 2", r"\sqrt{2}"), (r"2\sqrt3", r"2 \sqrt{3}"), (r"\dfrac{\pi}{3}", r"\frac{\pi}{3}")
    ),
    *rows(
        "formula",
        CHOICE,
        (r"3 \pi", r"3\pi"),
        ("x^{2} + 1", "x^2+1"),
        ("3 + 4i", "3+4i"),
        (r"12 \text{ cm}", r"12 \mathrm{~cm}"),
    ),
    *rows("formula", NO_CHOICE, (r"\sqrt3", r"\sqrt{2}"), ("x^2-1", "x^2 + 1"), (r"\sqrt{23}", r"\sqrt 23")),
    *rows("text", NO_CHOICE, ("blue", "Blue"), (r"\sqrt{3}", r"\sqrt{2}"), ("2", r"\sqrt{2}"), ("X", "x")),
    *rows(
        "Chinese",
        BOTH,
        *of("72", "７２", "７２．０", "72。", "72元", "￥72", "７２％", "＄72", "７２元。"),
        ("７２，０００", "72000"),
    ),
    *rows("Chinese", IN_WORDS, *of("72", "约72元", "约７２元", "答案是72", "共72个", "72千克", "x＝72", "【72】")),
    *rows("Chinese", NOTHING, *of("3", "3万", "3亿", "三", "三分之3"), ("七十二", "72")),
    *rows("currency", BOTH, *of("72", "$72", "€72", "£72", "¥72", "72€", "72 €", "72$", "₹72", "US$72", "USD 72")),
    *rows("Markdown", BOTH, *of("72", "**72**", "*72*", "__72__", "`72`", "***72***")),
    *rows("Markdown", SEVERAL, *of("72", "**7**2", "7**2")),
    *rows(
        "sentence",
        IN_WORDS,
        *of("72", "=72", "x = 72", "72 dollars", "(72)", "~72", "The answer is *72*.", "#### 72", "72-"),
    ),
    *rows(
        "two numbers",
        SEVERAL,
        *of("3", "3-5", "3–5", "3 to 5", "3:4", "2024-01-3", "5:3", "3 out of 5", "[0, 3]", "(0,3)"),
    ),
    *rows("fraction", BOTH, *of("0.75", "3/4", "6/8", "３／４", ".75", "75e-2", "3 / 4", "3/ 4")),
    *rows("fraction", IN_WORDS, *of("0.75", "3 / 4 cup", "x = 3 / 4")),
    *rows("fraction", NOTHING, *of("3", "6 / 2", "3 / x"), ("1 / 2 / 2024", "1/2")),
    *rows("quotes", BOTH, *of("72", '"72"', "'72'", "“72”", "‘72’", '**"72"**')),
    *rows("quotes", IN_WORDS, *of("72", '"72', "72'", '72"', 'It is "72".')),
    *rows("fraction", NOTHING, *of("3", "a/b", "3/4/5", "3/0", "6/2"), ("01/02/2024", "1")),
    *rows("other scripts", NOTHING, *of("72", "٧٢", "७२", "𝟕𝟐", "Ⅷ", "①", "7٢")),
    *rows("no number", NOTHING, *of("1", "inf", "nan", "-Infinity", "0x1", "True", "null", "one")),
]


@pytest.mark.parametrize(("solution", "truth", "expected"), TABLE)
def test_what_an_answer_earns(solution, truth, expected):
    assert paid(block(solution), truth)[2:] == expected
    assert evaluate.is_correct(block(solution), truth) == (expected[0] == 5.0)
    assert rewards.can_match(truth)


# --- Laws


def plain_numbers(count: int, seed: int) -> list[tuple[str, Fraction]]:
    """Numbers in plain notation, each with the value from which it was written."""
    rng, numbers = random.Random(seed), []
    for _ in range(count):
        whole, decimals, exponent = (
            rng.randrange(1, 10 ** rng.randrange(1, 15)),
            rng.randrange(1, 999),
            rng.randrange(-99, 100),
        )
        text, value = rng.choice(
            [
                (f"{whole}", Fraction(whole)),
                (f"{whole:,}", Fraction(whole)),
                (f"00{whole}", Fraction(whole)),
                (f"{whole}.", Fraction(whole)),
                (f"{whole:,}.{decimals:03}", whole + Fraction(decimals, 1000)),
                (f".{decimals:03}", Fraction(decimals, 1000)),
                (f"{whole}/{whole + decimals}", Fraction(whole, whole + decimals)),
                (f"{whole}e{exponent}", whole * Fraction(10) ** exponent),
                (f"{whole}E{exponent:+}", whole * Fraction(10) ** exponent),
            ]
        )
        sign = rng.choice(["", "", "", "+", "-", "\u2212", "- "])
        before, after = rng.choice(["", "", "$", "€", "£ "]), rng.choice(["", "", "%", " %"])
        numbers.append((sign + before + text + after, -value if sign[:1] in ("-", "\u2212") else value))
    return [(text, value) for text, value in numbers if len(text) <= parsing.NUMBER_LIMIT]


FRAMES = [
    *[
        "{}",
        "The answer is {}.",
        "x = {}",
        "= {}",
        "Therefore, {}",
        "{} apples",
        "{} km/h",
        "he owes {} dollars in total",
    ],
    *["答案是{}", "约{}元", "Answer: {}", '"{}"', "~{}", "It costs {} a day", r"\boxed{{{}}}", "${}$", "**{}**"],
]


def test_a_plain_number_is_read_as_it_was_written_alone_and_among_words():
    numbers = plain_numbers(3000, seed=0)
    assert len(numbers) > 2900
    for i, (text, value) in enumerate(numbers):
        assert parsing.number(text) == value, text
        words = prose.number_words(FRAMES[i % len(FRAMES)].format(text))
        assert [parsing.number(word) for word in words] == [value], (text, FRAMES[i % len(FRAMES)])


def test_reading_twice_changes_nothing():
    for row in TABLE:
        for text in row.values[:2]:
            once = notation.plain(text)
            assert parsing.read_answer(once) == parsing.read_answer(text), text


def test_words_and_whole_never_disagree():
    """What `check_answer` reads as a number, `check_numbers` reads as the same one."""
    for row in TABLE:
        value = parsing.number(row.values[0])
        if value is not None:
            assert [parsing.number(word) for word in prose.number_words(row.values[0])] == [value]


def patterns() -> list[re.Pattern]:
    rules = [rule for rules in (notation.COMMANDS, notation.DRESS, notation.NUMBERS) for rule, _ in rules]
    return rules + [
        value for module in (parsing, prose) for value in vars(module).values() if isinstance(value, re.Pattern)
    ]


def open_repeats(parsed, depth: int = 0) -> int:
    """How many repeats without an upper bound stand within each other, at the deepest place."""
    deepest = depth
    for operator, argument in parsed:
        inner = depth + (str(operator) in ("MAX_REPEAT", "MIN_REPEAT") and argument[1] > 64)
        stack = [argument]
        while stack:
            item = stack.pop()
            if isinstance(item, re._parser.SubPattern):
                deepest = max(deepest, open_repeats(item, inner))
            elif isinstance(item, (list, tuple)):
                stack += item
        deepest = max(deepest, inner)
    return deepest


def test_no_pattern_has_an_open_repeat_within_an_open_repeat():
    assert len(patterns()) > 25
    for pattern in patterns():
        assert open_repeats(re._parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)) <= 1, pattern.pattern
    assert open_repeats(re._parser.parse("(a+)+")) == open_repeats(re._parser.parse("(?:x|(?=b*))*")) == 2


HOSTILE = [
    "{",
    "}",
    r"\frac{",
    r"\boxed{",
    r"\text{a",
    "½",
    "*a",
    "[1,",
    "(",
    "- (",
    "1 1/",
    "10^",
    "×10",
    " ",
    "\u2009",
    "$",
    "^{",
    "1",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_a_hostile_text_stays_short_and_one_character_more_is_not_read(unit):
    text = (unit * parsing.PROSE_LIMIT)[: parsing.PROSE_LIMIT]
    assert len(notation.plain(text)) <= 4 * len(text)
    assert parsing.read_answer(text) is None
    assert parsing.undressed(f"x{text}x") == "" and prose.number_words(f"x{text}x") == []
