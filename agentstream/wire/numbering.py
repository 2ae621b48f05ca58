"""How telephone numbers are written towards bots: as they came, in E.164, or as they are dialled inside the country.

Pure. What does not look like a number of this country or an international one stays as it is: an extension, a name,
``anonymous``. A wrong number would be worse than an unfamiliar spelling.
"""

from __future__ import annotations

import re

import attrs

INDIA = "91"
_MOST_DIGITS = 15
_FEWEST_DIGITS = 7


@attrs.frozen
class Numbering:
    """One spelling of numbers.

    :ivar style: ``as_received``; ``e164``, such as ``+919876543210``; ``national``, such as ``09876543210``, where a
        number of another country stays in E.164; ``auto``, which is as_received without a country code, national for
        India (as bots there are used to) and e164 for any other country.
    :ivar country_code: digits without a plus; without them only what is international already can be told apart.
    :ivar number_length: digits of a number inside the country; tells what has neither plus nor 0 in front apart.
    """

    style: str = "auto"
    country_code: str = ""
    number_length: int = 10

    def write(self, number: str) -> str:
        """The number in this spelling."""
        style = self.style
        if style == "auto":
            style = "as_received" if not self.country_code else "national" if self.country_code == INDIA else "e164"
        if style == "as_received":
            return number
        international = self._international(number)
        if not international:
            return number
        home = f"+{self.country_code}"
        if style == "national" and self.country_code and international.startswith(home):
            return "0" + international.removeprefix(home)
        return international

    def _international(self, number: str) -> str:
        """The number in E.164; "" where that is not certain."""
        bare = re.sub(r"[-. ()]", "", number.partition(";")[0])  # visual separators and parameters of RFC 3966
        plus, digits = bare.startswith("+"), bare.removeprefix("+")
        if not re.fullmatch(r"[0-9]+", digits):
            return ""
        code, length = self.country_code, self.number_length
        if not plus:
            if digits.startswith("00"):
                digits = digits[2:]
            elif code and digits.startswith("0"):
                digits = code + digits[1:]
            elif code and len(digits) == length:
                digits = code + digits
            elif not (code and digits.startswith(code) and len(digits) == len(code) + length):
                return ""
        if not _FEWEST_DIGITS <= len(digits) <= _MOST_DIGITS or digits.startswith("0"):
            return ""
        return "+" + digits
