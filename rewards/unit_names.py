"""How units are written, and which unit of pint each spelling means.

A meaning is a small text of our own: names of pint's registry, each with an optional power, after an optional factor
(`"1e-4 tesla"`, `"mile hour^-1"`). Spellings keep their case: `mg` is not `Mg`, `K` is not `k`. Variants that can mean
nothing else (`Kg`, `hz`) are listed.
"""

from __future__ import annotations

from functools import lru_cache

PREFIX_SYMBOLS = {
    "y": -24, "z": -21, "a": -18, "f": -15, "p": -12, "n": -9, "μ": -6, "u": -6, "m": -3, "c": -2, "d": -1,
    "da": 1, "h": 2, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18,
}  # fmt: skip
PREFIX_WORDS = {
    "atto": -18, "femto": -15, "pico": -12, "nano": -9, "micro": -6, "milli": -3, "centi": -2, "deci": -1, "deca": 1,
    "hecto": 2, "kilo": 3, "mega": 6, "giga": 9, "tera": 12, "peta": 15,
}  # fmt: skip
_CHINESE_PREFIXES = {
    "皮": -12, "纳": -9, "微": -6, "毫": -3, "厘": -2, "分": -1, "百": 2, "千": 3, "兆": 6, "吉": 9,
}  # fmt: skip

_METRIC_SYMBOLS = {
    "m": "meter", "g": "gram", "s": "second", "A": "ampere", "K": "kelvin", "mol": "mole", "cd": "candela",
    "Hz": "hertz", "N": "newton", "Pa": "pascal", "J": "joule", "W": "watt", "C": "coulomb", "V": "volt", "F": "farad",
    "Ω": "ohm", "ohm": "ohm", "Ohm": "ohm", "S": "siemens", "Wb": "weber", "T": "tesla", "H": "henry", "lm": "lumen",
    "lx": "lux", "Bq": "becquerel", "Gy": "gray", "Sv": "sievert", "kat": "katal", "eV": "electron_volt",
    "L": "liter", "l": "liter", "bar": "bar", "cal": "calorie", "rad": "radian", "sr": "steradian", "pc": "parsec",
    "Ci": "curie", "Wh": "watt hour", "Ah": "ampere hour", "VA": "volt ampere", "M": "molar", "Da": "dalton",
    "Nm": "newton meter", "G": "1e-4 tesla", "Torr": "torr", "t": "metric_ton",
}  # fmt: skip
_PREFIXED_ONLY_BY = {"t": {"k", "M", "G"}, "M": {"m", "μ", "u", "n", "p"}, "G": {"m", "k", "μ"}}
"""Symbols that take few prefixes, since others would make words or other units of them."""
_PLAIN_SYMBOLS = {
    "min": "minute", "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour", "d": "day", "day": "day",
    "yr": "year", "yrs": "year", "a": "year", "sec": "second", "secs": "second", "cc": "centimeter^3",
    "°": "degree", "deg": "degree", "′": "arcminute", "″": "arcsecond", "rev": "revolution", "r": "revolution",
    "°C": "degree_Celsius", "degC": "degree_Celsius", "ev": "electron_volt",
    "kev": "1e3 electron_volt", "Mev": "1e6 electron_volt", "°F": "degree_Fahrenheit", "degF": "degree_Fahrenheit",
    "°K": "kelvin", "Å": "angstrom", "ha": "hectare", "u": "dalton", "amu": "dalton", "AU": "astronomical_unit",
    "au": "astronomical_unit", "ly": "light_year", "atm": "atmosphere", "mmHg": "mmHg", "cmHg": "centimeter_Hg",
    "psi": "psi", "torr": "torr", "dyn": "dyne", "dyne": "dyne", "erg": "erg", "lb": "pound", "lbs": "pound",
    "lbf": "force_pound", "oz": "ounce", "in": "inch", "ft": "foot", "yd": "yard", "mi": "mile", "gal": "gallon",
    "hp": "horsepower", "Btu": "british_thermal_unit", "BTU": "british_thermal_unit",
    "mph": "mile hour^-1", "kph": "kilometer hour^-1", "kmph": "kilometer hour^-1", "kmh": "kilometer hour^-1",
    "rpm": "revolution minute^-1",
    "rps": "revolution second^-1",
    "RPM": "revolution minute^-1", "%": "1/100", "‰": "1/1000", "ppm": "1e-6", "ppb": "1e-9", "dB": "decibel",
    "Ns": "newton second", "Vs": "volt second", "As": "ampere second", "Js": "joule second", "Ws": "watt second",
    "diopter": "meter^-1", "D": "debye", "Kg": "kilogram", "KG": "kilogram", "Kgs": "kilogram", "kgs": "kilogram",
    "hz": "hertz", "HZ": "hertz", "KHz": "kilohertz", "Mhz": "megahertz", "Km": "kilometer", "KM": "kilometer",
    "KJ": "kilojoule", "Kj": "kilojoule", "kj": "kilojoule", "KPa": "kilopascal", "KW": "kilowatt", "KV": "kilovolt",
    "kpa": "kilopascal", "kw": "kilowatt", "kwh": "kilowatt hour", "KWh": "kilowatt hour", "KWH": "kilowatt hour",
    "ml": "milliliter", "ML": "milliliter", "Kcal": "kilocalorie", "mole": "mole", "moles": "mole", "mols": "mole",
    "cms": "centimeter", "mms": "millimeter", "kms": "kilometer",
}  # fmt: skip

_METRIC_WORDS = {
    "meter": "meter", "metre": "meter", "gram": "gram", "gramme": "gram", "second": "second", "ampere": "ampere",
    "amp": "ampere", "kelvin": "kelvin", "mole": "mole", "candela": "candela", "hertz": "hertz", "newton": "newton",
    "pascal": "pascal", "joule": "joule", "watt": "watt", "coulomb": "coulomb", "volt": "volt", "farad": "farad",
    "ohm": "ohm", "siemens": "siemens", "weber": "weber", "tesla": "tesla", "henry": "henry", "lumen": "lumen",
    "lux": "lux", "becquerel": "becquerel", "gray": "gray", "sievert": "sievert", "liter": "liter", "litre": "liter",
    "calorie": "calorie", "electronvolt": "electron_volt", "bar": "bar", "parsec": "parsec", "radian": "radian",
    "molar": "molar", "curie": "curie",
}  # fmt: skip
_PLAIN_WORDS = {
    "minute": "minute", "hour": "hour", "day": "day", "week": "week", "month": "month", "year": "year",
    "degree": "degree", "arcminute": "arcminute", "arcsecond": "arcsecond", "revolution": "revolution",
    "turn": "revolution", "rotation": "revolution", "angstrom": "angstrom", "hectare": "hectare", "dalton": "dalton",
    "celsius": "degree_Celsius", "fahrenheit": "degree_Fahrenheit", "lightyear": "light_year", "inch": "inch",
    "foot": "foot", "feet": "foot", "yard": "yard", "mile": "mile", "pound": "pound", "ounce": "ounce",
    "gallon": "gallon", "atmosphere": "atmosphere", "horsepower": "horsepower", "ton": "metric_ton",
    "tonne": "metric_ton", "percent": "1/100", "decibel": "decibel", "knot": "knot", "gauss": "1e-4 tesla",
    "steradian": "steradian", "dioptre": "meter^-1", "micron": "micrometer", "acre": "acre", "debye": "debye",
}  # fmt: skip
_PLURALS = {"inch": "inches", "henry": "henries", "henrys": "henries", "siemens": "siemens", "hertz": "hertz",
            "lux": "lux", "feet": "feet", "percent": "percent"}  # fmt: skip

_CHINESE_METRIC = {
    "米": "meter", "克": "gram", "秒": "second", "安培": "ampere", "安": "ampere", "摩尔": "mole", "摩": "mole",
    "赫兹": "hertz", "赫": "hertz", "牛顿": "newton", "牛": "newton", "帕斯卡": "pascal", "帕": "pascal",
    "焦耳": "joule", "焦": "joule", "瓦特": "watt", "瓦": "watt", "库仑": "coulomb", "库": "coulomb",
    "伏特": "volt", "伏": "volt", "法拉": "farad", "法": "farad", "欧姆": "ohm", "欧": "ohm", "韦伯": "weber",
    "韦": "weber", "特斯拉": "tesla", "特": "tesla", "亨利": "henry", "亨": "henry", "升": "liter", "卡": "calorie",
    "电子伏特": "electron_volt", "电子伏": "electron_volt", "西门子": "siemens", "瓦时": "watt hour",
}  # fmt: skip
_CHINESE_PLAIN = {
    "公里": "kilometer", "公斤": "kilogram", "分钟": "minute", "分": "minute", "小时": "hour", "时": "hour",
    "天": "day", "日": "day", "周": "week", "年": "year", "吨": "metric_ton", "斤": "1/2 kilogram",
    "摄氏度": "degree_Celsius", "华氏度": "degree_Fahrenheit", "开尔文": "kelvin", "开": "kelvin", "度": "degree",
    "弧度": "radian", "转": "revolution", "圈": "revolution", "标准大气压": "atmosphere", "大气压": "atmosphere",
    "光年": "light_year", "埃": "angstrom", "公顷": "hectare", "分贝": "decibel", "坎德拉": "candela", "流明": "lumen",
    "勒克斯": "lux", "贝克勒尔": "becquerel", "毫米汞柱": "mmHg", "英寸": "inch", "英尺": "foot", "英里": "mile",
}  # fmt: skip


@lru_cache(maxsize=1)
def symbols() -> dict[str, tuple[int, str]]:
    """Spelling to (power of ten, meaning): symbols and English words, with prefixes and plurals."""
    table: dict[str, tuple[int, str]] = {}
    for word, meaning in _METRIC_WORDS.items():
        for prefix, power in {"": 0, **PREFIX_WORDS}.items():
            table |= dict.fromkeys(_number_forms(prefix + word), (power, meaning))
    for word, meaning in _PLAIN_WORDS.items():
        table |= dict.fromkeys(_number_forms(word), (0, meaning))
    for symbol, meaning in _METRIC_SYMBOLS.items():
        allowed = _PREFIXED_ONLY_BY.get(symbol, PREFIX_SYMBOLS.keys())
        table |= {prefix + symbol: (power, meaning) for prefix, power in PREFIX_SYMBOLS.items() if prefix in allowed}
    table |= {symbol: (0, meaning) for symbol, meaning in (_METRIC_SYMBOLS | _PLAIN_SYMBOLS).items()}
    return table


@lru_cache(maxsize=1)
def chinese_names() -> dict[str, tuple[int, str]]:
    """Chinese name to (power of ten, meaning), the longest first."""
    table = {
        prefix + name: (power, meaning)
        for name, meaning in _CHINESE_METRIC.items()
        for prefix, power in {"": 0, **_CHINESE_PREFIXES}.items()
    }
    table |= {name: (0, meaning) for name, meaning in _CHINESE_PLAIN.items()}
    return dict(sorted(table.items(), key=lambda item: -len(item[0])))


def _number_forms(word: str) -> tuple[str, ...]:
    """Singular and plural, in lower case and capitalised."""
    forms = (word, _PLURALS.get(word, f"{word}s"))
    return (*forms, *(form.capitalize() for form in forms))
