"""One palette for the series, one size for its figures, and axes without ornament."""

# Okabe–Ito: told apart with every common colour-vision deficiency. One colour per concept in the whole series.
OKABE_ITO = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "red": "#D55E00",
    "yellow": "#F0E442",
    "black": "#000000",
}
COLOURS = {
    "policy": OKABE_ITO["blue"],
    "old": OKABE_ITO["sky"],
    "reference": OKABE_ITO["purple"],
    "reward": OKABE_ITO["green"],
    "before": OKABE_ITO["orange"],
    "loss": OKABE_ITO["black"],
    "warning": OKABE_ITO["red"],
}
WIDE = (6.4, 3.2)  # inches


def plain(axes, *, xlabel: str = "", ylabel: str = "", title: str = "") -> None:
    """Label axes, and take away the two lines that carry no scale."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def ink(colour: str) -> str:
    """Black or white, whichever is read better on a colour; on those of `OKABE_ITO`, at a contrast of at least 5.

    >>> ink(OKABE_ITO["yellow"]), ink(OKABE_ITO["blue"])
    ('#000000', '#FFFFFF')
    """
    return max("#000000", "#FFFFFF", key=lambda other: contrast(colour, other))


def pale(colour: str) -> str:
    """A colour with four parts of white: black is read on it.

    >>> pale("#0072B2")
    '#CCE2EF'
    """
    parts = [(int(colour[i : i + 2], 16) + 4 * 255) // 5 for i in (1, 3, 5)]
    return "#" + "".join(f"{part:02X}" for part in parts)


def readable(colour: str) -> str:
    """A colour for letters on white: as it is, or with as much black as a contrast of 4.5 takes.

    >>> readable("#0072B2"), readable("#E69F00")
    ('#0072B2', '#9E6D00')
    """
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    shades = ("#" + "".join(f"{part * share // 100:02X}" for part in parts) for share in range(100, -1, -1))
    return next(shade for shade in shades if contrast(shade, "#FFFFFF") >= 4.5)


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, 1 to 21; small text needs 4.5.

    See: WCAG 2.2, "relative luminance" and "contrast ratio".

    >>> contrast("#000000", "#FFFFFF")
    21.0
    """
    low, high = sorted(map(_luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
