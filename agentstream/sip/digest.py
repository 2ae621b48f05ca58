"""Digest authentication (RFC 7616, RFC 8760, RFC 3261 section 22): challenges and answers, both ways.

Pure: the time and every unpredictable word are arguments. A nonce of ours carries its own time and proof, so that
challenging costs no memory; what is kept is which counts of an *answered* nonce have been used, of a bounded number of
nonces. Passwords are in values whose repr says nothing of them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

import attrs

from agentstream.errors import LocalProtocolError, RemoteProtocolError
from agentstream.sip.grammar import is_token, quote, split_outside, unquote
from agentstream.sip.headers import Headers
from agentstream.sip.message import Response

Hash = Callable[[bytes], str]


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


ALGORITHMS: Mapping[str, Hash] = {"SHA-256": _sha256, "MD5": _md5}
"""What we know, the strongest first: the order in which we offer and choose (RFC 8760 section 2)."""

NONCE_LIFE_S = 300
"""Seconds for which a nonce of ours may be answered."""
NONCES_KEPT = 10_000
"""Answered nonces whose used counts are remembered."""
COUNT_WINDOW = 64
"""How far a nonce count may come behind the highest one: parallel requests overtake each other over UDP."""

_NONCE = re.compile(r"[0-9a-f]{12}[0-9a-f]{16}[0-9a-f]{32}")
_COUNT = re.compile(r"[0-9a-f]{8}")


@attrs.frozen
class Credentials:
    """A user and a password; the password is in no repr."""

    user: str
    password: str = attrs.field(repr=False)


@attrs.frozen
class Challenge:
    """One WWW-Authenticate or Proxy-Authenticate value.

    :ivar algorithm: as :data:`ALGORITHMS` spells it, or as received where it is none of them.
    :ivar qops: the qualities of protection on offer; () where the header names none (RFC 2069).
    """

    realm: str
    nonce: str
    algorithm: str = "MD5"
    qops: tuple[str, ...] = ("auth",)
    opaque: str | None = None
    is_stale: bool = False

    def __str__(self) -> str:
        text = f"Digest realm={quote(self.realm)}, nonce={quote(self.nonce)}"
        if self.opaque is not None:
            text += f", opaque={quote(self.opaque)}"
        if self.is_stale:
            text += ", stale=true"
        # RFC 7616 section 3.3: quotation marks around the list of qop and none around the algorithm.
        return f'{text}, algorithm={self.algorithm}, qop="{",".join(self.qops)}"'


@attrs.frozen
class Answer:
    """One Authorization or Proxy-Authorization value. What would let somebody guess the password is in no repr.

    :ivar count: the nonce count as written; "" with no qop.
    """

    user: str
    realm: str
    nonce: str
    uri: str
    response: str = attrs.field(repr=False)
    algorithm: str = "MD5"
    qop: str = ""
    count: str = ""
    cnonce: str = attrs.field(default="", repr=False)
    opaque: str | None = None

    def __str__(self) -> str:
        text = (
            f"Digest username={quote(self.user)}, realm={quote(self.realm)}, nonce={quote(self.nonce)},"
            f" uri={quote(self.uri)}, response={quote(self.response)}, algorithm={self.algorithm}"
        )
        if self.qop:
            text += f", qop={self.qop}, nc={self.count}, cnonce={quote(self.cnonce)}"
        return text if self.opaque is None else f"{text}, opaque={quote(self.opaque)}"


def _fields(text: str) -> dict[str, str]:
    """The fields of a Digest header by lower-case name; RemoteProtocolError (400) for what is none."""
    scheme, _, rest = text.strip().partition(" ")
    if scheme.lower() != "digest":
        raise RemoteProtocolError("the authentication scheme is not Digest", 400)
    return _list(rest)


def _list(text: str) -> dict[str, str]:
    """Comma-separated fields by lower-case name."""
    fields: dict[str, str] = {}
    for piece in split_outside(text, ","):
        name, equals, value = piece.partition("=")
        name = name.strip().lower()
        if not piece:
            continue
        if not equals or not is_token(name) or name in fields:
            raise RemoteProtocolError("a Digest header is no list of different fields", 400)
        fields[name] = unquote(value.strip())
    return fields


def _algorithm(text: str) -> str:
    """Our spelling; RFC 7616 section 3.3: without one it is MD5."""
    return next((name for name in ALGORITHMS if name.lower() == text.lower()), text)


def parse_challenge(text: str) -> Challenge:
    """One challenge, also of an algorithm that we do not know."""
    fields = _fields(text)
    if "realm" not in fields or "nonce" not in fields:
        raise RemoteProtocolError("a challenge has no realm or no nonce", 400)
    qops = tuple(word.strip().lower() for word in fields.get("qop", "").split(",") if word.strip())
    return Challenge(
        fields["realm"],
        fields["nonce"],
        _algorithm(fields.get("algorithm", "MD5")),
        qops,
        fields.get("opaque"),
        fields.get("stale", "").lower() == "true",
    )


def parse_answer(text: str) -> Answer:
    """One answer to a challenge."""
    fields = _fields(text)
    missing = [name for name in ("username", "realm", "nonce", "uri", "response") if name not in fields]
    if missing:
        raise RemoteProtocolError(f"the credentials have no {missing[0]}", 400)
    return Answer(
        fields["username"],
        fields["realm"],
        fields["nonce"],
        fields["uri"],
        fields["response"],
        algorithm=_algorithm(fields.get("algorithm", "MD5")),
        qop=fields.get("qop", "").lower(),
        count=fields.get("nc", "").lower(),
        cnonce=fields.get("cnonce", ""),
        opaque=fields.get("opaque"),
    )


def digest_of(answer: Answer, password: str, method: str) -> str:
    """What the response must be (RFC 7616 section 3.4.1), for the algorithm, qop and nonces that the answer names."""
    apply = ALGORITHMS[answer.algorithm]

    def joined(*words: str) -> str:
        return apply(":".join(words).encode("utf-8", "surrogateescape"))

    first, second = joined(answer.user, answer.realm, password), joined(method, answer.uri)
    if not answer.qop:
        return joined(first, answer.nonce, second)
    return joined(first, answer.nonce, answer.count, answer.cnonce, answer.qop, second)


class DigestServer:
    """Our side as the one that asks (RFC 3261 section 22.1).

    :param realm: what passwords are for.
    :param token: gives unpredictable words; its first one is the key of our nonces.
    :param algorithms: which ones we ask for, and take, in this order.
    """

    def __init__(self, realm: str, token: Callable[[], str], algorithms: Iterable[str] = ALGORITHMS) -> None:
        self.realm = realm
        self.algorithms = tuple(dict.fromkeys(algorithms))
        self._token = token
        self._key = f"{token()}{token()}".encode()
        self._used: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._oldest_s = 0

    def __len__(self) -> int:
        return len(self._used)

    def challenges(self, now: float, *, is_stale: bool = False) -> list[str]:
        """The header values of one 401 or 407: each algorithm with one nonce, the most preferred first (section 2.2 of
        RFC 8760)."""
        nonce = self._nonce(now)
        return [str(Challenge(self.realm, nonce, name, is_stale=is_stale)) for name in self.algorithms]

    def _nonce(self, now: float) -> str:
        salt = hashlib.sha256(self._token().encode()).hexdigest()[:16]
        head = f"{max(0, int(now)):012x}{salt}"
        return head + self._proof(head)

    def _proof(self, head: str) -> str:
        return hmac.new(self._key, head.encode(), "sha256").hexdigest()[:32]

    def verify(self, answer: Answer, password: str | None, method: str, now: float) -> str:
        """``good``; ``stale`` for the right password with a nonce that is too old or a count that was used: ask again;
        ``bad`` for everything else. A None password, nobody's, is refused in the same time as a wrong one."""
        nonce = answer.nonce
        is_ours = _NONCE.fullmatch(nonce) is not None and hmac.compare_digest(self._proof(nonce[:28]), nonce[28:])
        if answer.realm != self.realm or answer.algorithm not in self.algorithms:
            return "bad"
        # RFC 3261 section 22.4: we always ask for a qop, so one without it is not protected from replay; auth-int is
        # not what we asked for.
        if answer.qop != "auth" or _COUNT.fullmatch(answer.count) is None or not answer.cnonce:
            return "bad"
        expected = digest_of(answer, password or "", method)
        is_right = hmac.compare_digest(expected.encode(), answer.response.lower().encode("utf-8", "replace"))
        if not is_right or password is None:
            return "bad"
        if not is_ours:
            # RFC 7616 section 3.3: the digest is right and the nonce is not, as after a restart of ours.
            return "stale"
        issued = int(nonce[:12], 16)
        if issued < self._oldest_s or not 0 <= now - issued <= NONCE_LIFE_S + 1:
            return "stale"
        return "good" if self._take(nonce, issued, int(answer.count, 16)) else "stale"

    def _take(self, nonce: str, issued: int, count: int) -> bool:
        """Whether this count of the nonce is used for the first time: RFC 7616 section 3.3, "nc"."""
        highest, seen = self._used.get(nonce, (0, 0))
        behind = highest - count
        if count == 0 or behind >= COUNT_WINDOW or (behind >= 0 and seen >> behind & 1):
            return False
        # Bit n of ``seen``: the count n below the highest has been used.
        seen = ((seen << -behind) | 1) if 0 < -behind < COUNT_WINDOW else (1 if behind < 0 else seen | 1 << behind)
        self._used[nonce] = (max(highest, count), seen & ((1 << COUNT_WINDOW) - 1))
        self._used.move_to_end(nonce)
        if len(self._used) > NONCES_KEPT:
            forgotten, _ = self._used.popitem(last=False)
            # What is forgotten could be replayed; so nothing as old as it is taken any more.
            self._oldest_s = max(self._oldest_s, int(forgotten[:12], 16) + 1)
        return True


class DigestClient:
    """Our side as the one that is asked.

    :param token: gives unpredictable words for our own nonces.
    """

    def __init__(self, credentials: Credentials, token: Callable[[], str]) -> None:
        self.credentials = credentials
        self._token = token
        self._counts: OrderedDict[str, int] = OrderedDict()

    def answer(self, values: Iterable[str], method: str, uri: str) -> str | None:
        """The header value that answers the strongest challenge that we know; None where there is none, as with
        ``auth-int`` alone.

        :param values: the WWW-Authenticate values of a 401, or the Proxy-Authenticate values of a 407.
        """
        challenge = self.choose(values)
        return None if challenge is None else str(self.respond(challenge, method, uri))

    def choose(self, values: Iterable[str]) -> Challenge | None:
        """The one to be answered, of whatever realm."""
        return min(self.choose_each(values), key=_strength, default=None)

    def choose_each(self, values: Iterable[str]) -> list[Challenge]:
        """Of each realm the one to be answered; proxies that fork ask for one each (RFC 3261 section 22.3)."""
        known: dict[str, Challenge] = {}
        for value in values:
            try:
                challenge = parse_challenge(value)
            except RemoteProtocolError:
                continue
            if challenge.algorithm not in ALGORITHMS or (challenge.qops and "auth" not in challenge.qops):
                continue
            known[challenge.realm] = min(known.get(challenge.realm, challenge), challenge, key=_strength)
        return list(known.values())

    def respond(self, challenge: Challenge, method: str, uri: str) -> Answer:
        """The next answer to this challenge; the nonce count goes up each time."""
        if challenge.algorithm not in ALGORITHMS:
            raise LocalProtocolError("the challenge's algorithm is not one of ours")
        nonce, user, realm = challenge.nonce, self.credentials.user, challenge.realm
        answer = Answer(user, realm, nonce, uri, "", challenge.algorithm, opaque=challenge.opaque)
        if challenge.qops:
            count = self._counts[nonce] = self._counts.pop(nonce, 0) + 1
            if len(self._counts) > 16:
                self._counts.popitem(last=False)
            answer = attrs.evolve(answer, qop="auth", count=f"{count:08x}", cnonce=self._token())
        return attrs.evolve(answer, response=digest_of(answer, self.credentials.password, method))


MOST_CHALLENGES = 6
"""How often one request is answered with credentials, and how many realms are remembered: a peer that names a new realm
each time would have us ask for ever."""


class Answers:
    """What one request, in all its repetitions, has been asked for: each realm is answered once, and again where its
    nonce was only stale. A second 401 for the same realm means a wrong password, and asking on would lock the account.

    What the requests of one dialog were asked for is remembered together (:meth:`of_next_request`), so that the later
    ones bring their credentials along (RFC 3261 sections 22.2 and 22.3).
    """

    def __init__(self, client: DigestClient, known: dict[tuple[str, str], Challenge] | None = None) -> None:
        self._client = client
        self._challenges = {} if known is None else known
        self._tries: dict[tuple[str, str], int] = {}
        self._rounds = 0

    def of_next_request(self) -> Answers:
        """Those of another request to the same peer."""
        return Answers(self._client, self._challenges)

    def hear(self, response: Response) -> bool:
        """A 401 or 407 came: whether the request is to be sent again, with :meth:`headers`."""
        asks, answers = _HEADERS.get(response.status, ("", ""))
        challenges = self._client.choose_each(response.headers.get_all(asks)) if asks else []
        if self._rounds >= MOST_CHALLENGES:
            return False
        self._rounds += 1
        is_new = False
        for challenge in challenges[:MOST_CHALLENGES]:
            key = (answers, challenge.realm)
            tries = self._tries[key] = self._tries.get(key, 0) + 1
            if tries <= (3 if challenge.is_stale else 1):
                self._challenges[key] = challenge
                is_new = True
        while len(self._challenges) > MOST_CHALLENGES:
            del self._challenges[next(iter(self._challenges))]
        return is_new

    def headers(self, method: str, uri: str) -> list[tuple[str, str]]:
        """The credentials that the next request carries; each has a nonce count of its own."""
        return [
            (name, str(self._client.respond(challenge, method, uri)))
            for (name, _realm), challenge in self._challenges.items()
        ]

    def accepted(self, response: Response) -> None:
        """It was accepted: the next challenge is the first one again, and a nonce that the peer wants from now on is
        used (RFC 7616 section 3.5, nextnonce)."""
        self.forget_tries()
        for asks, name in _NEXT.items():
            keys = [key for key in self._challenges if key[0] == name]
            value = response.headers.get(asks)
            # The header names no realm: with two of them it could be either's.
            if value is None or len(keys) != 1:
                continue
            try:
                nonce = _list(value).get("nextnonce")
            except RemoteProtocolError:
                continue
            if nonce:
                self._challenges[keys[0]] = attrs.evolve(self._challenges[keys[0]], nonce=nonce)

    def forget_tries(self) -> None:
        """Another peer is asked: the next challenge is the first one again."""
        self._tries.clear()
        self._rounds = 0


def _strength(challenge: Challenge) -> int:
    """0 is the strongest; of two alike the first counts."""
    return list(ALGORITHMS).index(challenge.algorithm)


def credentials_of(headers: Headers) -> list[tuple[str, str]]:
    """The credentials among these headers, as an ACK repeats them."""
    return [(name, value) for name, value in headers if name.lower() in ("authorization", "proxy-authorization")]


_HEADERS = {
    401: ("www-authenticate", "Authorization"),
    407: ("proxy-authenticate", "Proxy-Authorization"),
}
_NEXT = {"authentication-info": "Authorization", "proxy-authentication-info": "Proxy-Authorization"}
