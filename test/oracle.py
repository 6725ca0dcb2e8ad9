#!/usr/bin/env python3
"""Holds s3up's pure functions against python, botocore and openssl, on random cases.

    python3 test/oracle.py ./oracle [--seed N] [--cases N] [--only NAME]

The oracle is test/oracle.c, compiled. Python's own library is enough; what else is there
takes part, and what is missing is said:

    python3 -m venv V && V/bin/pip install botocore awscrt && V/bin/python test/oracle.py ...

The same seed gives the same cases. The last line is `N passed, M failed`.
"""

import argparse
import base64
import binascii
import configparser
import datetime
import email.utils
import hashlib
import hmac
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import xml.parsers.expat
import zlib
from contextlib import contextmanager

try:
    import botocore
    import botocore.auth
    import botocore.configloader
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
except ImportError:
    botocore = None
try:
    import awscrt.checksums
except ImportError:
    awscrt = None

KINDS = ("md5", "sha256", "crc32", "crc32c", "crc64nvme")
EPOCH = datetime.datetime(1970, 1, 1)
LAST_SECOND = 253402300799  # of the year 9999


class Oracle:
    """s3up, as a process that answers lines."""

    def __init__(self, path):
        self.process = subprocess.Popen(
            [path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, *words):
        line = " ".join(
            (w.hex() or "-") if isinstance(w, bytes) else str(w) for w in words
        )
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer.endswith(b"\n"):
            sys.exit("the oracle died of: " + line[:2000])
        return answer.decode().rstrip("\n")


class Tally:
    """What came, against what was wanted."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, got, want, *about):
        if got == want:
            self.passed += 1
            return
        self.failed += 1
        if self.failed <= 10:
            print(f"FAILED {name}\n  got  {got!r:.1000}\n  want {want!r:.1000}")
            for a in about:
                print(f"  of   {a!r:.1000}")


def unhex(text):
    return b"" if text == "-" else bytes.fromhex(text)


# ===== sums =====


def crc_table(poly):
    table = []
    for b in range(256):
        for _ in range(8):
            b = b >> 1 ^ (poly if b & 1 else 0)
        table.append(b)
    return table


CRC = {
    "crc32": (crc_table(0xEDB88320), 32),
    "crc32c": (crc_table(0x82F63B78), 32),
    "crc64nvme": (crc_table(0x9A6C9329AC4BC9B5), 64),
}


def crc(kind, data):
    if kind == "crc32":
        return zlib.crc32(data)
    table, width = CRC[kind]
    ones = v = (1 << width) - 1
    for b in data:
        v = v >> 8 ^ table[(v ^ b) & 255]
    return v ^ ones


def reference(kind, data):
    if kind in ("md5", "sha256"):
        return hashlib.new(kind, data).digest()
    return crc(kind, data).to_bytes(CRC[kind][1] // 8, "big")


def test_sums(ask, rnd, cases, tally):
    for n in range(cases):
        size = rnd.choice((rnd.randrange(300), rnd.randrange(3000), rnd.randrange(70000)))
        data = rnd.randbytes(size)
        slices = []
        while sum(slices) < size and rnd.random() < 0.95:
            slices.append(rnd.randrange(1 + rnd.choice((1, 70, 300, 20000))))
        for kind in KINDS:
            want = reference(kind, data).hex()
            for way in ("portable", "fast"):
                got = ask("sum", kind, way, rnd.randrange(64),
                          ",".join(map(str, slices)) or "0", data)
                tally.check(f"{kind} {way}", got, want, slices, data[:100])
        if awscrt:
            for kind in ("crc32", "crc32c", "crc64nvme"):
                tally.check(f"awscrt {kind}", crc(kind, data),
                            getattr(awscrt.checksums, kind)(data), data[:100])


def test_joins(ask, rnd, cases, tally):
    for n in range(cases):
        a, b = (rnd.randbytes(rnd.randrange(2000)) for _ in "ab")
        for kind in CRC:
            got = ask("join", kind, hex(crc(kind, a)), hex(crc(kind, b)), len(b))
            tally.check(f"join {kind}", int(got, 16), crc(kind, a + b), a, b)


def test_hmac(ask, rnd, cases, tally):
    for n in range(cases):
        key, text = (rnd.randbytes(rnd.randrange(rnd.choice((10, 70, 200)))) for _ in "ab")
        tally.check("hmac", ask("hmac", key, text), hmac.digest(key, text, "sha256").hex())


def test_openssl(ask, rnd, cases, tally):
    if not shutil.which("openssl"):
        print("SKIPPED: there is no openssl here")
        return
    for n in range(min(cases, 40)):
        data = rnd.randbytes(rnd.randrange(100000))
        key = rnd.randbytes(rnd.randrange(1, 100))
        for kind, options in (
            ("md5", ["-md5"]),
            ("sha256", ["-sha256"]),
            ("hmac", ["-sha256", "-mac", "HMAC", "-macopt", "hexkey:" + key.hex()]),
        ):
            run = subprocess.run(["openssl", "dgst", "-r"] + options, input=data,
                                 capture_output=True, check=True)
            got = (ask("hmac", key, data) if kind == "hmac"
                   else ask("sum", kind, "fast", 0, 0, data))
            tally.check("openssl " + kind, got, run.stdout.decode().split()[0])


# ===== signatures =====


TEXT = "".join(map(chr, range(33, 127))) + "  \té€😀"
ODD_SEGMENTS = ("", ".", "..", "...", "a", "b c", "%", "%2F", "é", "+", "~", "a=b&c", "-_")


def random_text(rnd, most, alphabet=TEXT):
    return "".join(rnd.choice(alphabet) for _ in range(rnd.randrange(most)))


@contextmanager
def clock(now):
    """Stops botocore's clock."""
    real = botocore.auth.get_current_datetime
    botocore.auth.get_current_datetime = lambda *a, **k: EPOCH + datetime.timedelta(
        seconds=now
    )
    try:
        yield
    finally:
        botocore.auth.get_current_datetime = real


class Case:
    """A random request, in s3up's words and in botocore's."""

    def __init__(self, rnd, s3, many_values):
        self.s3 = s3
        self.now = rnd.choice((rnd.randrange(LAST_SECOND), rnd.randrange(2**31)))
        self.region = rnd.choice(("us-east-1", "eu-central-1", "auto", "x"))
        self.service = rnd.choice(("s3", "s3express") if s3 else ("sts", "iam", "execute-api"))
        self.id = "AKID" + random_text(rnd, 20, "ABCDEFG0123")
        self.secret = random_text(rnd, 60) + "x"
        self.token = rnd.choice(("", "", "tok/en+==" + random_text(rnd, 300, "ab+/=")))
        self.method = rnd.choice(("GET", "PUT", "POST", "DELETE", "HEAD"))
        self.scheme = rnd.choice(("http", "https"))
        self.host = rnd.choice(("b.s3.amazonaws.com", "localhost:9000", "127.0.0.1:1", "[::1]:80"
                                if self.scheme == "https" else "[::1]:8080"))
        raw = "/" + "/".join(rnd.choice(ODD_SEGMENTS) for _ in range(rnd.randrange(6)))
        self.path = urllib.parse.quote(raw, safe="/" if s3 else "/+~=")
        self.fields = self.random_fields(rnd, many_values)
        self.query = self.random_query(rnd, many_values)
        self.body = rnd.randbytes(rnd.randrange(50))

    @staticmethod
    def random_fields(rnd, many_values):
        names = ["content-type", "content-md5", "range", "user-agent", "x-amz-acl", "expect",
                 "x-amz-meta-a", "x-amz-meta-b", "if-match", "cache-control", "te", "date-x",
                 "x-amz-meta-", "content-length-x", "transfer-encoding", "connection"]
        rnd.shuffle(names)
        fields = []
        for name in names[: rnd.randrange(8)]:
            for _ in range(rnd.choice((1, 1, 1, 2, 3)) if many_values else 1):
                value = random_text(rnd, 20, TEXT[:94] + "   \t,\"")
                fields.append((name, value))
        return fields

    @staticmethod
    def random_query(rnd, many_values):
        names = ["uploads", "prefix", "partNumber", "a", "A", "a-", "a b", "é", "", "a%", "😀"]
        rnd.shuffle(names)
        query = []
        for name in names[: rnd.randrange(6)]:
            for _ in range(rnd.choice((1, 1, 1, 3)) if many_values else 1):
                query.append((name, random_text(rnd, 15)))
        if not many_values:  # botocore's presigner does not keep a name without letters
            query = [(n, v) for n, v in query if n]
        return query

    def words(self):
        words = [int(self.s3), self.method.encode(), self.host.encode(), self.path.encode(),
                 self.now]
        words += [x.encode() for x in (self.region, self.service, self.id, self.secret, self.token)]
        for pairs in (self.fields, self.query):
            words.append(len(pairs))
            for name, value in pairs:
                words += [name.encode(), value.encode()]
        return words

    def request(self, body):
        quote = lambda s: urllib.parse.quote(s, safe="-_.~")
        query = "&".join(quote(n) + "=" + quote(v) for n, v in self.query)
        url = f"{self.scheme}://{self.host}{self.path}" + ("?" + query if query else "")
        request = AWSRequest(self.method, url, data=body)
        for name, value in self.fields:
            request.headers.add_header(name, value)
        return request

    def credentials(self):
        return Credentials(self.id, self.secret, self.token or None)


def test_headers(ask, rnd, cases, tally):
    """botocore's S3SigV4Auth, and SigV4Auth for the services that tidy the path up."""
    for n in range(2 * cases):
        case = Case(rnd, n % 2 == 0, True)
        request = case.request(case.body)
        payload = hashlib.sha256(case.body).hexdigest()
        if case.s3 and rnd.random() < 0.5:  # it takes more for botocore to leave it unsigned
            request.context["payload_signing_enabled"] = False
        signer = botocore.auth.S3SigV4Auth if case.s3 else botocore.auth.SigV4Auth
        with clock(case.now):
            signer(case.credentials(), case.service, case.region).add_auth(request)
        if request.headers["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD":
            payload = "UNSIGNED-PAYLOAD"
        got = ask("headers", payload.encode(), *case.words())
        field, _, query = got.partition(" ")
        tally.check("headers", unhex(field).decode(), request.headers["Authorization"],
                    case.__dict__)
        sent = urllib.parse.parse_qsl(unhex(query).decode(), keep_blank_values=True)
        tally.check("query as sent", sorted(sent), sorted(case.query), case.__dict__)


def test_urls_signed(ask, rnd, cases, tally):
    """botocore's S3SigV4QueryAuth."""
    for n in range(cases):
        case = Case(rnd, True, False)
        request = case.request(None)
        seconds = rnd.randrange(1, 604801)
        with clock(case.now):
            botocore.auth.S3SigV4QueryAuth(
                case.credentials(), case.service, case.region, expires=seconds
            ).add_auth(request)
        got = ask("url", b"UNSIGNED-PAYLOAD", seconds, *case.words())
        want = urllib.parse.urlsplit(request.url).query
        pairs = lambda q: sorted(urllib.parse.parse_qsl(q, keep_blank_values=True))
        tally.check("signed URL", pairs(unhex(got).decode()), pairs(want), case.__dict__)


def test_policies(ask, rnd, cases, tally):
    """botocore's S3SigV4PostAuth; the policy is the text that it signed."""
    for n in range(cases):
        case = Case(rnd, True, False)
        request = AWSRequest("POST", "https://b.s3.amazonaws.com/")
        request.context["s3-presign-post-fields"] = {}
        request.context["s3-presign-post-policy"] = {
            "expiration": "2030-01-01T00:00:00Z",
            "conditions": [{"bucket": random_text(rnd, 30)},
                           ["starts-with", "$key", random_text(rnd, 50)]],
        }
        with clock(case.now):
            botocore.auth.S3SigV4PostAuth(case.credentials(), "s3", case.region).add_auth(request)
        fields = request.context["s3-presign-post-fields"]
        got = ask("policy", case.now, case.region.encode(), case.secret.encode(),
                  base64.b64decode(fields["policy"]))
        want = fields["policy"].encode().hex() + " " + fields["x-amz-signature"]
        tally.check("policy", got, want, case.__dict__)


# ===== forms =====


def xml_events(document):
    """What expat says of a document, in the oracle's notation; None if it is refused. The
    text of an element with children does not count, as in s3up."""
    events, stack = [], []
    parser = xml.parsers.expat.ParserCreate()
    parser.buffer_text = True

    def enter(name, attributes):
        if stack:
            stack[-1] = None
        stack.append("")
        events.append("<" + name.encode().hex())

    def leave(name):
        text = stack.pop()
        events.append(">" + ((text or "").encode().hex() or "-"))

    def text(data):
        if stack[-1] is not None:
            stack[-1] += data

    def doctype(*_):
        raise ValueError("s3up refuses document types")

    parser.StartElementHandler, parser.EndElementHandler = enter, leave
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(document, True)
    except (xml.parsers.expat.ExpatError, LookupError, ValueError):
        return None
    return " ".join(events + ["."])


XML_CHARACTERS = "ab &<>\"'\t\né€😀]-?/=;#x0"


def xml_random_text(rnd):
    """Text, in one of the ways that XML has to write it."""
    out = []
    for c in random_text(rnd, 12, XML_CHARACTERS):
        way = rnd.randrange(6)
        if way == 0:
            out.append(f"&#{ord(c)};")
        elif way == 1:
            out.append(f"&#x{ord(c):{rnd.choice(('x', 'X', '04x'))}};")
        elif way == 2 and c != "]":
            out.append(f"<![CDATA[{c}]]>")
        elif c in "&<>\"'":
            out.append({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;",
                        "'": "&apos;"}[c])
        else:
            out.append(c)
        if rnd.random() < 0.03:
            out.append(rnd.choice(("<!-- x > & < -->", "<?pi <a> ?>", "<!---->")))
    return "".join(out)


def xml_random(rnd, depth):
    name = rnd.choice(("a", "Key", "ns:b", "é", "_x-1.2", "C"))
    blank = rnd.choice(("", "", " ", "\n\t"))
    attributes = "".join(
        rnd.choice((" ", "\n ")) + f"{a}{rnd.choice(('=', ' = '))}" + rnd.choice(values)
        for a, values in (("x", ("'>'", '"/"', '""')), ("y:z", ("'\"'", '"\'"', "'/'")))
        if rnd.random() < 0.2
    )
    if rnd.random() < 0.15:
        return f"<{name}{attributes}{blank}/>"
    inner = xml_random_text(rnd)
    if depth and rnd.random() < 0.7:
        for _ in range(rnd.randrange(4)):
            inner += xml_random(rnd, depth - 1) + xml_random_text(rnd)
    return f"<{name}{attributes}{blank}>{inner}</{name}{blank}>"


def spoil(rnd, document):
    """A byte removed, changed, or something put in."""
    at = rnd.randrange(len(document) + 1)
    return rnd.choice((
        document[:at],
        document[:at] + document[at + 1:],
        document[:at] + bytes([rnd.randrange(256)]) + document[at + 1:],
        document[:at] + rnd.choice((b"<", b">", b"&", b"/", b"\"", b"{", b"]", b",", b":",
                                    b"-->", b"<a>", b"</a>", b"&#65;", b"\\u0041", b"1",
                                    b"\\", b"e", b".", b" ")) + document[at:],
        document[:at] + document[rnd.randrange(len(document) + 1):],
    ))


def test_xml(ask, rnd, cases, tally):
    for n in range(cases):
        document = rnd.choice(("", "\ufeff", "<?xml version='1.0'?>\n", "<!-- x -->",
                               '<?xml version="1.0" encoding="UTF-8"?>'))
        document = (document + xml_random(rnd, rnd.randrange(6)) + rnd.choice(("", "\n"))).encode()
        tally.check("XML", ask("xml", document), xml_events(document), document)
        for _ in range(4):  # what expat takes, s3up takes; not the other way round
            document = spoil(rnd, document)
            want = xml_events(document)
            # s3up keeps CR as it is, and reads references of 6 hex digits at most
            if want and not re.search(b"\r|&#x[0-9a-fA-F]{7}", document):
                tally.check("XML, spoilt", ask("xml", document), want, document)
            else:
                ask("xml", document)
    for n in range(cases):
        data = rnd.randbytes(rnd.randrange(40))
        escaped = unhex(ask("xmlput", data))
        tally.check("XML text, there and back", unhex(ask("xmltext", escaped)), data)
        text = random_text(rnd, 30, XML_CHARACTERS + "\r\x01\x7f\x85\ufffe")
        carried = xml_events(b"<a>" + unhex(ask("xmlput", text.encode())) + b"</a>")
        tally.check("XML can carry", ask("carry", text.encode()), "0" if carried is None else "1",
                    text)
        if carried is not None:
            tally.check("XML text, by expat", carried,
                        f"<61 >{text.encode().hex() or '-'} .", text)


def json_events(document):
    """What python's json says of it, in the oracle's notation."""

    def refuse(word):
        raise ValueError(word)

    def flat(v, depth):
        if isinstance(v, (Pairs, list)) and depth == 32:
            raise ValueError("deeper than s3up goes")
        if isinstance(v, Pairs):
            inner = "".join(string(k) + ":" + flat(x, depth + 1) for k, x in v.pairs)
            return "{ " + inner + ") "
        if isinstance(v, list):
            return "[ " + "".join(flat(x, depth + 1) for x in v) + ") "
        if isinstance(v, Number):
            return "#" + v.encode().hex() + " "
        if isinstance(v, str):
            return '"' + string(v) + " "
        return {True: "T ", False: "F ", None: "N "}[v]

    def string(s):
        try:
            return s.encode("utf-8", "surrogateescape").hex() or "-"
        except UnicodeEncodeError:  # half of a pair, which is no byte either
            return "!"

    class Pairs:
        def __init__(self, pairs):
            self.pairs = pairs

    class Number(str):
        pass

    try:
        v = json.loads(document.decode(), parse_constant=refuse, parse_int=Number,
                       parse_float=Number, object_pairs_hook=Pairs)
        return flat(v, 0) + ". "
    except (ValueError, RecursionError):
        return None


def json_random(rnd, depth):
    kind = rnd.randrange(9 if depth else 6)
    if kind < 2:
        return random_text(rnd, 12, TEXT + "\"\\/\b\f\n\r\t\x7f\0\u2028")
    if kind == 2:
        return rnd.choice((0, -1, 10**20, 1.5, -1e-9, 1e300, rnd.randrange(10**6)))
    if kind < 6:
        return rnd.choice((True, False, None))
    if kind == 6:
        return [json_random(rnd, depth - 1) for _ in range(rnd.randrange(4))]
    return {random_text(rnd, 6): json_random(rnd, depth - 1) for _ in range(rnd.randrange(4))}


def test_json(ask, rnd, cases, tally):
    for n in range(cases):
        document = json.dumps(
            json_random(rnd, rnd.randrange(8)), ensure_ascii=rnd.random() < 0.5,
            indent=rnd.choice((None, None, 1)),
            separators=rnd.choice(((",", ":"), (" ,\t", " :\r\n"), None)),
        ).encode()
        tally.check("JSON", ask("json", document), json_events(document), document)
        for _ in range(4):
            document = spoil(rnd, document)
            got, want = ask("json", document), json_events(document)
            if want is None:
                tally.check("JSON is refused", got[-2:], "! ", document, got)
            else:
                tally.check("JSON, spoilt", got, want, document)
    for n in range(cases):
        data = rnd.randbytes(rnd.randrange(40))
        text = unhex(ask("jsonput", data))
        back = json.loads(text.decode()).encode("utf-8", "surrogateescape")
        tally.check("JSON string, by python", back, data, text)
        got = ask("json", json.dumps(data.decode("utf-8", "surrogateescape")).encode())
        tally.check("JSON string, from python", got, '"' + (data.hex() or "-") + " . ", data)


def ini_random(rnd):
    """A file in the common grammar of botocore and s3up: names in lower case, no name twice,
    comments on lines of their own."""
    lines, newline = [], rnd.choice(("\n", "\n", "\r\n"))
    names = ["default", "profile a", "profile b-c", "sso-session x.y", "services z", "a/b@c:d+e%"]
    rnd.shuffle(names)
    value = lambda: random_text(rnd, 15, "abc=:/+#;\"'[]éx0").strip()

    def aside():
        if rnd.random() < 0.2:
            lines.append(rnd.choice(("# x = y", "; [x]", "")))

    for name in names[: rnd.randrange(1, 5)]:
        aside()
        lines.append(f"[{name}]")
        keys = ["region", "s3", "aws_access_key_id", "k.e-y_1", "x"]
        rnd.shuffle(keys)
        for key in keys[: rnd.randrange(4)]:
            aside()
            equals = rnd.choice(("=", " = ", "= ", " =\t"))
            kind = rnd.randrange(4)
            if kind == 0:
                lines.append(key + equals)
                for sub in ("alpha", "beta")[: rnd.randrange(1, 3)]:
                    lines.append(rnd.choice((" ", "\t", "    ")) + sub + equals + "v" + value())
                continue
            lines.append(key + equals + "v" + value())
            for _ in range(rnd.randrange(3) if kind == 1 else 0):
                lines.append(rnd.choice((" ", "\t", "  \t")) + "m" + value())
    return newline.join(lines) + rnd.choice(("", newline))


def ini_sections(answer):
    """What the oracle says, as botocore would have it."""
    sections, key = {}, None
    *events, end = answer.split(" ")
    if end != ".":
        return answer
    for event in events:
        first, _, second = event[1:].partition("|")
        first, second = unhex(first).decode(), unhex(second).decode() if second else ""
        if event[0] == "[":
            section = sections[(first + " " + second).strip()] = {}
        elif event[0] == "=":
            key = first
            section[key] = second if second else {}
        elif event[0] == "+":
            section[key] += "\n" + first
        else:
            section[key][first] = second
    return sections


def test_ini(ask, rnd, cases, tally):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "config")
        for n in range(cases):
            text = ini_random(rnd)
            with open(path, "w", newline="", encoding="utf-8") as f:
                f.write(text)
            if botocore:
                want = botocore.configloader.raw_config_parse(path)
            else:
                want = plain_ini(path)
            tally.check("INI", ini_sections(ask("ini", text.encode())), want, text)


def plain_ini(path):
    """botocore's raw_config_parse, in a few lines."""
    parser = configparser.RawConfigParser()
    parser.read([path], encoding="utf-8")
    sections = {}
    for name in parser.sections():
        section = sections[name] = dict(parser.items(name))
        for key, value in section.items():
            if value.startswith("\n"):
                pairs = (line.split("=", 1) for line in value.split("\n")[1:])
                section[key] = {k.strip(): v.strip() for k, v in pairs}
    return sections


# ===== text =====


def test_escapes(ask, rnd, cases, tally):
    for n in range(cases):
        data = rnd.randbytes(rnd.randrange(60))
        for keep in ("", "/", "&=/"):
            want = urllib.parse.quote(data, safe=keep + "-_.~")
            tally.check("url_put", unhex(ask("urlput", keep.encode(), data)).decode(), want)
        text = random_text(rnd, 30, "ab+/%0123456789abcdefABCDEF%%%é").encode()
        whole = all(len(p) > 1 and all(c in b"0123456789abcdefABCDEF" for c in p[:2])
                    for p in text.split(b"%")[1:])
        for form in (0, 1):
            source = text.replace(b"+", b" ") if form else text
            want = urllib.parse.unquote_to_bytes(source).hex() or "-"
            tally.check("url_read", ask("urlread", form, text), want if whole else "!", text)
        coded = base64.b64encode(data)
        tally.check("b64_put", unhex(ask("b64put", data)), coded)
        spoilt = spoil(rnd, coded)
        try:
            want = binascii.a2b_base64(spoilt, strict_mode=True)
            want = want if base64.b64encode(want) == spoilt else None
        except binascii.Error:
            want = None
        got = ask("b64read", spoilt)
        tally.check("b64_read", got, "!" if want is None else want.hex() or "-", spoilt)


def test_utf8(ask, rnd, cases, tally):
    for n in range(4 * cases):
        data = bytes(rnd.choice((rnd.randrange(256), rnd.choice((0xC3, 0xE0, 0xED, 0xEF, 0xF0,
                     0xF4, 0x80, 0x9F, 0xA0, 0xBF, 0x8F, 0x90)))) for _ in range(rnd.randrange(6)))
        want = 0
        for size in range(1, 5):
            try:
                if len(data) >= size and len(data[:size].decode()) == 1:
                    want = size
                    break
            except UnicodeDecodeError:
                pass
        tally.check("utf8_length", ask("utf8", data), str(want), data)


def test_addresses(ask, rnd, cases, tally):
    """What s3up understands, urlsplit must understand alike: two readers of one address that
    differ are how requests go to the wrong host."""
    for n in range(2 * cases):
        host = rnd.choice(("example.com", "Example.COM", "a_b-c.d", "127.0.0.1", "[::1]",
                           "[fd00:ec2::254]", "localhost"))
        port = rnd.choice(("", "", ":1", ":80", ":443", ":9000", ":65535"))
        path = rnd.choice(("", "/", "/a/b", "//a", "/%2F/..", "/@:", "/é"))
        query = rnd.choice(("", "?", "?a=b&c", "?a?b", "?/@:"))
        text = (rnd.choice(("http", "https", "HTTP")) + "://" + host + port + path + query).encode()
        split = urllib.parse.urlsplit(text.decode())
        https = split.scheme == "https"
        want = " ".join((
            str(int(https)), str(int("[" in host)),
            str(split.port or (443 if https else 80)), host.strip("[]").encode().hex(),
            split.path.encode().hex() or "-", split.query.encode().hex() or "-",
        ))
        tally.check("url_parse", ask("urlparse", text), want, text)
        text = spoil(rnd, text)
        got = ask("urlparse", text)
        if got == "!":
            continue
        https, six, port, host, path, query = got.split(" ")
        try:
            split = urllib.parse.urlsplit(text.decode("utf-8", "surrogateescape"))
        except ValueError as error:  # s3up leaves it to the resolver what is an address
            tally.check("url_parse, spoilt", six, "1", text, error)
            continue
        tally.check("url_parse, spoilt",
                    (https, port, unhex(host).decode().lower(),
                     unhex(path).decode("utf-8", "surrogateescape")),
                    (str(int(split.scheme == "https")),
                     str(split.port or (443 if split.scheme == "https" else 80)),
                     split.hostname, split.path), text)


def test_dates(ask, rnd, cases, tally):
    for n in range(2 * cases):
        t = rnd.choice((rnd.randrange(LAST_SECOND), rnd.randrange(2**32)))
        when = EPOCH + datetime.timedelta(seconds=t)
        tally.check("date_stamp", ask("stamp", t),
                    f"{when.year:04d}" + when.strftime("%m%dT%H%M%SZ"), t)
        fraction = rnd.choice(("", ".000", ".5", f".{rnd.randrange(10**6):06d}"))
        iso = (when.isoformat() + fraction + rnd.choice(("Z", "+00:00"))).encode()
        http = email.utils.format_datetime(when.replace(tzinfo=datetime.timezone.utc),
                                           usegmt=True).encode()
        tally.check("date_iso", ask("iso", iso), str(t), iso)
        tally.check("date_http", ask("http", http), str(t), http)
        for verb, text, read in (("iso", iso, datetime.datetime.fromisoformat),
                                 ("http", http, email.utils.parsedate_to_datetime)):
            text = spoil(rnd, text)
            got = ask(verb, text)
            if got == "!":
                continue
            if verb == "http":  # it does not look at the day of the week
                text = b"Mon" + text[3:]
            try:  # what s3up takes, python must take alike
                want = read(text.decode("latin-1")).replace(tzinfo=None, microsecond=0)
            except ValueError as error:
                want = None if b":60" in text else error
            if want is not None:
                tally.check(f"date_{verb}, spoilt", got,
                            str(int((want - EPOCH).total_seconds()))
                            if isinstance(want, datetime.datetime) else want, text)


def test_numbers(ask, rnd, cases, tally):
    units = {"": 1, "K": 2**10, "m": 2**20, "G": 2**30, "T": 2**40, "kB": 2**10, "MiB": 2**20,
             "GB": 2**30, "TiB": 2**40}
    for n in range(cases):
        number = rnd.choice((rnd.randrange(1000), rnd.randrange(2**64), 2**64 - rnd.randrange(3),
                             2**64 + rnd.randrange(10**6), rnd.randrange(2**70)))
        unit = rnd.choice(list(units))
        value = number * units[unit]
        tally.check("num_parse", ask("num", str(number).encode()),
                    str(number) if number < 2**64 else "!", number)
        tally.check("num_size", ask("size", (str(number) + unit).encode()),
                    str(value) if value < 2**64 else "!", number, unit)


TESTS = (test_sums, test_joins, test_hmac, test_openssl, test_headers, test_urls_signed,
         test_policies, test_xml, test_json, test_ini, test_escapes, test_utf8, test_addresses,
         test_dates, test_numbers)
NEED_BOTOCORE = (test_headers, test_urls_signed, test_policies)


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("oracle", help="test/oracle.c, compiled")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--cases", type=int, default=500, help="of each kind (%(default)s)")
    options.add_argument("--only", default="", help="tests whose name holds this")
    args = options.parse_args()
    oracle, tally, skipped = Oracle(args.oracle), Tally(), 0
    print(f"seed {args.seed}, CPU: {oracle.ask('cpu')}, botocore: "
          f"{botocore.__version__ if botocore else 'none'}, awscrt: {'yes' if awscrt else 'no'}")
    for test in TESTS:
        if args.only not in test.__name__:
            continue
        if test in NEED_BOTOCORE and not botocore:
            print(f"SKIPPED {test.__name__}: no botocore here (pip install botocore)")
            skipped += 1
            continue
        before = tally.passed
        test(oracle.ask, random.Random(f"{args.seed} {test.__name__}"), args.cases, tally)
        print(f"{test.__name__[5:]:14} {tally.passed - before} passed")
    print(f"{tally.passed} passed, {tally.failed} failed")
    sys.exit(1 if tally.failed else 0)


if __name__ == "__main__":
    main()
