#!/usr/bin/env python3
"""Checks s3d from outside: python3's standard library, an own signer, raw sockets.

    s3d_test.py S3D [NAME...]     S3D: the program; NAME: only tests whose name contains it

Every operation, quirk and fault is provoked at least once.  Ends with "N passed, M failed".
"""
import base64, binascii, calendar, datetime, hashlib, hmac, json, os, re, select, shutil
import signal, socket, struct, subprocess, sys, tempfile, threading, time, traceback
import xml.etree.ElementTree as ET
from urllib.parse import quote, unquote_plus

AK, SK, REGION = 'test', 'testsecret', 'us-east-1'
MIB = 1 << 20
passed = failed = 0
current = ''


def check(ok, what, *detail):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print('FAIL %s: %s %s' % (current, what, ' '.join(repr(d)[:300] for d in detail)))
    return ok


def same(got, want, what):
    return check(got == want, what, 'got', got, 'want', want)


# ---- checksums, written anew ------------------------------------------------------------

def crc_table(poly):
    t = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (poly if i & 1 else 0)
        t.append(i)
    return t


TABLES = {'crc32c': (crc_table(0x82F63B78), 32), 'crc64nvme': (crc_table(0x9A6C9329AC4BC9B5), 64)}


def digest(kind, data):
    if kind in ('md5', 'sha1', 'sha256'):
        return hashlib.new(kind, data).digest()
    if kind == 'crc32':
        return struct.pack('>I', binascii.crc32(data))
    table, width = TABLES[kind]
    v = mask = (1 << width) - 1
    for b in data:
        v = v >> 8 ^ table[(v ^ b) & 255]
    return (v ^ mask).to_bytes(width // 8, 'big')


def b64(raw):
    return base64.b64encode(raw).decode()


def sha(data):
    return hashlib.sha256(data).hexdigest()


# ---- signing -----------------------------------------------------------------------------

def enc(s, safe=''):
    return quote(s, safe=safe + '-_.~')


def signing_key(secret, day, region):
    k = ('AWS4' + secret).encode()
    for part in (day, region, 's3', 'aws4_request'):
        k = hmac.new(k, part.encode(), hashlib.sha256).digest()
    return k


def query_text(q):
    return '&'.join(sorted('%s=%s' % (enc(k), enc(v)) for k, v in q))


def canonical(method, path, q, headers, names, payload):
    lines = ''.join('%s:%s\n' % (n, ','.join(re.sub('[ \t]+', ' ', v.strip())
                                             for k, v in headers if k.lower() == n))
                    for n in names)
    return '\n'.join((method, path, query_text(q), lines, ';'.join(names), payload))


def stamp(offset=0):
    return time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(time.time() + offset))


def signature(secret, region, date, canon):
    scope = '%s/%s/s3/aws4_request' % (date[:8], region)
    sts = '\n'.join(('AWS4-HMAC-SHA256', date, scope, sha(canon.encode('latin-1'))))
    return scope, hmac.new(signing_key(secret, date[:8], region), sts.encode(),
                           hashlib.sha256).hexdigest()


# ---- a raw client ------------------------------------------------------------------------

class Gone(Exception):
    pass


class Reply:
    def __init__(self):
        self.status, self.headers, self.body, self.interim, self.raw = 0, [], b'', [], b''
        self.cut = False

    def h(self, name):
        v = [b for a, b in self.headers if a.lower() == name.lower()]
        return v[0] if v else None

    def xml(self):
        return strip(ET.fromstring(self.body))

    def code(self):
        m = re.search(rb'<Code>(.*?)</Code>', self.body)
        return m.group(1).decode() if m else None


def strip(e):
    for x in e.iter():
        x.tag = x.tag.split('}')[-1]
    return e


class Conn:
    def __init__(self, port, host='127.0.0.1'):
        self.s = socket.create_connection((host, port), timeout=20)
        self.buf = b''

    def close(self):
        self.s.close()

    def fill(self):
        d = self.s.recv(65536)
        if not d:
            raise Gone('eof')
        self.buf += d

    def head(self):
        while b'\r\n\r\n' not in self.buf:
            if len(self.buf) > 1 << 20:
                raise Gone('head too long')
            self.fill()
        head, self.buf = self.buf.split(b'\r\n\r\n', 1)
        lines = head.decode('latin-1').split('\r\n')
        return lines[0], [tuple(x.split(': ', 1)) for x in lines[1:] if ': ' in x], head

    def reply(self, method='GET'):
        r = Reply()
        while True:
            line, headers, r.raw = self.head()
            if not line.startswith('HTTP/1.'):
                raise Gone('garbage')
            r.status = int(line.split()[1])
            if r.status >= 200:
                break
            r.interim.append(r.status)
        r.headers, r.line = headers, line
        if method == 'HEAD' or r.status in (204, 304):
            return r
        if r.h('Transfer-Encoding') == 'chunked' and not r.h('Content-Length'):
            while True:
                while b'\r\n' not in self.buf:
                    self.fill()
                size, self.buf = self.buf.split(b'\r\n', 1)
                n = int(size.split(b';')[0], 16)
                while len(self.buf) < n + 2:
                    self.fill()
                r.body += self.buf[:n]
                self.buf = self.buf[n + 2:]
                if n == 0:
                    return r
        n = int(r.h('Content-Length')) if r.h('Content-Length') else None
        try:
            while n is None or len(self.buf) < n:
                self.fill()
        except (Gone, ConnectionError):
            r.cut = n is not None
            n = len(self.buf)
        r.body, self.buf = self.buf[:n], self.buf[n:]
        return r

    def closed(self, wait=1.0):
        """True if the other side closes within wait seconds."""
        try:
            r, _, _ = select.select([self.s], [], [], wait)
            return bool(r) and self.s.recv(1) == b''
        except ConnectionError:
            return True


class S3:
    def __init__(self, port, ak=AK, sk=SK, token=None, region=REGION):
        self.port, self.ak, self.sk, self.token, self.region = port, ak, sk, token, region
        self.conn = None
        self.host = '127.0.0.1:%d' % port

    def build(self, method, path, q=(), headers=(), body=b'', **o):
        """path is percent-encoded already.  Options bend the request."""
        date = o.get('date') or stamp(o.get('skew', 0))
        hs = [('Host', o.get('host', self.host)), ('x-amz-date', date)]
        payload = o.get('payload', sha(body))
        if payload is not None:
            hs.append(('x-amz-content-sha256', payload))
        if self.token:
            hs.append(('x-amz-security-token', self.token))
        hs += list(headers)
        q = list(q)
        names = sorted(set(k.lower() for k, _ in hs) - set(o.get('unsigned', ())))
        canon = canonical(method, path, q, hs, names, payload or 'UNSIGNED-PAYLOAD')
        scope, sig = signature(self.sk, self.region, date, canon)
        if not o.get('anonymous'):
            hs.append(('Authorization', 'AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, '
                       'Signature=%s' % (self.ak, scope, ';'.join(names), sig)))
        else:
            hs = [h for h in hs if h[0] == 'Host'] + list(headers)
        if body is not None and (body or method in ('PUT', 'POST')) and not o.get('no_length'):
            hs.append(('Content-Length', str(o.get('length', len(body)))))
        if o.get('expect'):
            hs.append(('Expect', '100-continue'))
        if o.get('tamper'):
            hs = o['tamper'](hs)
        target = o.get('target') or path + ('?' + '&'.join(
            '%s=%s' % (enc(k), enc(v)) if v or k in ('prefix', 'delimiter') else enc(k)
            for k, v in q) if q else '')
        return ('%s %s HTTP/1.1\r\n' % (method, target)
                + ''.join('%s: %s\r\n' % h for h in hs) + '\r\n').encode('latin-1')

    def send(self, method, path, q=(), headers=(), body=b'', **o):
        raw = self.build(method, path, q, headers, body, **o)
        fresh = o.get('fresh') or self.conn is None
        if fresh and self.conn:
            self.conn.close()
        if fresh:
            self.conn = Conn(self.port)
        try:
            if o.get('expect'):
                self.conn.s.sendall(raw)
                line, _, _ = self.conn.head()
                if ' 100 ' not in line:
                    raise Gone('no 100')
                self.conn.s.sendall(body)
            else:
                self.conn.s.sendall(raw + body)
            r = self.conn.reply(method)
        except Exception:
            self.conn.close()
            self.conn = None
            raise
        if r.h('Connection') == 'close' or r.cut:
            self.conn.close()
            self.conn = None
        return r

    def call(self, method, bucket='', key='', q=(), headers=(), body=b'', **o):
        path = '/' + bucket + ('/' + enc(key, '/') if key else '')
        return self.send(method, path, q, headers, body, **o)

    def put(self, key, body=b'', headers=(), **o):
        return self.call('PUT', 'bkt', key, (), headers, body, **o)

    def get(self, key, headers=(), q=(), **o):
        return self.call('GET', 'bkt', key, q, headers, **o)

    def presign(self, method, bucket, key, q=(), expires=600, skew=0, headers=()):
        path = '/' + bucket + ('/' + enc(key, '/') if key else '')
        date = stamp(skew)
        hs = [('host', self.host)] + list(headers)
        names = sorted(k.lower() for k, _ in hs)
        q = list(q) + [('X-Amz-Algorithm', 'AWS4-HMAC-SHA256'),
                       ('X-Amz-Credential', '%s/%s/%s/s3/aws4_request'
                        % (self.ak, date[:8], self.region)),
                       ('X-Amz-Date', date), ('X-Amz-Expires', str(expires)),
                       ('X-Amz-SignedHeaders', ';'.join(names))]
        if self.token:
            q.append(('X-Amz-Security-Token', self.token))
        _, sig = signature(self.sk, self.region, date,
                           canonical(method, path, q, hs, names, 'UNSIGNED-PAYLOAD'))
        return path + '?' + query_text(q) + '&X-Amz-Signature=' + sig

    # multipart in one go
    def create(self, key, headers=()):
        r = self.call('POST', 'bkt', key, [('uploads', '')], headers)
        return r.xml().findtext('UploadId')

    def part(self, key, uid, n, body, headers=(), **o):
        return self.call('PUT', 'bkt', key, [('partNumber', str(n)), ('uploadId', uid)],
                         headers, body, **o)

    def complete(self, key, uid, parts, headers=(), raw=None, **o):
        body = raw or ('<CompleteMultipartUpload>' + ''.join(
            '<Part><PartNumber>%d</PartNumber><ETag>%s</ETag>%s</Part>'
            % (p[0], p[1].replace('"', '&quot;'), p[2] if len(p) > 2 else '') for p in parts)
            + '</CompleteMultipartUpload>').encode()
        return self.call('POST', 'bkt', key, [('uploadId', uid)], headers, body, **o)


# ---- the server --------------------------------------------------------------------------

class Server:
    def __init__(self, *args, dir=None, keep=False):
        self.dir = dir or tempfile.mkdtemp(prefix='s3d-test-')
        self.own = dir is None
        self.start(*args)

    def start(self, *args):
        pf = os.path.join(self.dir, 'port')
        if os.path.exists(pf):
            os.unlink(pf)
        self.p = subprocess.Popen([S3D, '--dir', os.path.join(self.dir, 'd'), '--port-file', pf,
                                   '--bucket', 'bkt', '--quiet', '--die-with-parent', *args],
                                  stderr=subprocess.PIPE)
        end = time.time() + 60
        while not os.path.exists(pf):
            if self.p.poll() is not None or time.time() > end:
                raise Exception('s3d did not start: %r' % self.p.stderr.read())
            time.sleep(0.01)
        self.port = int(open(pf).read())

    def s3(self, **kw):
        return S3(self.port, **kw)

    def ctl(self, what, text=None):
        r = subprocess.run([S3D, 'ctl', str(self.port), *what.split()], capture_output=True,
                           input=text.encode() if text is not None else b'')
        return r.returncode, r.stdout.decode('latin-1'), r.stderr.decode('latin-1')

    def faults(self, *rules):
        code, _, err = self.ctl('faults', '\n'.join(rules))
        if code:
            raise Exception(err)

    def quirks(self, *names):
        code, _, err = self.ctl('quirks', '\n'.join(names))
        if code:
            raise Exception(err)

    def stat(self, name):
        return int(self.ctl('stats ' + name)[1])

    def stop(self, sig=signal.SIGTERM):
        self.p.send_signal(sig)
        self.p.wait(10)
        err = self.p.stderr.read()
        self.p.stderr.close()
        if self.own and sig != signal.SIGKILL:
            shutil.rmtree(self.dir, ignore_errors=True)
        check(not err, 'stderr is empty', err)
        return self.p.returncode


TESTS = []


def test(f):
    TESTS.append(f)
    return f


shared = None


def srv():
    """The server most tests share, with no faults and no quirks."""
    global shared
    if shared is None:
        shared = Server('--public', 'open', '--bucket', 'open', '--key', AK + ':' + SK,
                        '--key', 'tmp:tmpsecret:the/token+=', '--virtual-host', 's3.test',
                        '--cors')
    shared.faults()
    shared.quirks()
    return shared


def fails(r, status, code, what):
    return check(r.status == status and r.code() == code, what, r.status, r.code(), r.body)

# ---- sums and the command line -------------------------------------------------------------

@test
def sums_of_the_tool():
    data = os.urandom(100003)
    for kind in ('md5', 'sha1', 'sha256', 'crc32', 'crc32c', 'crc64nvme'):
        for d in (b'', b'123456789', data[:55], data[:64], data[:119], data):
            out = subprocess.run([S3D, 'sum', kind], input=d, capture_output=True).stdout
            same(out.decode().split(), [digest(kind, d).hex(), b64(digest(kind, d))], kind)
    same(digest('crc64nvme', b'123456789').hex(), 'ae8b14860a799888', 'published check value')
    same(digest('crc32c', b'123456789').hex(), 'e3069283', 'published check value')


@test
def bad_options():
    for args in (['--dir', '/tmp/x', '--nonsense'], ['--port', '1'], ['--dir'],
                 ['--dir', '/tmp/x', '--fault', 'PUT * nothing'], ['--quirk', 'no'],
                 ['--dir', '/tmp/x', '--fault', '* * stall=1 p=x']):
        r = subprocess.run([S3D, *args], capture_output=True, timeout=10)
        same(r.returncode, 2, 'exit code of %r' % args)


# ---- buckets -------------------------------------------------------------------------------

@test
def buckets():
    s = srv().s3()
    same(s.call('PUT', 'new-bucket').status, 200, 'create')
    same(s.call('PUT', 'new-bucket').status, 200, 'create again in us-east-1')
    names = [b.findtext('Name') for b in s.call('GET').xml().iter('Bucket')]
    check('new-bucket' in names and 'bkt' in names, 'listed', names)
    same(s.call('HEAD', 'new-bucket').status, 200, 'head')
    same(s.call('HEAD', 'new-bucket').h('x-amz-bucket-region'), REGION, 'its region')
    same(s.call('HEAD', 'not-there').status, 404, 'head of none')
    fails(s.call('GET', 'not-there'), 404, 'NoSuchBucket', 'list of none')
    same(s.call('GET', 'new-bucket', q=[('location', '')]).xml().text, None, 'location')
    same(s.call('PUT', 'new-bucket', 'a/b', body=b'x').status, 200, 'an object')
    fails(s.call('DELETE', 'new-bucket'), 409, 'BucketNotEmpty', 'delete of a full one')
    same(s.call('DELETE', 'new-bucket', 'a/b').status, 204, 'delete it')
    uid = s.call('POST', 'new-bucket', 'u', [('uploads', '')]).xml().findtext('UploadId')
    fails(s.call('DELETE', 'new-bucket'), 409, 'BucketNotEmpty', 'an upload keeps it')
    s.call('DELETE', 'new-bucket', 'u', [('uploadId', uid)])
    same(s.call('DELETE', 'new-bucket').status, 204, 'delete of an empty one')
    same(s.call('HEAD', 'new-bucket').status, 404, 'gone')
    for bad in ('ab', 'UPPER', 'a..b', '-abc', 'abc-', 'x' * 64, 'un_der'):
        fails(s.call('PUT', bad), 400, 'InvalidBucketName', bad)
    body = (b'<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            b'<LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>')
    fails(s.call('PUT', 'cb1', body=body % b'us-east-1'), 400, 'InvalidLocationConstraint',
          'us-east-1 must not be named')
    fails(s.call('PUT', 'cb1', body=body % b'eu-west-1'), 400,
          'IllegalLocationConstraintException', 'another region')
    fails(s.call('PUT', 'cb1', body=b'<x'), 400, 'MalformedXML', 'broken XML')
    fails(s.call('GET', 'bkt', q=[('acl', '')]), 501, 'NotImplemented', 'a foreign subresource')
    fails(s.call('DELETE'), 405, 'MethodNotAllowed', 'DELETE /')


@test
def another_region():
    v = Server('--region', 'eu-central-1')
    try:
        s = v.s3(region='eu-central-1')
        body = (b'<CreateBucketConfiguration><LocationConstraint>%s</LocationConstraint>'
                b'</CreateBucketConfiguration>')
        fails(s.call('PUT', 'cb1'), 400, 'IllegalLocationConstraintException', 'none named')
        same(s.call('PUT', 'cb1', body=body % b'eu-central-1').status, 200, 'named')
        fails(s.call('PUT', 'cb1', body=body % b'eu-central-1'), 409,
              'BucketAlreadyOwnedByYou', 'again')
        same(s.call('GET', 'cb1', q=[('location', '')]).xml().text, 'eu-central-1', 'location')
        r = v.s3().call('GET', 'bkt')
        fails(r, 400, 'AuthorizationHeaderMalformed', 'wrong region')
        same(r.xml().findtext('Region'), 'eu-central-1', 'the right one is named')
    finally:
        v.stop()


# ---- objects -------------------------------------------------------------------------------

@test
def objects():
    s = srv().s3()
    for body in (b'', b'x', b'hello world' * 1000, os.urandom(3 * MIB + 1)):
        r = s.put('o', body)
        same((r.status, r.h('ETag')), (200, '"%s"' % hashlib.md5(body).hexdigest()), 'put')
        r = s.get('o')
        check(r.status == 200 and r.body == body, 'get', len(r.body))
        same(r.h('ETag'), '"%s"' % hashlib.md5(body).hexdigest(), 'etag')
        r = s.call('HEAD', 'bkt', 'o')
        same((r.status, r.h('Content-Length'), r.body), (200, str(len(body)), b''), 'head')
    same(s.call('DELETE', 'bkt', 'o').status, 204, 'delete')
    same(s.call('DELETE', 'bkt', 'o').status, 204, 'delete again')
    fails(s.get('o'), 404, 'NoSuchKey', 'gone')
    same(s.call('HEAD', 'bkt', 'o').status, 404, 'head of none')
    r = s.put('o', b'abc', [('Content-Type', 'text/x'), ('x-amz-meta-A', ' two  words '),
                            ('Cache-Control', 'no-cache'), ('x-amz-tagging', 'a=1&b=2'),
                            ('x-amz-storage-class', 'STANDARD_IA'), ('Expires', 'never'),
                            ('Content-Encoding', 'gzip'), ('Content-Language', 'de'),
                            ('Content-Disposition', 'attachment; filename="x"'),
                            ('x-amz-server-side-encryption', 'AES256')])
    same((r.status, r.h('x-amz-server-side-encryption')), (200, 'AES256'), 'put with headers')
    for r in (s.get('o'), s.call('HEAD', 'bkt', 'o')):
        for k, v in (('Content-Type', 'text/x'), ('x-amz-meta-a', 'two  words'),
                     ('Cache-Control', 'no-cache'), ('x-amz-tagging-count', '2'),
                     ('x-amz-storage-class', 'STANDARD_IA'), ('Expires', 'never'),
                     ('Content-Encoding', 'gzip'), ('Content-Language', 'de'),
                     ('Content-Disposition', 'attachment; filename="x"'),
                     ('x-amz-server-side-encryption', 'AES256'), ('Content-Length', '3')):
            same(r.h(k), v, k)
        check(r.h('x-amz-request-id') and r.h('Date') and r.h('Server'), 'the usual headers')
    tags = [(t.findtext('Key'), t.findtext('Value'))
            for t in s.get('o', q=[('tagging', '')]).xml().iter('Tag')]
    same(tags, [('a', '1'), ('b', '2')], 'tags')
    r = s.get('o', q=[('response-content-type', 'a/b')])
    same(r.h('Content-Type'), 'a/b', 'response-content-type')
    fails(s.put('o', b'', [('x-amz-storage-class', 'X')]), 400, 'InvalidStorageClass', 'class')
    fails(s.put('o', b'', [('x-amz-meta-x', 'y' * 2048)]), 400, 'MetadataTooLarge', 'meta')
    fails(s.put('o', b'', [('x-amz-tagging', '&'.join('%d=' % i for i in range(11)))]), 400,
          'InvalidTag', 'eleven tags')
    same(s.put('k' * 1024, b'').status, 200, 'longest key')
    fails(s.put('k' * 1025, b''), 400, 'KeyTooLongError', 'too long a key')


@test
def odd_keys():
    v = srv()
    s = v.s3()
    keys = ['a b', 'a+b', 'a%2Fb', 'a//b', '/lead', 'dir/', '../up', 'a/./b', 'ünï/☃', "q'\"<&>",
            'x?y=z&w', 'back\\slash', '~.-_', '=', '%', 'tab\there', 'nl\nhere', 'cr\rhere',
            '\x01\x1f', 'ABC', 'abc', '*', '(', ';a:b@c,d!$', 'a' * 255 + '/' + 'b' * 255]
    prefix = 'odd/'
    for k in keys:
        r = s.put(prefix + k, k.encode(), [('Content-MD5', b64(digest('md5', k.encode())))])
        same(r.status, 200, 'put %r' % k)
        same(s.get(prefix + k).body, k.encode(), 'get %r' % k)
    r = s.call('GET', 'bkt', q=[('list-type', '2'), ('prefix', prefix), ('encoding-type', 'url')])
    got = [unquote_plus(e.findtext('Key')) for e in r.xml().iter('Contents')]
    same(got, sorted((prefix + k for k in keys), key=lambda x: x.encode()), 'listed, sorted')
    check(b'+' in r.body and b'%2B' in r.body, 'blank is + and plus is %2B')
    r = s.call('GET', 'bkt', q=[('list-type', '2'), ('prefix', prefix + '\x01')])
    check(b'&#x1;' in r.body, 'control characters as references')
    raw = '/bkt/odd/%FF%FEbytes'
    same(s.send('PUT', raw, body=b'raw').status, 200, 'a key that is no UTF-8')
    same(s.send('GET', raw).body, b'raw', 'get it back')
    check(b'%FF%FEbytes' in s.call('GET', 'bkt', q=[('prefix', 'odd/'), ('encoding-type', 'url')])
          .body, 'listed')
    fails(s.send('PUT', '/bkt/nul%00', body=b''), 400, 'InvalidURI', 'NUL in a key')
    for k in keys:
        s.call('DELETE', 'bkt', prefix + k)
    same(s.send('DELETE', raw).status, 204, 'delete')


@test
def ranges():
    s = srv().s3()
    body = os.urandom(1000)
    s.put('r', body)
    s.put('empty', b'')
    for spec, a, z in (('0-0', 0, 0), ('0-999', 0, 999), ('10-19', 10, 19), ('990-', 990, 999),
                       ('-10', 990, 999), ('500-5000', 500, 999), ('-5000', 0, 999)):
        r = s.get('r', [('Range', 'bytes=' + spec)])
        same((r.status, r.h('Content-Range')), (206, 'bytes %d-%d/1000' % (a, z)), spec)
        same(r.body, body[a:z + 1], spec)
    for spec in ('1000-', '2000-3000', '-0'):
        r = s.get('r', [('Range', 'bytes=' + spec)])
        fails(r, 416, 'InvalidRange', spec)
        same(r.h('Content-Range'), 'bytes */1000', spec)
    for spec in ('bytes=5-2', 'bytes=a-b', 'lines=1-2', 'bytes=0-1,4-5', 'bytes=-'):
        r = s.get('r', [('Range', spec)])
        same((r.status, r.body), (200, body), spec)
    fails(s.get('empty', [('Range', 'bytes=0-')]), 416, 'InvalidRange', 'of an empty object')
    r = s.call('HEAD', 'bkt', 'r', headers=[('Range', 'bytes=1-2')])
    same((r.status, r.h('Content-Length')), (206, '2'), 'HEAD of a range')


@test
def conditions_reading():
    s = srv().s3()
    r = s.put('c', b'one')
    tag = r.h('ETag')
    last = s.call('HEAD', 'bkt', 'c').h('Last-Modified')
    old, new = 'Sat, 01 Jan 2000 00:00:00 GMT', 'Fri, 01 Jan 2100 00:00:00 GMT'
    for want, hs in ((200, [('If-Match', tag)]), (200, [('If-Match', tag.strip('"'))]),
                     (200, [('If-Match', '*')]), (412, [('If-Match', '"x"')]),
                     (200, [('If-Match', '"x", ' + tag)]), (304, [('If-None-Match', tag)]),
                     (304, [('If-None-Match', 'W/' + tag)]), (200, [('If-None-Match', '"x"')]),
                     (304, [('If-Modified-Since', last)]), (304, [('If-Modified-Since', new)]),
                     (200, [('If-Modified-Since', old)]), (412, [('If-Unmodified-Since', old)]),
                     (200, [('If-Unmodified-Since', last)]),
                     (200, [('If-Match', tag), ('If-Unmodified-Since', old)]),
                     (304, [('If-None-Match', tag), ('If-Modified-Since', old)]),
                     (200, [('If-None-Match', '"x"'), ('If-Modified-Since', new)])):
        r = s.get('c', hs)
        same(r.status, want, repr(hs))
        same(s.call('HEAD', 'bkt', 'c', headers=hs).status, want, 'HEAD ' + repr(hs))
        if want == 304:
            check(r.h('ETag') == tag and r.h('Content-Length') is None, '304 has its ETag')


@test
def conditions_writing():
    s = srv().s3()
    none = [('If-None-Match', '*')]
    s.call('DELETE', 'bkt', 'w')
    same(s.put('w', b'1', none).status, 200, 'first')
    fails(s.put('w', b'2', none), 412, 'PreconditionFailed', 'second')
    same(s.get('w').body, b'1', 'unchanged')
    tag = s.call('HEAD', 'bkt', 'w').h('ETag')
    same(s.put('w', b'3', [('If-Match', tag)]).status, 200, 'If-Match')
    fails(s.put('w', b'4', [('If-Match', tag)]), 412, 'PreconditionFailed', 'stale If-Match')
    fails(s.put('w-none', b'4', [('If-Match', '*')]), 404, 'NoSuchKey', 'If-Match of none')
    fails(s.put('w', b'5', [('If-None-Match', tag)]), 501, 'NotImplemented', 'only * is known')
    fails(s.call('DELETE', 'bkt', 'w', headers=[('If-Match', tag)]), 412, 'PreconditionFailed',
          'conditional delete')
    uid = s.create('w')
    p = s.part('w', uid, 1, b'part').h('ETag')
    fails(s.complete('w', uid, [(1, p)], none), 412, 'PreconditionFailed', 'Complete')
    s.call('DELETE', 'bkt', 'w')
    same(s.complete('w', uid, [(1, p)], none).status, 200, 'Complete, free now')
    wins, body = [], b'x' * 100

    def race(i):
        wins.append(srv_s3().put('race', body, none).status)

    def srv_s3():
        return shared.s3()
    s.call('DELETE', 'bkt', 'race')
    ts = [threading.Thread(target=race, args=(i,)) for i in range(12)]
    [t.start() for t in ts]
    [t.join() for t in ts]
    same(sorted(wins), [200] + [412] * 11, 'one of twelve wins')


@test
def body_digests():
    s = srv().s3()
    body = b'some body' * 999
    fails(s.put('d', body, payload=sha(b'other')), 400, 'XAmzContentSHA256Mismatch', 'sha256')
    fails(s.put('d', body, payload=sha(body).upper()), 400, 'InvalidArgument', 'upper case')
    fails(s.put('d', body, payload='x'), 400, 'InvalidArgument', 'no digest at all')
    fails(s.put('d', body, payload=None), 400, 'InvalidRequest', 'missing')
    for v in ('STREAMING-AWS4-HMAC-SHA256-PAYLOAD', 'STREAMING-UNSIGNED-PAYLOAD-TRAILER'):
        fails(s.put('d', body, payload=v), 501, 'NotImplemented', v)
    same(s.put('d', body, payload='UNSIGNED-PAYLOAD').status, 200, 'unsigned')
    fails(s.get('d', payload=sha(b'not empty')), 400, 'XAmzContentSHA256Mismatch', 'of a GET')
    same(s.put('d', body, [('Content-MD5', b64(digest('md5', body)))]).status, 200, 'md5')
    fails(s.put('d', body, [('Content-MD5', b64(digest('md5', b'')))]), 400, 'BadDigest', 'md5')
    fails(s.put('d', body, [('Content-MD5', 'abc')]), 400, 'InvalidDigest', 'md5')
    fails(s.put('d', body, [('Content-MD5', b64(b'short'))]), 400, 'InvalidDigest', 'md5')
    for kind in ('crc32', 'crc32c', 'crc64nvme', 'sha1', 'sha256'):
        name, good = 'x-amz-checksum-' + kind, b64(digest(kind, body))
        sdk = [('x-amz-sdk-checksum-algorithm', kind.upper())]
        r = s.put('d', body, [(name, good)] + sdk)
        same((r.status, r.h(name)), (200, good), kind)
        r = s.call('HEAD', 'bkt', 'd', headers=[('x-amz-checksum-mode', 'ENABLED')])
        same((r.h(name), r.h('x-amz-checksum-type')), (good, 'FULL_OBJECT'), kind)
        same(s.call('HEAD', 'bkt', 'd').h(name), None, 'only when asked')
        fails(s.put('d', body, [(name, b64(digest(kind, b'')))]), 400, 'BadDigest', kind)
        fails(s.put('d', body, [(name, good.rstrip('=') + 'x')]), 400, 'InvalidRequest', kind)
        fails(s.put('d', body, sdk), 400, 'InvalidRequest', 'sdk header alone')
    fails(s.put('d', body, [('x-amz-checksum-crc32', b64(digest('crc32', body))),
                            ('x-amz-sdk-checksum-algorithm', 'SHA256')]), 400,
          'InvalidRequest', 'sdk header of another kind')
    fails(s.put('d', body, [('x-amz-checksum-crc32', b64(digest('crc32', body))),
                            ('x-amz-checksum-sha1', b64(digest('sha1', body)))]), 400,
          'InvalidRequest', 'two checksums')
    s.put('d', body)
    r = s.get('d', [('x-amz-checksum-mode', 'ENABLED')])
    same(r.h('x-amz-checksum-crc64nvme'), b64(digest('crc64nvme', body)), 'one by default')


@test
def lengths():
    v = srv()
    s = v.s3()
    fails(s.put('l', b'', no_length=True, fresh=True), 411, 'MissingContentLength', 'no length')
    c = Conn(v.port)
    raw = s.build('PUT', '/bkt/l', (), [('Transfer-Encoding', 'chunked')], b'', no_length=True,
                  payload='UNSIGNED-PAYLOAD')
    c.s.sendall(raw + b'3\r\nabc\r\n0\r\n\r\n')
    fails(c.reply(), 411, 'MissingContentLength', 'chunked')
    check(c.closed(), 'and closed')
    c = Conn(v.port)
    c.s.sendall(s.build('PUT', '/bkt/l', (), [('Expect', '100-continue')], b'', length=6 << 30))
    fails(c.reply(), 400, 'EntityTooLarge', '6 GiB are refused before the body')
    check(c.closed(4), 'and closed')
    c = Conn(v.port)
    c.s.sendall(s.build('PUT', '/bkt/l', (), (), b'', length=100) + b'x' * 50)
    c.s.shutdown(socket.SHUT_WR)
    fails(c.reply(), 400, 'IncompleteBody', 'half a body')
    fails(s.get('l'), 404, 'NoSuchKey', 'nothing was stored')
    r = s.put('l', b'x' * 100000, expect=True)
    same(r.status, 200, 'Expect: 100-continue')
    try:
        S3(v.port, sk='wrong').put('l', b'x' * 100000, expect=True)
        check(False, 'a wrong signature gets no 100')
    except Gone:
        check(True, 'a wrong signature gets no 100')


@test
def body_timeout():
    v = Server('--body-timeout', '300')
    try:
        s = v.s3()
        c = Conn(v.port)
        c.s.sendall(s.build('PUT', '/bkt/slow', (), (), b'', length=100) + b'x' * 50)
        fails(c.reply(), 400, 'RequestTimeout', 'silence in the body')
        check(c.closed(), 'closed')
    finally:
        v.stop()


@test
def copies():
    v = srv()
    s = v.s3()
    body = os.urandom(100000)
    s.put('src', body, [('Content-Type', 'a/b'), ('x-amz-meta-m', '1')])
    r = s.put('dst', b'', [('x-amz-copy-source', '/bkt/src')])
    same((r.status, r.xml().findtext('ETag')), (200, '"%s"' % hashlib.md5(body).hexdigest()),
         'copy')
    r = s.get('dst')
    same((r.body, r.h('Content-Type'), r.h('x-amz-meta-m')), (body, 'a/b', '1'), 'the copy')
    s.put('dst', b'', [('x-amz-copy-source', 'bkt/src'), ('x-amz-metadata-directive', 'REPLACE'),
                       ('x-amz-meta-m', '2')])
    r = s.get('dst')
    same((r.body, r.h('Content-Type'), r.h('x-amz-meta-m')),
         (body, 'binary/octet-stream', '2'), 'metadata replaced')
    fails(s.put('src', b'', [('x-amz-copy-source', '/bkt/src')]), 400, 'InvalidRequest', 'itself')
    fails(s.put('dst', b'', [('x-amz-copy-source', '/bkt/none')]), 404, 'NoSuchKey', 'none')
    fails(s.put('dst', b'', [('x-amz-copy-source', '/none-at-all/x')]), 404, 'NoSuchBucket', '')
    fails(s.put('dst', b'', [('x-amz-copy-source', 'x')]), 400, 'InvalidArgument', 'no key')
    fails(s.put('dst', b'', [('x-amz-copy-source', '/bkt/src'),
                             ('x-amz-copy-source-if-match', '"x"')]), 412,
          'PreconditionFailed', 'condition')
    s.put('sp ace+ü', b'odd')
    r = s.put('dst', b'', [('x-amz-copy-source', '/bkt/sp%20ace%2B%C3%BC')])
    same((r.status, s.get('dst').body), (200, b'odd'), 'an encoded source')
    uid = s.create('pc')
    q = lambda n: [('partNumber', str(n)), ('uploadId', uid)]
    big = os.urandom(6 * MIB)
    s.put('src', big)
    src = ('x-amz-copy-source', '/bkt/src')
    r1 = s.call('PUT', 'bkt', 'pc', q(1), [src, ('x-amz-copy-source-range', 'bytes=0-5242879')])
    r2 = s.call('PUT', 'bkt', 'pc', q(2), [src, ('x-amz-copy-source-range',
                                                 'bytes=5242880-%d' % (len(big) - 1))])
    same((r1.status, r2.status), (200, 200), 'UploadPartCopy')
    for bad in ('bytes=0-99999999', 'bytes=5-', 'bytes=-5', '0-5'):
        fails(s.call('PUT', 'bkt', 'pc', q(3), [src, ('x-amz-copy-source-range', bad)]), 400,
              'InvalidArgument', bad)
    r = s.complete('pc', uid, [(1, r1.xml().findtext('ETag')), (2, r2.xml().findtext('ETag'))])
    same(r.status, 200, 'complete')
    same(s.get('pc').body, big, 'joined from copies')
    same(s.put('pc2', b'', [('x-amz-copy-source', '/bkt/pc')]).status, 200, 'copy of a joined one')
    r = s.get('pc2')
    same((r.body, r.h('ETag')), (big, '"%s"' % hashlib.md5(big).hexdigest()), 'now plain')


@test
def delete_objects():
    s = srv().s3()
    for i in range(5):
        s.put('del/%d&<' % i, b'x')
    doc = lambda keys, more='': ('<Delete>%s%s</Delete>' % (more, ''.join(
        '<Object><Key>%s</Key></Object>' % k for k in keys))).encode()

    def delete(body, headers=None):
        if headers is None:
            headers = [('Content-MD5', b64(digest('md5', body)))]
        return s.call('POST', 'bkt', q=[('delete', '')], headers=headers, body=body)
    r = delete(doc(['del/0&amp;&lt;', 'del/1&#x26;&#60;', 'never']))
    same([e.findtext('Key') for e in r.xml().iter('Deleted')], ['del/0&<', 'del/1&<', 'never'],
         'deleted')
    r = delete(doc(['del/2&amp;&lt;', 'k' * 1025], '<Quiet>true</Quiet>'))
    same([e.tag for e in r.xml()], ['Error'], 'quiet: errors only')
    body = doc(['del/3&amp;&lt;'])
    same(delete(body, [('x-amz-checksum-crc32', b64(digest('crc32', body))),
                       ('x-amz-sdk-checksum-algorithm', 'CRC32')]).status, 200, 'by checksum')
    fails(delete(body, []), 400, 'InvalidRequest', 'no digest')
    fails(delete(body, [('Content-MD5', b64(digest('md5', b'')))]), 400, 'BadDigest', 'digest')
    for bad in (b'<Delete>', b'<Delete></Delete>', b'<X></X>', b'', doc(['a&#x1;b']),
                b'<!DOCTYPE x><Delete><Object><Key>a</Key></Object></Delete>',
                doc(['k%d' % i for i in range(1001)]), doc(['a&nosuch;b']), doc(['']),
                b'<Delete><Object><Key>a</Object></Key></Delete>'):
        fails(delete(bad), 400, 'MalformedXML', bad[:60])
    r = delete(doc(['k%d' % i for i in range(1000)]))
    same(len(list(r.xml().iter('Deleted'))), 1000, 'a thousand')
    s.put('a\nb', b'')
    delete(doc(['a&#10;b']))
    fails(s.get('a\nb'), 404, 'NoSuchKey', 'a key with a line feed')
    same([e.findtext('Key') for e in s.call('GET', 'bkt', q=[('prefix', 'del/')]).xml()
          .iter('Contents')], ['del/4&<'], 'what is left')


def list_all(s, v2=True, max_keys=1000, **kw):
    """All pages; returns keys, folders, pages."""
    keys, folders, pages, mark = [], [], 0, None
    while True:
        q = [(k.replace('_', '-'), v) for k, v in kw.items()] + [('max-keys', str(max_keys))]
        q += [('list-type', '2')] if v2 else []
        if mark is not None:
            q.append(('continuation-token' if v2 else 'marker', mark))
        x = s.call('GET', 'bkt', q=q).xml()
        pages += 1
        new = [e.findtext('Key') for e in x.iter('Contents')]
        dirs = [e.findtext('Prefix') for e in x.iter('CommonPrefixes')]
        keys += new
        folders += dirs
        check(len(new) + len(dirs) <= max_keys, 'page size')
        if v2:
            same(x.findtext('KeyCount'), str(len(new) + len(dirs)), 'KeyCount')
        if x.findtext('IsTruncated') != 'true':
            return keys, folders, pages
        mark = x.findtext('NextContinuationToken') if v2 else (
            x.findtext('NextMarker') if 'delimiter' in kw else new[-1])


@test
def lists():
    s = srv().s3()
    names = ['l/%s' % n for n in ('a', 'a/1', 'a/2', 'a/b/3', 'b', 'b-', 'b/x', 'b0', 'c/', 'd')]
    for n in names:
        s.put(n, n.encode())
    for v2 in (True, False):
        for m in (1, 2, 3, 1000):
            same(list_all(s, v2, m, prefix='l/')[0], sorted(names), 'flat, %d a page' % m)
            keys, folders, _ = list_all(s, v2, m, prefix='l/', delimiter='/')
            same(keys, ['l/a', 'l/b', 'l/b-', 'l/b0', 'l/d'], 'level, keys')
            same(folders, ['l/a/', 'l/b/', 'l/c/'], 'level, folders')
            keys, folders, _ = list_all(s, v2, m, prefix='l/a', delimiter='/')
            same((keys, folders), (['l/a'], ['l/a/']), 'prefix within a name')
    same(list_all(s, prefix='l/', start_after='l/b')[0], sorted(names)[5:], 'start-after')
    same(list_all(s, prefix='nothing/')[0], [], 'none')
    x = s.call('GET', 'bkt', q=[('max-keys', '0'), ('list-type', '2')]).xml()
    same((x.findtext('IsTruncated'), x.find('Contents')), ('false', None), 'max-keys=0')
    e = [e for e in s.call('GET', 'bkt', q=[('prefix', 'l/d')]).xml().iter('Contents')][0]
    same((e.findtext('Size'), e.findtext('ETag'), e.findtext('StorageClass')),
         ('3', '"%s"' % hashlib.md5(b'l/d').hexdigest(), 'STANDARD'), 'an entry')
    check(re.match(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$', e.findtext('LastModified')), 'time')
    for bad in ([('max-keys', 'x')], [('max-keys', '-1')], [('encoding-type', 'gzip')],
                [('list-type', '2'), ('continuation-token', '!')]):
        fails(s.call('GET', 'bkt', q=bad), 400, 'InvalidArgument', bad)
    s.put('l/a', b'changed')
    s.call('DELETE', 'bkt', 'l/b')
    keys = list_all(s, prefix='l/')[0]
    check('l/b' not in keys and len(keys) == len(names) - 1, 'after a change', keys)
    for n in names:
        s.call('DELETE', 'bkt', n)


@test
def many_keys():
    v = Server('--sink', '--list-max', '1000')
    try:
        def fill(part):
            s = v.s3()
            for i in range(part, 10000, 4):
                s.put('many/%05d' % i, b'')
        t0 = time.time()
        ts = [threading.Thread(target=fill, args=(i,)) for i in range(4)]
        [t.start() for t in ts]
        [t.join() for t in ts]
        took = time.time() - t0
        t0 = time.time()
        keys, _, pages = list_all(v.s3(), prefix='many/')
        listed = time.time() - t0
        same((len(keys), pages, keys == sorted(keys)), (10000, 10, True), 'all of them')
        check(listed < 60, 'listed soon enough', listed)
        print('     10,000 PUTs in %.1f s (4 python threads), listed in %.2f s' % (took, listed))
    finally:
        v.stop()

# ---- multipart -----------------------------------------------------------------------------

@test
def multipart():
    v = srv()
    s = v.s3()
    a, b, c = os.urandom(5 * MIB), os.urandom(5 * MIB + 7), b'tail'
    uid = s.create('dir/mp ü', [('Content-Type', 'x/y'), ('x-amz-meta-token', 't1')])
    k = 'dir/mp ü'
    check(uid.startswith('2~') and len(uid) > 20, 'an upload id', uid)
    tags = {n: s.part(k, uid, n, d).h('ETag') for n, d in ((1, a), (3, b), (7, c))}
    same(tags[7], '"%s"' % hashlib.md5(c).hexdigest(), 'part etag')
    x = s.call('GET', 'bkt', k, [('uploadId', uid), ('max-parts', '2')]).xml()
    same(([p.findtext('PartNumber') for p in x.iter('Part')], x.findtext('IsTruncated'),
          x.findtext('NextPartNumberMarker')), (['1', '3'], 'true', '3'), 'ListParts page 1')
    x = s.call('GET', 'bkt', k, [('uploadId', uid), ('part-number-marker', '3')]).xml()
    same([(p.findtext('PartNumber'), p.findtext('Size'), p.findtext('ETag'))
          for p in x.iter('Part')], [('7', '4', tags[7])], 'ListParts page 2')
    fails(s.complete(k, uid, [(1, tags[1]), (7, tags[7]), (3, tags[3])]), 400,
          'InvalidPartOrder', 'order')
    fails(s.complete(k, uid, [(1, tags[1]), (1, tags[1])]), 400, 'InvalidPartOrder', 'twice')
    fails(s.complete(k, uid, [(1, tags[3])]), 400, 'InvalidPart', 'wrong etag')
    fails(s.complete(k, uid, [(2, tags[1])]), 400, 'InvalidPart', 'missing part')
    fails(s.complete(k, uid, [(7, tags[7])], [('x-amz-mp-object-size', '5')]), 400,
          'InvalidRequest', 'object size')
    small = s.part(k, uid, 2, b'small').h('ETag')
    fails(s.complete(k, uid, [(1, tags[1]), (2, small), (3, tags[3])]), 400, 'EntityTooSmall', '')
    for bad in (b'', b'x', b'<CompleteMultipartUpload/>', b'<A/>', b'<CompleteMultipartUpload>'
                b'<Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>',
                b'<CompleteMultipartUpload><Part><ETag>x</ETag></Part></CompleteMultipartUpload>',
                b'<CompleteMultipartUpload><Part><PartNumber>0</PartNumber><ETag>x</ETag></Part>'
                b'</CompleteMultipartUpload>',
                b'<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag><Z/>'
                b'</Part></CompleteMultipartUpload>'):
        fails(s.complete(k, uid, [], raw=bad) if bad else
              s.call('POST', 'bkt', k, [('uploadId', uid)], body=b''), 400, 'MalformedXML', bad)
    parts = [(n, tags[n]) for n in (1, 3, 7)]
    whole = a + b + c
    r = s.complete(k, uid, parts, [('x-amz-mp-object-size', str(len(whole))),
                                   ('x-amz-checksum-crc64nvme', crc_big([a, b, c])),
                                   ('x-amz-checksum-type', 'FULL_OBJECT')])
    want = '"%s-3"' % hashlib.md5(b''.join(hashlib.md5(d).digest() for d in (a, b, c))).hexdigest()
    same((r.status, r.code()), (200, None), 'complete')
    same((r.xml().tag, r.xml().findtext('ETag')), ('CompleteMultipartUploadResult', want), 'etag')
    same(r.xml().findtext('Key'), k, 'key')
    r = s.get(k)
    check(r.body == whole, 'the object')
    same((r.h('ETag'), r.h('Content-Type'), r.h('x-amz-meta-token')), (want, 'x/y', 't1'), 'head')
    r = s.get(k, [('Range', 'bytes=5242870-10485770')])
    check(r.status == 206 and r.body == whole[5242870:10485771], 'a range over parts')
    r = s.get(k, q=[('partNumber', '3')])
    same((r.status, r.h('x-amz-mp-parts-count'), r.body == b), (206, '3', True), 'partNumber=3')
    fails(s.get(k, q=[('partNumber', '2')]), 416, 'InvalidRange', 'partNumber=2')
    r = s.complete(k, uid, parts)
    same((r.status, r.xml().findtext('ETag')), (200, want), 'Complete once more')
    fails(s.part(k, uid, 1, b'x'), 404, 'NoSuchUpload', 'a late part')
    fails(s.call('DELETE', 'bkt', k, [('uploadId', uid)]), 404, 'NoSuchUpload', 'a late abort')
    check(s.get(k).body == whole, 'still whole')
    s.put(k, b'over')
    fails(s.complete(k, uid, parts), 404, 'NoSuchUpload', 'Complete after an overwrite')
    same(s.get(k).body, b'over', 'overwritten')
    left = [d for d in os.listdir(v.dir + '/d/b/bkt/u')]
    check(binascii.hexlify(base64.b64decode(uid[2:])).decode() not in left, 'its parts are gone')


def crc_big(pieces):
    """CRC-64/NVME of large data by the tool itself; the tool is checked elsewhere."""
    p = subprocess.run([S3D, 'sum', 'crc64nvme'], input=b''.join(pieces), capture_output=True)
    return p.stdout.decode().split()[1]


@test
def multipart_refusals():
    s = srv().s3()
    uid = s.create('mr')
    for n in ('0', '10001', 'x', '-1', ''):
        fails(s.call('PUT', 'bkt', 'mr', [('partNumber', n), ('uploadId', uid)], body=b'x'), 400,
              'InvalidArgument', 'part ' + n)
    for bad in ('x', '2~', uid[:-4] + 'AA==', '../../etc'):
        fails(s.part('mr', bad, 1, b'x'), 404, 'NoSuchUpload', bad)
        fails(s.call('GET', 'bkt', 'mr', [('uploadId', bad)]), 404, 'NoSuchUpload', bad)
    fails(s.part('other', uid, 1, b'x'), 404, 'NoSuchUpload', 'of another key')
    fails(s.part('mr', uid, 1, b'x', payload=sha(b'y')), 400, 'XAmzContentSHA256Mismatch', '')
    fails(s.part('mr', uid, 1, b'x', [('Content-MD5', b64(digest('md5', b'')))]), 400,
          'BadDigest', '')
    same(s.part('mr', uid, 10000, b'x').status, 200, 'part 10000')
    same(s.call('DELETE', 'bkt', 'mr', [('uploadId', uid)]).status, 204, 'abort')
    for r in (s.part('mr', uid, 1, b'x'), s.call('GET', 'bkt', 'mr', [('uploadId', uid)]),
              s.complete('mr', uid, [(1, '"x"')]),
              s.call('DELETE', 'bkt', 'mr', [('uploadId', uid)])):
        fails(r, 404, 'NoSuchUpload', 'after the abort')
    fails(s.call('POST', 'bkt', 'x', [('uploads', '')], [('x-amz-storage-class', 'X')]), 400,
          'InvalidStorageClass', 'Create')


@test
def multipart_checksums():
    s = srv().s3()
    a, b = b'a' * (5 * MIB), b'bcd'
    for kind in ('crc32', 'crc32c', 'sha1', 'sha256'):
        K = kind.upper()
        r = s.call('POST', 'bkt', 'cs', [('uploads', '')], [('x-amz-checksum-algorithm', K)])
        same((r.h('x-amz-checksum-algorithm'), r.h('x-amz-checksum-type')), (K, 'COMPOSITE'), kind)
        uid = r.xml().findtext('UploadId')
        sums = [fast(kind, d) for d in (a, b)]
        name = 'x-amz-checksum-' + kind
        fails(s.part('cs', uid, 1, b), 400, 'InvalidRequest', 'a part without')
        ps = [s.part('cs', uid, i + 1, d, [(name, b64(sums[i]))]) for i, d in enumerate((a, b))]
        same([p.h(name) for p in ps], [b64(x) for x in sums], 'echoed')
        tags = [p.h('ETag') for p in ps]
        el = ['<Checksum%s>%s</Checksum%s>' % (K, b64(x), K) for x in sums]
        fails(s.complete('cs', uid, [(1, tags[0]), (2, tags[1])]), 400, 'InvalidRequest',
              'Complete without')
        fails(s.complete('cs', uid, [(1, tags[0], el[1]), (2, tags[1], el[1])]), 400,
              'InvalidPart', 'Complete with a wrong one')
        want = b64(digest(kind, b''.join(sums))) + '-2'
        r = s.complete('cs', uid, [(1, tags[0], el[0]), (2, tags[1], el[1])])
        same(r.xml().findtext('Checksum' + K), want, 'composite ' + kind)
        r = s.call('HEAD', 'bkt', 'cs', headers=[('x-amz-checksum-mode', 'ENABLED')])
        same((r.h(name), r.h('x-amz-checksum-type')), (want, 'COMPOSITE'), 'HEAD')
        x = s.get('cs', [('x-amz-object-attributes', 'ETag,Checksum,ObjectParts,ObjectSize,'
                          'StorageClass'), ('x-amz-max-parts', '1')], [('attributes', '')]).xml()
        same(x.findtext('Checksum/Checksum' + K), want[:-2], 'attributes: without -N')
        same((x.findtext('ObjectParts/PartsCount'), x.findtext('ObjectParts/IsTruncated'),
              x.findtext('ObjectParts/Part/Checksum' + K), x.findtext('ObjectSize')),
             ('2', 'true', b64(sums[0]), str(5 * MIB + 3)), 'attributes: parts')
    for kind in ('crc64nvme', 'crc32', 'crc32c'):
        K = kind.upper()
        r = s.call('POST', 'bkt', 'cs', [('uploads', '')], [('x-amz-checksum-algorithm', K),
                                                            ('x-amz-checksum-type', 'FULL_OBJECT')])
        uid = r.xml().findtext('UploadId')
        name = 'x-amz-checksum-' + kind
        tags = [s.part('cs', uid, i + 1, d, [(name, b64(fast(kind, d)))]).h('ETag')
                for i, d in enumerate((a, b))]
        fails(s.complete('cs', uid, [(1, tags[0]), (2, tags[1])], [(name, b64(fast(kind, b)))]),
              400, 'BadDigest', 'full object, wrong')
        r = s.complete('cs', uid, [(1, tags[0]), (2, tags[1])], [(name, b64(fast(kind, a + b)))])
        same(r.xml().findtext('Checksum' + K), b64(fast(kind, a + b)), 'full object ' + kind)
    for alg, typ in (('SHA256', 'FULL_OBJECT'), ('CRC64NVME', 'COMPOSITE'), ('X', 'COMPOSITE')):
        fails(s.call('POST', 'bkt', 'cs', [('uploads', '')], [('x-amz-checksum-algorithm', alg),
              ('x-amz-checksum-type', typ)]), 400, 'InvalidRequest', alg + typ)
    uid = s.create('cs')
    t = s.part('cs', uid, 1, a).h('ETag'), s.part('cs', uid, 3, b).h('ETag')
    fails(s.complete('cs', uid, [(1, t[0]), (3, t[1])], [('x-amz-checksum-crc64nvme',
                                                          b64(bytes(8)))]), 400, 'BadDigest', '')


def fast(kind, data):
    if kind in TABLES and len(data) > 10000:
        p = subprocess.run([S3D, 'sum', kind], input=data, capture_output=True)
        return bytes.fromhex(p.stdout.decode().split()[0])
    return digest(kind, data)


@test
def list_uploads():
    s = srv().s3()
    ids = [(k, s.create(k)) for k in ('lu/a', 'lu/a', 'lu/b c', 'lu/d/1', 'lu/d/2', 'lu/e')]
    for page in (1, 2, 4, 1000):
        got, folders, marks = [], [], []
        while True:
            x = s.call('GET', 'bkt', q=[('uploads', ''), ('prefix', 'lu/'),
                                        ('max-uploads', str(page))] + marks).xml()
            got += [(u.findtext('Key'), u.findtext('UploadId')) for u in x.iter('Upload')]
            if x.findtext('IsTruncated') != 'true':
                break
            marks = [('key-marker', x.findtext('NextKeyMarker')),
                     ('upload-id-marker', x.findtext('NextUploadIdMarker'))]
        same(got, ids, 'pages of %d' % page)
    x = s.call('GET', 'bkt', q=[('uploads', ''), ('prefix', 'lu/'), ('delimiter', '/'),
                                ('encoding-type', 'url')]).xml()
    same([u.findtext('Key') for u in x.iter('Upload')], ['lu/a', 'lu/a', 'lu/b+c', 'lu/e'], 'level')
    same([u.findtext('Prefix') for u in x.iter('CommonPrefixes')], ['lu/d/'], 'level, folders')
    for k, u in ids:
        s.call('DELETE', 'bkt', k, [('uploadId', u)])
    same(list(s.call('GET', 'bkt', q=[('uploads', ''), ('prefix', 'lu/')]).xml().iter('Upload')),
         [], 'none left')


@test
def many_parts():
    v = Server('--min-part', '1')
    try:
        s = v.s3()
        uid = s.create('mp')
        tags = [s.part('mp', uid, n, b'%d,' % n).h('ETag') for n in range(1, 2501)]
        x = s.call('GET', 'bkt', 'mp', [('uploadId', uid), ('max-parts', '5000')]).xml()
        same((len(list(x.iter('Part'))), x.findtext('IsTruncated')), (1000, 'true'), 'capped')
        same(s.complete('mp', uid, [(i + 1, t) for i, t in enumerate(tags)]).status, 200, '')
        same(s.get('mp').body, b''.join(b'%d,' % n for n in range(1, 2501)), 'joined')
    finally:
        v.stop()


# ---- authentication ------------------------------------------------------------------------

@test
def authentication():
    v = srv()
    s = v.s3()
    s.put('auth', b'secret')
    before = v.stat('signature_failures')
    r = S3(v.port, sk='wrong').get('auth')
    fails(r, 403, 'SignatureDoesNotMatch', 'wrong secret')
    check(b'<StringToSign>' in r.body and b'<CanonicalRequest>' in r.body, 'shows its work')
    fails(S3(v.port, ak='nobody').get('auth'), 403, 'InvalidAccessKeyId', 'unknown key')
    same(v.stat('signature_failures'), before + 2, 'counted')
    fails(s.get('auth', anonymous=True), 403, 'AccessDenied', 'anonymous')
    fails(s.get('auth', skew=-1200), 403, 'RequestTimeTooSkewed', '20 minutes late')
    fails(s.get('auth', skew=1200), 403, 'RequestTimeTooSkewed', '20 minutes early')
    same(s.get('auth', skew=-800).status, 200, '13 minutes late')
    fails(S3(v.port, region='eu-west-1').get('auth'), 400, 'AuthorizationHeaderMalformed', '')
    fails(s.get('auth', date='20130524T000000Z'), 403, 'RequestTimeTooSkewed', '2013')
    fails(s.get('auth', date='nonsense'), 403, 'AccessDenied', 'date')
    edit = lambda a, b: lambda hs: [(k, v.replace(a, b) if k == 'Authorization' else v)
                                    for k, v in hs]
    fails(s.get('auth', tamper=edit('AWS4-HMAC-SHA256 ', 'AWS ')), 400, 'InvalidRequest', 'v2')
    fails(s.get('auth', tamper=edit('/s3/', '/sts/')), 400, 'AuthorizationHeaderMalformed', '')
    fails(s.get('auth', tamper=edit('SignedHeaders', 'Headers')), 400,
          'AuthorizationHeaderMalformed', '')
    same(s.get('auth', tamper=edit(', ', ',')).status, 200, 'no blanks after commas')
    # what is signed must be what is sent
    fails(s.get('auth', [('x-amz-meta-z', '1')], unsigned=['x-amz-meta-z']), 403, 'AccessDenied',
          'unsigned x-amz-')
    fails(s.put('auth', b'x', [('Content-Type', 'a/b')], unsigned=['content-type']), 403,
          'AccessDenied', 'unsigned content-type')
    fails(s.get('auth', unsigned=['host']), 403, 'AccessDenied', 'unsigned host')
    fails(s.send('GET', '/bkt/auth', target='/bkt/auth?x=1'), 403, 'SignatureDoesNotMatch', 'query')
    fails(s.send('GET', '/bkt/auth', target='/bkt/auti'), 403, 'SignatureDoesNotMatch', 'path')
    fails(s.get('auth', tamper=lambda hs: [(k, 'other' if k == 'Host' else v) for k, v in hs]),
          403, 'SignatureDoesNotMatch', 'host')
    same(s.get('auth', [('X-Amz-Meta-Q', '  a   "b   c"  ')]).status, 200, 'blanks collapse')
    same(s.get('auth', [('x-amz-meta-r', 'b'), ('x-amz-meta-r', 'a')]).status, 200, 'repeats')
    same(s.get('auth', [('User-Agent', 'x')], unsigned=['user-agent']).status, 200, 'free ones')
    same(s.send('GET', '/bkt/auth', target='/bkt/%61uth').status, 200, 'other escapes, same bytes')
    fails(s.get('auth', q=[('X-Amz-Signature', 'x'), ('X-Amz-Algorithm', 'y')]), 400,
          'InvalidArgument', 'two ways at once')


@test
def published_vectors():
    """AWS's own examples (sig-v4-header-based-auth, sigv4-query-string-auth), word for word."""
    v = Server('--key', 'AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
               '--virtual-host', 's3.amazonaws.com', '--bucket', 'examplebucket')
    try:
        v.ctl('clock %d' % (calendar.timegm((2013, 5, 24, 0, 0, 0)) - time.time()))
        scope = 'AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request'

        def go(method, target, headers, names, sig, body=b''):
            return raw(v.port, ('%s %s HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\n%s'
                                'x-amz-date: 20130524T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 '
                                'Credential=%s,SignedHeaders=%s,Signature=%s\r\n\r\n'
                                % (method, target, headers, scope, names, sig)).encode() + body,
                       method)
        none = 'x-amz-content-sha256: %s\r\n' % sha(b'')
        base = 'host;x-amz-content-sha256;x-amz-date'
        body = b'Welcome to Amazon S3.'
        r = go('PUT', '/test%24file.text', 'Date: Fri, 24 May 2013 00:00:00 GMT\r\n'
               'x-amz-storage-class: REDUCED_REDUNDANCY\r\nContent-Length: 21\r\n'
               'x-amz-content-sha256: %s\r\n' % sha(body), 'date;' + base + ';x-amz-storage-class',
               '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd', body)
        same(r.status, 200, 'PUT Object')
        r = go('GET', '/test.txt', 'Range: bytes=0-9\r\n' + none,
               'host;range;x-amz-content-sha256;x-amz-date',
               'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41')
        fails(r, 404, 'NoSuchKey', 'GET Object')
        r = go('GET', '/?lifecycle', none, base,
               'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543')
        fails(r, 501, 'NotImplemented', 'GET Bucket Lifecycle')
        r = go('GET', '/?max-keys=2&prefix=J', none, base,
               '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7')
        same(r.status, 200, 'List Objects')
        url = ('/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=%s&X-Amz-Date='
               '20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature='
               'aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404'
               % scope.replace('/', '%2F'))
        host = ' HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\n\r\n'
        fails(raw(v.port, 'GET ' + url + host), 404, 'NoSuchKey', 'presigned')
        v.ctl('clock %d' % (calendar.timegm((2013, 5, 25, 0, 0, 1)) - time.time()))
        fails(raw(v.port, 'GET ' + url + host), 403, 'AccessDenied', 'a day later')
    finally:
        v.stop()


@test
def session_tokens():
    v = srv()
    tok = 'the/token+='
    same(S3(v.port, 'tmp', 'tmpsecret', tok).get('none').status, 404, 'right')
    fails(S3(v.port, 'tmp', 'tmpsecret').get('none'), 403, 'InvalidAccessKeyId', 'missing')
    fails(S3(v.port, 'tmp', 'tmpsecret', 'x').get('none'), 400, 'InvalidToken', 'wrong')
    fails(S3(v.port, AK, SK, 'x').get('none'), 400, 'InvalidToken', 'of a lasting key')
    c = Conn(v.port)
    c.s.sendall(('GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n' % (
        S3(v.port, 'tmp', 'tmpsecret', tok).presign('GET', 'bkt', 'none'), v.port)).encode())
    same(c.reply().status, 404, 'presigned')


@test
def presigned():
    v = srv()
    s = v.s3()
    s.put('pre signed+ü', b'content')

    def go(url, method='GET', headers='', body=b'', host=None):
        c = Conn(v.port)
        c.s.sendall(('%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n' % (
            method, url, host or s.host, headers)).encode() + body)
        return c.reply(method)
    url = s.presign('GET', 'bkt', 'pre signed+ü')
    same(go(url).body, b'content', 'GET')
    same(go(url, headers='Content-Type: x/y\r\n').status, 200, 'content-type need not be signed')
    fails(go(url, 'PUT', 'Content-Length: 0\r\n'), 403, 'SignatureDoesNotMatch', 'other method')
    fails(go(url, host='evil'), 403, 'SignatureDoesNotMatch', 'other host')
    fails(go(url, headers='x-amz-meta-a: 1\r\n'), 403, 'AccessDenied', 'unsigned x-amz-')
    fails(go(url[:-1] + ('0' if url[-1] != '0' else '1')), 403, 'SignatureDoesNotMatch', '')
    fails(go(s.presign('GET', 'bkt', 'x', expires=5, skew=-60)), 403, 'AccessDenied', 'expired')
    fails(go(s.presign('GET', 'bkt', 'x', skew=1200)), 403, 'AccessDenied', 'not yet')
    fails(go(s.presign('GET', 'bkt', 'x', expires=604801)), 400,
          'AuthorizationQueryParametersError', 'too long')
    same(go(s.presign('GET', 'bkt', 'pre signed+ü', expires=604800, skew=-86400)).status, 200,
         'a day old')
    r = go(s.presign('PUT', 'bkt', 'put'), 'PUT', 'Content-Length: 3\r\n', b'abc')
    same((r.status, s.get('put').body), (200, b'abc'), 'PUT')
    r = go(s.presign('PUT', 'bkt', 'put', headers=[('x-amz-meta-a', '1')]), 'PUT',
           'x-amz-meta-a: 1\r\nContent-Length: 3\r\n', b'abc')
    same((r.status, s.get('put').h('x-amz-meta-a')), (200, '1'), 'PUT with a signed header')
    uid = s.create('mpp')
    r = go(s.presign('PUT', 'bkt', 'mpp', [('partNumber', '1'), ('uploadId', uid)]), 'PUT',
           'Content-Length: 3\r\n', b'abc')
    same(s.complete('mpp', uid, [(1, r.h('ETag'))]).status, 200, 'a part')
    r = go(s.presign('PUT', 'bkt', 'put'), 'PUT', 'Origin: http://x\r\nContent-Length: 0\r\n')
    same(r.h('Access-Control-Allow-Origin'), '*', 'CORS')
    r = go('/bkt/put', 'OPTIONS', 'Origin: http://x\r\nAccess-Control-Request-Headers: a\r\n')
    same((r.status, r.h('Access-Control-Allow-Headers')), (200, 'a'), 'preflight')


@test
def public_bucket():
    v = srv()
    s = v.s3()
    s.call('PUT', 'open', 'x', body=b'public')
    c = lambda m, t: raw(v.port, '%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n' % (m, t))
    same(c('GET', '/open/x').body, b'public', 'GET')
    same(c('HEAD', '/open/x').status, 200, 'HEAD')
    check(b'<Key>x</Key>' in c('GET', '/open?list-type=2').body, 'list')
    fails(c('PUT', '/open/y'), 403, 'AccessDenied', 'PUT')
    fails(c('DELETE', '/open/x'), 403, 'AccessDenied', 'DELETE')
    fails(c('GET', '/bkt/x'), 403, 'AccessDenied', 'a private one')
    fails(c('GET', '/'), 403, 'AccessDenied', 'ListBuckets')


@test
def virtual_host():
    v = srv()
    s = v.s3()
    s.put('vh/key', b'by host')
    o = {'host': 'bkt.s3.test:%d' % v.port}
    same(s.send('GET', '/vh/key', **o).body, b'by host', 'GET')
    same(s.send('PUT', '/bkt/key', body=b'2', host='bkt.s3.test').status, 200, 'PUT')
    same(s.get('bkt/key').body, b'2', 'the path is all key')
    same(s.send('GET', '/', [('list-type', '2'), ('prefix', 'vh/')], **o).xml()
         .findtext('Contents/Key'), 'vh/key', 'list')
    fails(s.send('GET', '/x', host='nobody.s3.test'), 404, 'NoSuchBucket', 'no such')


def raw(port, text, method=None):
    c = Conn(port)
    c.s.sendall(text if isinstance(text, bytes) else text.encode('latin-1'))
    try:
        return c.reply(method or text.split()[0])
    finally:
        c.close()


# ---- form uploads --------------------------------------------------------------------------

def form(v, fields, data, conditions=None, expires=600, sk=SK, filename='name.bin', bucket='bkt',
         sign=True, order=None):
    date = stamp()
    cred = '%s/%s/%s/s3/aws4_request' % (AK, date[:8], REGION)
    f = list(fields)
    if sign:
        f += [('x-amz-algorithm', 'AWS4-HMAC-SHA256'), ('x-amz-credential', cred),
              ('x-amz-date', date)]
        exp = time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(time.time() + expires))
        cond = conditions if conditions is not None else [{k: v} for k, v in fields]
        pol = {'expiration': exp, 'conditions': cond + [
            {'bucket': bucket}, {'x-amz-algorithm': 'AWS4-HMAC-SHA256'},
            {'x-amz-credential': cred}, {'x-amz-date': date}]}
        p = b64(json.dumps(pol, ensure_ascii=False).encode())
        f += [('policy', p), ('x-amz-signature', hmac.new(
            signing_key(sk, date[:8], REGION), p.encode(), hashlib.sha256).hexdigest())]
    edge = '----edge7MA4YWxk'
    body = ''.join('--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (edge, k, x)
                   for k, x in f).encode()
    body += ('--%s\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n'
             'Content-Type: a/b\r\n\r\n' % (edge, filename)).encode() + data
    body += ('\r\n--%s\r\nContent-Disposition: form-data; name="submit"\r\n\r\nok\r\n--%s--\r\n'
             % (edge, edge)).encode()
    head = ('POST /%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: multipart/form-data; '
            'boundary=%s\r\nContent-Length: %d\r\n\r\n' % (bucket, v.port, edge, len(body)))
    return raw(v.port, head.encode() + body, 'POST')


@test
def form_uploads():
    v = srv()
    s = v.s3()
    for data in (b'', b'hello', b'\r\n------edge7MA4YWx\r\n' * 9, os.urandom(2 * MIB + 5)):
        r = form(v, [('key', 'form/a'), ('Content-Type', 'x/y'), ('x-amz-meta-m', '7')], data)
        same(r.status, 204, 'stored')
        g = s.get('form/a')
        same((g.body == data, g.h('Content-Type'), g.h('x-amz-meta-m')), (True, 'x/y', '7'), 'is')
    r = form(v, [('key', 'form/${filename}'), ('success_action_status', '201')], b'x',
             [['starts-with', '$key', 'form/'], {'success_action_status': '201'}])
    same((r.status, r.xml().findtext('Key')), (201, 'form/name.bin'), 'filename, 201')
    same(form(v, [('key', 'f'), ('success_action_status', '200')], b'x').status, 200, '200')
    r = form(v, [('key', 'f'), ('success_action_redirect', 'http://back/?a=1')], b'x')
    check(r.status == 303 and r.h('Location').startswith('http://back/?a=1&bucket=bkt&key=f&etag='),
          'redirect', r.h('Location'))
    rng = ['content-length-range', 2, 4]
    fails(form(v, [('key', 'f')], b'x', [{'key': 'f'}, rng]), 400, 'EntityTooSmall', '')
    fails(form(v, [('key', 'f')], b'12345', [{'key': 'f'}, rng]), 400, 'EntityTooLarge', '')
    same(form(v, [('key', 'f')], b'123', [{'key': 'f'}, rng]).status, 204, 'in range')
    fails(form(v, [('key', 'f')], b'x', [['starts-with', '$key', 'g']]), 403, 'AccessDenied', '')
    fails(form(v, [('key', 'f')], b'x', [['eq', '$key', 'g']]), 403, 'AccessDenied', '')
    fails(form(v, [('key', 'f'), ('x-amz-meta-a', '1')], b'x', [{'key': 'f'}]), 403,
          'AccessDenied', 'a field the policy does not know')
    same(form(v, [('key', 'f'), ('x-ignore-a', '1')], b'x', [{'key': 'f'}]).status, 204, 'ignored')
    fails(form(v, [('key', 'f')], b'x', expires=-5), 403, 'AccessDenied', 'expired')
    fails(form(v, [('key', 'f')], b'x', sk='wrong'), 403, 'SignatureDoesNotMatch', '')
    fails(form(v, [], b'x'), 400, 'InvalidArgument', 'no key')
    fails(form(v, [('key', 'f')], b'x', sign=False), 403, 'AccessDenied', 'unsigned')
    same(form(v, [('key', 'f')], b'x', sign=False, bucket='open').status, 204, 'unsigned, public')
    fails(form(v, [('key', 'f')], b'x', [{'key': 'f'}, 5]), 400, 'InvalidPolicyDocument', '')
    for body in (b'', b'--x', b'nothing here', b'--x\r\n\r\n', b'--x\r\nfoo\r\n\r\nbar\r\n--x--',
                 b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\nf\r\n--x--'):
        r = raw(v.port, b'POST /bkt HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; '
                b'boundary=x\r\nContent-Length: %d\r\n\r\n' % len(body) + body, 'POST')
        fails(r, 400, 'MalformedPOSTRequest', body)
    r = raw(v.port, b'POST /bkt HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n', 'POST')
    fails(r, 400, 'MalformedPOSTRequest', 'no boundary')

# ---- quirks --------------------------------------------------------------------------------

@test
def quirks_of_writes():
    v = srv()
    s = v.s3()
    none = [('If-None-Match', '*')]
    s.put('q', b'1')
    v.quirks('no-if-none-match')
    same(s.put('q', b'2', none).status, 200, 'no-if-none-match')
    v.quirks('if-none-match-501')
    fails(s.put('q', b'3', none), 501, 'NotImplemented', 'if-none-match-501')
    v.quirks('opaque-etag')
    tag = s.put('q', b'x').h('ETag')
    check(re.match('"[0-9a-f]{32}"$', tag) and tag.strip('"') != digest('md5', b'x').hex(),
          'opaque-etag', tag)
    same(s.get('q').h('ETag'), tag, 'but a lasting one')
    uid = s.create('q')
    t = s.part('q', uid, 1, b'x').h('ETag')
    etag = s.complete('q', uid, [(1, t)]).xml().findtext('ETag')
    check(etag.endswith('-1"') and digest('md5', digest('md5', b'x')).hex() not in etag, 'joined')
    v.quirks('checksum-unsupported')
    fails(s.put('q', b'x', [('x-amz-checksum-crc32', b64(digest('crc32', b'x')))]), 400,
          'InvalidArgument', 'checksum-unsupported')
    fails(s.call('POST', 'bkt', 'q', [('uploads', '')], [('x-amz-checksum-algorithm', 'CRC32')]),
          400, 'InvalidArgument', 'checksum-unsupported')
    v.quirks('checksum-ignored')
    r = s.put('q', b'x', [('x-amz-checksum-crc32', b64(digest('crc32', b'')))])
    same((r.status, r.h('x-amz-checksum-crc32')), (200, None), 'checksum-ignored')
    v.quirks('body-unchecked')
    same(s.put('q', b'x', payload=sha(b'y')).status, 200, 'body-unchecked')
    v.quirks('lax-signed-headers')
    same(s.put('q', b'x', [('x-amz-meta-a', '1')], unsigned=['x-amz-meta-a']).status, 200, 'lax')
    v.quirks('any-region')
    same(S3(v.port, region='mars-1').get('q').status, 200, 'any-region')
    v.quirks('empty-message')
    r = s.get('none')
    same((r.code(), r.xml().findtext('Message')), ('NoSuchKey', ''), 'empty-message')


@test
def quirks_of_lists():
    v = srv()
    s = v.s3()
    for k in ('ql/a b', 'ql/b', 'ql/c', 'ql/d'):
        s.put(k, b'x')
    tag = digest('md5', b'x').hex()
    q = [('list-type', '2'), ('prefix', 'ql/'), ('max-keys', '2')]
    for name, want in (('bare-etag-xml', '<ETag>%s</ETag>' % tag),
                       ('quoted-etag-xml', '<ETag>"%s"</ETag>' % tag),
                       ('empty-message', '<ETag>&quot;%s&quot;</ETag>' % tag)):
        v.quirks(name)
        check(want.encode() in s.call('GET', 'bkt', q=q).body, name)
    v.quirks('no-list-v2')
    x = s.call('GET', 'bkt', q=q).xml()
    same((x.findtext('IsTruncated'), x.findtext('NextContinuationToken'), x.findtext('KeyCount'),
          x.findtext('Marker')), ('true', None, None, ''), 'no-list-v2')
    v.quirks('list-v1-no-nextmarker')
    x = s.call('GET', 'bkt', q=[('prefix', 'ql/'), ('max-keys', '2'), ('delimiter', '/')]).xml()
    same((x.findtext('IsTruncated'), x.findtext('NextMarker')), ('true', None), 'no NextMarker')
    v.quirks('list-loop')
    x = s.call('GET', 'bkt', q=q).xml()
    y = s.call('GET', 'bkt', q=q + [('continuation-token',
                                     x.findtext('NextContinuationToken'))]).xml()
    same([k.text for k in y.iter('Key')], [k.text for k in x.iter('Key')], 'list-loop')
    same(y.findtext('NextContinuationToken'), x.findtext('NextContinuationToken'), 'list-loop')
    v.quirks('list-no-marker')
    x = s.call('GET', 'bkt', q=q).xml()
    same((x.findtext('IsTruncated'), x.findtext('NextContinuationToken')), ('true', None), '')
    v.quirks('encoding-type-ignored')
    x = s.call('GET', 'bkt', q=q + [('encoding-type', 'url')]).xml()
    same((x.findtext('EncodingType'), x.findtext('Contents/Key')), (None, 'ql/a b'), 'encoding')
    v.quirks('xml-namespace-prefix')
    b = s.call('GET', 'bkt', q=q).body
    check(b'<s3:ListBucketResult xmlns:s3=' in b and b'<s3:Key>' in b, 'prefix')
    same(len(list(strip(ET.fromstring(b)).iter('Contents'))), 2, 'and still XML')
    v.quirks('range-ignored')
    r = s.get('ql/b', [('Range', 'bytes=0-0')])
    same((r.status, r.body), (200, b'x'), 'range-ignored')
    v.quirks('wrong-content-range')
    r = s.get('ql/b', [('Range', 'bytes=0-0')])
    same((r.status, r.h('Content-Range')), (206, 'bytes 1-1/1'), 'wrong-content-range')


@test
def quirks_of_uploads():
    v = srv()
    s = v.s3()
    uid = s.create('qu')
    t1, t2 = s.part('qu', uid, 1, b'a').h('ETag'), s.part('qu', uid, 2, b'b').h('ETag')
    v.quirks('no-list-parts')
    fails(s.call('GET', 'bkt', 'qu', [('uploadId', uid)]), 403, 'AccessDenied', '')
    v.quirks('no-list-uploads')
    fails(s.call('GET', 'bkt', q=[('uploads', '')]), 403, 'AccessDenied', '')
    v.quirks('list-loop')
    q = [('uploadId', uid), ('max-parts', '1'), ('part-number-marker', '1')]
    x = s.call('GET', 'bkt', 'qu', q).xml()
    same((x.findtext('Part/PartNumber'), x.findtext('IsTruncated')), ('1', 'true'), 'parts loop')
    v.quirks('strict-complete-xml')
    fails(s.complete('qu', uid, [(1, t1, '<ChecksumCRC32>AAAAAA==</ChecksumCRC32>')]), 400,
          'MalformedXML', 'strict-complete-xml')
    v.quirks('complete-needs-all-parts')
    fails(s.complete('qu', uid, [(1, t1)]), 400, 'InvalidPart', 'complete-needs-all-parts')
    v.quirks('complete-once')
    same(s.complete('qu', uid, [(2, t2)]).status, 200, 'complete')
    fails(s.complete('qu', uid, [(2, t2)]), 404, 'NoSuchUpload', 'complete-once')
    v.quirks('no-such-key-for-upload')
    fails(s.call('GET', 'bkt', 'qu', [('uploadId', uid)]), 404, 'NoSuchKey', '')
    same(srv().ctl('quirks', 'no-such-quirk')[0], 1, 'an unknown quirk')


# ---- faults --------------------------------------------------------------------------------

def outcome(f):
    """A reply, or the name of what happened instead."""
    try:
        return f()
    except Gone as e:
        return str(e)
    except ConnectionResetError:
        return 'reset'
    except BrokenPipeError:
        return 'broken pipe'
    except (socket.timeout, TimeoutError):
        return 'timeout'


@test
def faults_with_codes():
    v = srv()
    s = v.s3()
    table = {'500': (500, 'InternalError'), '502': (502, 'BadGateway'),
             '503': (503, 'ServiceUnavailable'), '504': (504, 'GatewayTimeout'),
             'slowdown': (503, 'SlowDown'), '429': (429, 'TooManyRequests'),
             'request-timeout': (400, 'RequestTimeout'), 'expired-token': (400, 'ExpiredToken'),
             'access-denied': (403, 'AccessDenied'), 'invalid-key': (403, 'InvalidAccessKeyId'),
             'no-such-upload': (404, 'NoSuchUpload'), 'bad-digest': (400, 'BadDigest'),
             'conflict-409': (409, 'ConditionalRequestConflict'),
             'precondition-412': (412, 'PreconditionFailed'),
             'method-501': (501, 'NotImplemented'), 'error=NoSuchBucket': (404, 'NoSuchBucket'),
             'signature-403': (403, 'SignatureDoesNotMatch'),
             'no-such-bucket': (404, 'NoSuchBucket')}
    for action, (status, code) in table.items():
        s.call('DELETE', 'bkt', 'f')
        v.faults('PutObject * %s n=1' % action)
        fails(s.put('f', b'x' * 100), status, code, action)
        same(s.get('f').status, 404, action + ': nothing was stored')
        same(s.put('f', b'x').status, 200, action + ': once only')
        check(v.stat('fault.' + action.split('=')[0]) >= 1, 'counted', action)
    v.faults('GetObject * 500')
    r = S3(v.port, sk='wrong').get('f')
    fails(r, 403, 'SignatureDoesNotMatch', 'the signature is judged first')


@test
def fault_rules():
    v = srv()
    s = v.s3()
    s.put('fr', b'x')
    v.faults('GET * 500 after=2 n=3')
    same([s.get('fr').status for _ in range(7)], [200, 200, 500, 500, 500, 200, 200], 'after, n')
    v.faults('GET /bkt/fr?part* 503', '# a comment', '', 'HEAD */fr slowdown')
    same(s.get('fr').status, 200, 'pattern: no')
    same(s.get('fr', q=[('partNumber', '1')]).status, 503, 'pattern: yes')
    same(s.call('HEAD', 'bkt', 'fr').status, 503, 'method')
    v.faults('ListObjectsV2 * 500')
    same(s.call('GET', 'bkt', q=[('list-type', '2')]).status, 500, 'operation')
    same(s.call('GET', 'bkt').status, 200, 'another operation')
    v.faults('* * 503 p=30')
    runs = [s.get('fr').status for _ in range(300)]
    check(50 < runs.count(503) < 130, 'p=30', runs.count(503))
    v.faults('* * 503 p=30')
    same([s.get('fr').status for _ in range(300)], runs, 'chance repeats')
    for bad in ('GET *', 'GET * nothing', 'GET * 500 p=x', 'GET * 500 q=1', 'x' * 300 + ' * 500'):
        code, _, err = v.ctl('faults', bad)
        check(code == 1 and 'not understood' in err, 'bad rule %r' % bad[:20], code, err)
    same(s.put('fr2', b'').status in (200, 503), True, 'a refused set leaves the old one')


@test
def faults_of_connections():
    v = srv()
    s = v.s3()
    s.put('fc', b'y' * 1000)
    big = b'z' * (8 * MIB)
    v.faults('* * drop n=1')
    same(outcome(lambda: s.get('fc', fresh=True)) in ('eof', 'reset'), True, 'drop')
    same(s.get('fc').status, 200, 'drop: once')
    v.faults('PUT * reset-before n=1')
    check(outcome(lambda: s.put('fc1', b'x')) in ('reset', 'eof', 'broken pipe'), 'reset-before')
    for f in ('reset-during', 'reset-after', 'lost-reply'):
        v.faults('PUT * %s n=1' % f)
        got = outcome(lambda: s.put('fc-' + f, big, payload='UNSIGNED-PAYLOAD'))
        check(got in ('reset', 'eof', 'broken pipe'), f, got)
        time.sleep(0.1)
        same(s.get('fc-' + f).status, 200 if f == 'lost-reply' else 404, f + ': applied?')
    v.faults('PUT * reset-after n=1')
    same(outcome(lambda: s.put('small', b'x')), 'reset', 'reset-after is a RST')
    v.faults('DELETE * reset-after n=1')
    check(outcome(lambda: s.call('DELETE', 'bkt', 'fc')) == 'reset', 'without a body')
    same(s.get('fc').status, 200, 'not applied')
    v.faults('GET * silent-close n=1')
    r = s.get('fc')
    check(r.status == 200 and r.h('Connection') is None and s.conn.closed(), 'silent-close')
    s.conn = None
    v.faults('GET * idle-close=100 n=1')
    r = s.get('fc')
    check(r.status == 200 and s.conn.closed(1), 'idle-close')
    s.conn = None
    v.faults('GET * stall=0.5 n=1')
    t0 = time.time()
    same(s.get('fc').status, 200, 'stall')
    check(time.time() - t0 >= 0.5, 'stall takes its time')
    v.faults('GET * stall=60 n=1')
    threading.Timer(0.3, lambda: v.ctl('go', '')).start()
    t0 = time.time()
    same(s.get('fc').status, 200, 'go')
    check(0.2 <= time.time() - t0 < 30, 'go ends a stall')
    v.faults('GET * stall=60 n=1')
    threading.Timer(0.3, lambda: s.conn.s.shutdown(socket.SHUT_RDWR)).start()
    t0 = time.time()
    outcome(lambda: s.get('fc'))
    s.conn = None
    while v.stat('open') and time.time() - t0 < 15:
        time.sleep(0.02)
    check(time.time() - t0 < 15, 'a stall ends with its client')
    v.faults('PUT * stall-body=0.5 n=1')
    t0 = time.time()
    same(s.put('fc1', big).status, 200, 'stall-body')
    check(time.time() - t0 >= 0.5, 'stall-body takes its time')
    for f, go in (('slow-read', lambda: s.put('fc1', b'x' * 100000)),
                  ('slow-write', lambda: s.get('fc1'))):
        v.faults('* * %s=200000 n=1' % f)
        t0 = time.time()
        same(go().status, 200, f)
        check(time.time() - t0 > 0.3, f, time.time() - t0)
    for f, status in (('early-403', 403), ('early-503', 503)):
        v.faults('PUT * %s n=1' % f)
        c = Conn(v.port)
        c.s.sendall(s.build('PUT', '/bkt/e', (), (), b'', length=1 << 30))
        r = c.reply('PUT')
        same((r.status, r.h('Connection')), (status, 'close'), f)
        v.faults('PUT * %s=keep n=1' % f)
        r = s.put('e', big)
        same((r.status, r.h('Connection')), (status, None), f + '=keep')
        same(s.get('e').status, 404, 'and the connection lives')
        same(s.conn is not None, True, 'same connection')


@test
def faults_of_replies():
    v = srv()
    s = v.s3()
    body = bytes(range(256)) * 2000
    s.put('fp', body)
    for f in ('chunked-reply', 'until-close', 'http10', 'interim=4', 'huge-head=20000',
              'many-heads=500'):
        v.faults('GET * %s n=1' % f)
        r = s.get('fp', fresh=True)
        check(r.status == 200 and r.body == body, f, r.status, len(r.body))
        if f == 'chunked-reply':
            same((r.h('Content-Length'), r.h('Transfer-Encoding')), (None, 'chunked'), f)
        if f == 'until-close':
            same((r.h('Content-Length'), r.h('Connection')), (None, 'close'), f)
        if f == 'http10':
            check(r.line.startswith('HTTP/1.0 '), f)
        if f == 'interim=4':
            same(r.interim, [100, 103, 100, 103], f)
        if f == 'huge-head=20000':
            same(len(r.h('x-filler')), 20000, f)
        if f == 'many-heads=500':
            same(r.h('x-many-499'), '499', f)
    v.faults('PUT * interim=2 n=1')
    same(s.put('fp2', b'x', fresh=True).interim, [100, 103], 'interim on PUT')
    for f in ('cut-reply', 'short-body'):
        v.faults('GET * %s n=1' % f)
        r = s.get('fp')
        check(r.cut and r.h('Content-Length') == str(len(body))
              and r.body == body[:len(body) // 2], f, len(r.body))
    v.faults('PUT * cut-reply n=1')
    r = s.put('fp2', b'x')
    check(r.cut and r.h('Content-Length') == '100' and r.body == b'', 'cut-reply, no body')
    v.faults('GET * cut-head n=1')
    same(outcome(lambda: s.get('fp')), 'eof', 'cut-head')
    v.faults('GET * garbage-reply n=1')
    same(outcome(lambda: s.get('fp')), 'garbage', 'garbage-reply')
    v.faults('GET * two-lengths n=1')
    r = s.get('fp', fresh=True)
    same([x for k, x in r.headers if k == 'Content-Length'], [str(len(body)), str(len(body) + 1)],
         'two-lengths')
    v.faults('GET * both-lengths n=1')
    r = s.get('fp', fresh=True)
    check(r.h('Content-Length') and r.h('Transfer-Encoding'), 'both-lengths')
    v.faults('GET * bad-chunk n=1')
    try:
        s.get('fp', fresh=True)
        check(False, 'bad-chunk')
    except ValueError:
        check(True, 'bad-chunk')
    v.faults('GET * folded-head n=1')
    check(b'x-folded: one\r\n two' in s.get('fp', fresh=True).raw, 'folded-head')
    v.faults('GET * wrong-body n=1')
    r = s.get('fp', fresh=True)
    same(sum(a != b for a, b in zip(r.body, body)), 1, 'wrong-body')
    v.faults('PUT * wrong-etag n=1')
    check('deadbeef' in s.put('fp2', b'x').h('ETag'), 'wrong-etag')
    v.faults('PUT * no-etag n=1')
    same(s.put('fp2', b'x').h('ETag'), None, 'no-etag')
    v.faults('GET * html-error=502 n=1')
    r = s.get('fp')
    same((r.status, r.h('Content-Type')), (502, 'text/html'), 'html-error')
    v.faults('GET * empty-error=503 n=1')
    r = s.get('fp')
    same((r.status, r.body), (503, b''), 'empty-error')
    v.faults('* * ok-error n=1')
    r = s.put('fp3', b'x')
    same((r.status, r.code(), s.get('fp3').status), (200, 'InternalError', 404), 'ok-error')
    v.faults('* * ok-error=SlowDown n=1')
    r = s.put('fp3', b'', [('x-amz-copy-source', '/bkt/fp')])
    same((r.status, r.code()), (200, 'SlowDown'), 'ok-error=SlowDown')
    v.faults('* * redirect-301=eu-west-1 n=1')
    r = s.get('fp')
    fails(r, 301, 'PermanentRedirect', 'redirect-301')
    same((r.h('x-amz-bucket-region'), r.h('Location')), ('eu-west-1', None), 'redirect-301')
    v.faults('* * redirect-307=http://127.0.0.1:1/bkt/fp n=1')
    r = s.get('fp')
    fails(r, 307, 'TemporaryRedirect', 'redirect-307')
    same(r.h('Location'), 'http://127.0.0.1:1/bkt/fp', 'redirect-307')
    v.faults('* * bad-region=eu-west-1 n=1')
    r = s.get('fp')
    fails(r, 400, 'AuthorizationHeaderMalformed', 'bad-region')
    same(r.xml().findtext('Region'), 'eu-west-1', 'bad-region')
    v.faults('* * skewed-clock=3600 n=1')
    r = s.get('fp')
    fails(r, 403, 'RequestTimeTooSkewed', 'skewed-clock')
    t = calendar.timegm(time.strptime(r.h('Date'), '%a, %d %b %Y %H:%M:%S GMT'))
    check(abs(t - time.time() - 3600) < 5, 'and its Date')


@test
def faults_of_completes():
    v = srv()
    s = v.s3()

    def ready(key):
        uid = s.create(key)
        return uid, [(1, s.part(key, uid, 1, b'x').h('ETag'))]
    uid, ps = ready('fk')
    v.faults('CompleteMultipartUpload * whitespace=0.7 n=1')
    t0 = time.time()
    r = s.complete('fk', uid, ps)
    check(r.status == 200 and r.body.startswith(b'   ') and time.time() - t0 > 0.6, 'whitespace')
    same(ET.fromstring(r.body.strip()).tag.split('}')[1], 'CompleteMultipartUploadResult', '')
    uid, ps = ready('fk')
    v.faults('CompleteMultipartUpload * whitespace=0.3 n=1')
    r = s.complete('fk', uid, [(1, '"x"')])
    same((r.status, r.code()), (200, 'InvalidPart'), 'whitespace, then an error')
    v.faults('CompleteMultipartUpload * whitespace=0.3 n=1', '* * ok-error n=1')
    r = s.complete('fk', uid, ps)
    check(r.status == 200 and r.code() == 'InternalError' and r.body.startswith(b' '), 'both')
    s.call('DELETE', 'bkt', 'fk')
    v.faults('CompleteMultipartUpload * empty-complete n=1')
    r = s.complete('fk', uid, ps)
    same((r.status, r.body, s.get('fk').status), (200, b'', 404), 'empty-complete')
    v.faults('CompleteMultipartUpload * empty-complete=applied n=1')
    r = s.complete('fk', uid, ps)
    same((r.status, r.body, s.get('fk').status), (200, b'', 200), 'empty-complete=applied')
    uid, ps = ready('fk2')
    v.faults('CompleteMultipartUpload * lost-reply n=1')
    check(outcome(lambda: s.complete('fk2', uid, ps)) in ('eof', 'reset'), 'lost-reply')
    same(s.get('fk2').body, b'x', 'applied')
    same(s.complete('fk2', uid, ps).status, 200, 'again: 200')
    v.faults('CopyObject * whitespace=0.3 n=1')
    r = s.put('fk3', b'', [('x-amz-copy-source', '/bkt/fk2')])
    check(r.status == 200 and r.body.startswith(b' ') and b'CopyObjectResult' in r.body, 'copy')
    uid, _ = ready('fk4')
    v.faults('UploadPartCopy * whitespace=0.3 n=1')
    r = s.call('PUT', 'bkt', 'fk4', [('partNumber', '1'), ('uploadId', uid)],
               [('x-amz-copy-source', '/bkt/fk2')])
    check(r.status == 200 and r.body.startswith(b' ') and b'CopyPartResult' in r.body, 'part copy')
    v.faults('CompleteMultipartUpload * cut-reply n=1')
    uid, ps = ready('fk5')
    check(s.complete('fk5', uid, ps).cut, 'cut Complete')
    v.faults('DeleteObjects * delete-error=bad')
    body = b'<Delete><Object><Key>good</Key></Object><Object><Key>bad1</Key></Object></Delete>'
    r = s.call('POST', 'bkt', q=[('delete', '')], body=body,
               headers=[('Content-MD5', b64(digest('md5', body)))])
    same([(e.tag, e.findtext('Key')) for e in r.xml()], [('Deleted', 'good'), ('Error', 'bad1')],
         'delete-error')


# ---- the door, the process, the proxy --------------------------------------------------------

@test
def the_door():
    v = Server('--heads', '--key', 'a:b')
    try:
        s = v.s3(ak='a', sk='b')
        s.put('x', b'12345')
        s.get('x')
        S3(v.port).get('x')
        same([v.stat(n) for n in ('requests', 'op.PutObject', 'body.PutObject', 'op.GetObject',
                                  'status.200', 'status.403', 'signature_failures', 'nothing')],
             [3, 1, 5, 2, 2, 1, 1, 0], 'stats')
        same((v.stat('connections'), v.stat('open_max')), (2, 2), 'connections, without ours')
        idle = Conn(v.port)
        time.sleep(0.1)
        idle.close()
        time.sleep(0.2)
        same((v.stat('connections'), v.stat('open')), (3, 1), 'a silent one counts as well')
        log = [x.split() for x in v.ctl('log')[1].splitlines()]
        same([(x[1], x[2], x[3], x[6], x[7], x[8]) for x in log],
             [('PUT', '/bkt/x', '200', 'yes', 'PutObject', '-'),
              ('GET', '/bkt/x', '200', 'yes', 'GetObject', '-'),
              ('GET', '/bkt/x', '403', 'yes', 'GetObject', 'InvalidAccessKeyId')], 'log')
        same((log[0][0], log[1][0] != log[2][0]), (log[1][0], True), 'connection ids')
        heads = v.ctl('heads')[1]
        check('PUT /bkt/x HTTP/1.1\r\nHost: ' in heads, 'heads', heads)
        same(v.ctl('reset')[0], 0, 'reset')
        same((v.stat('requests'), v.ctl('log')[1]), (0, ''), 'reset')
        same(v.ctl('keys', 'new:pair\nother:one:tok\n')[0], 0, 'keys')
        fails(s.get('x'), 403, 'InvalidAccessKeyId', 'the old key')
        same(S3(v.port, 'new', 'pair').get('x').status, 200, 'the new key')
        same(S3(v.port, 'other', 'one', 'tok').get('x').status, 200, 'the other key')
        same(v.ctl('keys', 'nothing')[0], 1, 'bad keys')
        same(v.ctl('clock 3600')[0], 0, 'clock')
        fails(S3(v.port, 'new', 'pair').get('x'), 403, 'RequestTimeTooSkewed', 'clock')
        same(S3(v.port, 'new', 'pair').get('x', skew=3600).status, 200, 'clock')
        same(v.ctl('nothing')[0], 1, 'an unknown verb')
        same(raw(v.port, 'GET /_s3d/ HTTP/1.1\r\nHost: x\r\n\r\n').status, 404, 'bare door')
        same(subprocess.run([S3D, 'ctl', '@' + v.dir + '/port', 'stats', 'open'],
                            capture_output=True).stdout, b'1\n', 'by port file')
        same(raw(v.port, 'POST /_s3d/faults HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n'
                         'PUT * cut-he').status, 400, 'by hand')
    finally:
        v.stop()


@test
def survival():
    v = Server('--min-part', '1')
    s = v.s3()
    for i in range(50):
        s.put('k/%d' % i, b'%d' % i)
    s.call('DELETE', 'bkt', 'k/7')
    uid = s.create('joined')
    tags = [(n, s.part('joined', uid, n, b'%d' % n).h('ETag')) for n in (1, 2)]
    s.complete('joined', uid, tags)
    run = s.create('running')
    t = s.part('running', run, 1, b'part').h('ETag')
    half = Conn(v.port)
    half.s.sendall(s.build('PUT', '/bkt/half', (), (), b'', length=1000) + b'x' * 500)
    time.sleep(0.1)
    v.stop(signal.SIGKILL)
    check(half.closed(2), 'children die with their parent')
    with open(v.dir + '/d/b/bkt/index', 'a') as f:
        f.write('+ 1 2 half a li')
    v.start('--min-part', '1')
    s = v.s3()
    same(sorted(list_all(s, prefix='k/')[0]), sorted('k/%d' % i for i in range(50) if i != 7),
         'the list')
    same((s.get('joined').body, s.get('k/3').body), (b'12', b'3'), 'objects')
    same(s.get('half').status, 404, 'no half object')
    same(os.listdir(v.dir + '/d/tmp'), [], 'no leftovers')
    same(s.complete('running', run, [(1, t)]).status, 200, 'an upload goes on')
    same(s.complete('joined', uid, tags).status, 200, 'a Complete again')
    os.rename(v.dir + '/d/b/bkt/u/' + binascii.hexlify(base64.b64decode(run[2:])).decode() + '/done',
              v.dir + '/d/b/bkt/u/' + binascii.hexlify(base64.b64decode(run[2:])).decode() + '/upload')
    same(s.call('DELETE', 'bkt', 'running', [('uploadId', run)]).status, 204, 'killed in between')
    same(s.get('running').body, b'part', 'does not hurt the object')
    c = Conn(v.port)
    same(v.stop(), 0, 'SIGTERM: exit code 0')
    check(c.closed(1), 'SIGTERM ends the children')


@test
def dies_with_parent():
    d = tempfile.mkdtemp(prefix='s3d-test-')
    sh = subprocess.Popen(['sh', '-c', '"$0" --dir "$1/d" --port-file "$1/p" --quiet '
                           '--die-with-parent & echo $!; wait', S3D, d], stdout=subprocess.PIPE)
    pid = int(sh.stdout.readline())
    while not os.path.exists(d + '/p'):
        time.sleep(0.02)
    sh.kill()
    sh.wait()
    sh.stdout.close()
    end = time.time() + 30
    while os.path.exists('/proc/%d' % pid) and time.time() < end \
            and ' Z ' not in open('/proc/%d/stat' % pid).read():
        time.sleep(0.02)
    check(time.time() < end, 'gone')
    shutil.rmtree(d, ignore_errors=True)


@test
def rates_and_sinks():
    v = Server('--rate', '4000000')
    try:
        t0 = time.time()
        ts = [threading.Thread(target=lambda i=i: v.s3().put('r%d' % i, b'x' * MIB))
              for i in range(4)]
        [t.start() for t in ts]
        [t.join() for t in ts]
        check(time.time() - t0 > 0.8, '4 MiB at 4 MB/s', time.time() - t0)
    finally:
        v.stop()
    v = Server('--sink', '--rate-conn', '4000000')
    try:
        s, body = v.s3(), b'y' * 2 * MIB
        t0 = time.time()
        same(s.put('s', body).h('ETag'), '"%s"' % hashlib.md5(body).hexdigest(), 'sink: ETag')
        check(time.time() - t0 > 0.3, '2 MiB at 4 MB/s', time.time() - t0)
        same(s.get('s').body, bytes(len(body)), 'sink: zeros come back')
        check(int(subprocess.run(['du', '-sk', v.dir], capture_output=True).stdout.split()[0])
              < 1000, 'sink: stores nothing')
        fails(s.put('s', body, payload=sha(b'')), 400, 'XAmzContentSHA256Mismatch', 'but checks')
        uid = s.create('m')
        ps = [(n, s.part('m', uid, n, body).h('ETag')) for n in (1,)]
        same(s.complete('m', uid, ps).status, 200, 'sink: multipart')
        same(s.call('HEAD', 'bkt', 'm').h('Content-Length'), str(len(body)), 'sink: size')
    finally:
        v.stop()
    v = Server('--sink-fast')
    try:
        s = v.s3()
        same(s.put('s', b'abc', payload=sha(b'other')).status, 200, 'sink-fast checks nothing')
        check(len(s.get('s').h('ETag')) == 34, 'sink-fast: an ETag')
    finally:
        v.stop()


@test
def ipv6():
    if not os.path.exists('/proc/net/if_inet6') or not open('/proc/net/if_inet6').read().strip():
        print('     skipped: no IPv6 here')
        return
    v = Server('--ipv6')
    try:
        s = v.s3()
        c = Conn(v.port, '::1')
        c.s.sendall(s.build('GET', '/', host='[::1]:%d' % v.port))
        same(c.reply().status, 200, 'by ::1')
        same(s.call('GET').status, 200, 'by 127.0.0.1')
    finally:
        v.stop()


@test
def proxy():
    o = srv()
    p = Server('--proxy', '--proxy-auth', 'user:pass')
    auth = 'Proxy-Authorization: Basic %s\r\n' % b64(b'user:pass')
    s = o.s3()
    s.put('proxied', b'through')
    try:
        target = '127.0.0.1:%d' % o.port

        def tunnel(head=auth):
            c = Conn(p.port)
            c.s.sendall(('CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n' % (target, target, head))
                        .encode())
            line, hs, raw_head = c.head()
            return c, int(line.split()[1]), raw_head
        c, status, _ = tunnel()
        same(status, 200, 'CONNECT')
        c.s.sendall(s.build('GET', '/bkt/proxied'))
        same(c.reply().body, b'through', 'GET through the tunnel')
        c.s.sendall(s.build('PUT', '/bkt/px', body=b'a' * MIB) + b'a' * MIB)
        same(c.reply().status, 200, 'PUT through the same tunnel')
        c.close()
        same(tunnel('')[1], 407, 'no password')
        r = raw(p.port, s.build('GET', '/bkt/proxied', target='http://%s/bkt/proxied' % target)
                .replace(b'\r\n\r\n', ('\r\n' + auth + '\r\n').encode()), 'GET')
        same((r.status, r.body), (200, b'through'), 'absolute form')
        heads = p.ctl('heads')[1]
        check('CONNECT %s HTTP/1.1' % target in heads and 'Proxy-Authorization' in heads, 'heads')
        check('proxy-authorization' not in o.ctl('log')[1], 'origin')
        p.faults('CONNECT * connect-refuse=503 n=1')
        same(tunnel()[1], 503, 'connect-refuse')
        p.faults('CONNECT * connect-huge-head n=1')
        c, status, head = tunnel()
        check(status == 200 and len(head) > 100000, 'connect-huge-head', len(head))
        c.s.sendall(s.build('GET', '/bkt/proxied'))
        same(c.reply().body, b'through', 'and it works')
        p.faults('CONNECT * cut-relay=100000 n=1')
        c = tunnel()[0]
        try:
            c.s.sendall(s.build('PUT', '/bkt/cut', body=b'a' * 4 * MIB))
            ended = not c.s.recv(1)
        except OSError:
            ended = True
        check(ended, 'cut-relay')
        same(s.get('cut').status, 404, 'what was cut off is not stored')
        target = '127.0.0.1:1'
        same(tunnel()[1], 502, 'nobody there')
        same(raw(p.port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n').status, 400, 'origin form')
    finally:
        p.stop()


@test
def tls():
    import ssl
    r = subprocess.run([S3D, '--dir', '/nonexistent', '--cert', 'x'], capture_output=True)
    if b'without TLS' in r.stderr or not shutil.which('openssl'):
        print('     skipped: s3d was built without TLS, or no openssl')
        return
    d = tempfile.mkdtemp(prefix='s3d-test-')
    for kind, args in (('rsa', ['rsa:2048']), ('ec', ['ec', '-pkeyopt',
                                                     'ec_paramgen_curve:prime256v1'])):
        crt, key = d + '/' + kind + '.crt', d + '/' + kind + '.key'
        subprocess.run(['openssl', 'req', '-x509', '-newkey', *args, '-nodes', '-keyout', key,
                        '-out', crt, '-days', '2', '-subj', '/CN=localhost', '-addext',
                        'subjectAltName=DNS:localhost,IP:127.0.0.1'], check=True,
                       capture_output=True)
        v = Server('--cert', crt, '--key', key)
        ctx = ssl.create_default_context(cafile=crt)

        def dial(session=None):
            c = Conn(v.port)
            c.s = ctx.wrap_socket(c.s, server_hostname='localhost', session=session,
                                  suppress_ragged_eofs=False)
            return c
        try:
            s = v.s3()
            s.conn = c = dial()
            same((c.s.version(), v.stat('handshakes')), ('TLSv1.2', 1), kind)
            body = os.urandom(3 * MIB + 17)
            same(s.put('t', body).status, 200, 'PUT')
            check(s.get('t').body == body, 'GET')
            same(s.put('t2', b'x' * 100000, expect=True).status, 200, 'Expect')
            uid = s.create('t3')
            tags = [(n, s.part('t3', uid, n, b'%d' % n * 6 * MIB).h('ETag')) for n in (1, 2)]
            same(s.complete('t3', uid, tags).status, 200, 'multipart')
            r = s.get('t3', [('Range', 'bytes=%d-%d' % (6 * MIB - 2, 6 * MIB + 1))])
            same(r.body, b'1122', 'a range')
            again = dial(c.s.session)
            same((again.s.session_reused, v.stat('resumed'), v.stat('handshakes')), (True, 1, 2),
                 'a session is resumed by another process')
            v.faults('GET * until-close n=1')
            check(s.get('t').body == body, 'until-close, with close_notify')
            for fault in ('until-close n=1', 'cut-reply n=1'):
                v.faults('GET * no-close-notify n=1', 'GET * ' + fault)
                s.conn = dial()
                try:
                    r = s.get('t')
                    check(r.cut, fault + ' without close_notify')
                except ssl.SSLEOFError:
                    check(True, fault + ' without close_notify')
            s.conn = None
            v.faults()
            got = outcome(lambda: raw(v.port, s.build('GET', '/bkt/t'), 'GET'))
            check(got in ('eof', 'reset'), 'no plain requests', got)
            same(v.stat('op.GetObject') > 3, True, 'but the door opens')
        finally:
            v.stop()
    shutil.rmtree(d, ignore_errors=True)


@test
def hostile_input():
    v = srv()
    s = v.s3()
    long = b'GET / HTTP/1.1\r\nHost: x\r\nA: ' + b'a' * 70000
    heads = [(b'GARBAGE\r\n\r\n', 400), (b'GET /\r\n\r\n', 400), (b'GET / HTTP/2.0\r\n\r\n', 400),
             (b'\x16\x03\x01\x02\x00\x01\x00\r\n\r\n', 400), (b'GET / HTTP/1.1\r\n\r\n', 400),
             (b'GET / HTTP/1.1\nHost: x\n\r\n\r\n', 400), (long, 400),
             (b'GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n', 400),
             (b'GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n', 400),
             (b'GET / HTTP/1.1\r\nHost: x\r\nnocolon\r\n\r\n', 400),
             (b'GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n', 400),
             (b'GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n', 400),
             (b'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n', 400),
             (b'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n', 400),
             (b'PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n', 400),
             (b'PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked'
              b'\r\n\r\n', 400), (b'GET /a b HTTP/1.1\r\nHost: x\r\n\r\n', 400),
             (b'GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n', 400), (b'GET x HTTP/1.1\r\nHost: x\r\n\r\n', 400),
             (b'GET /?a=%zz HTTP/1.1\r\nHost: x\r\n\r\n', 400),
             (b'get / HTTP/1.1\r\nHost: x\r\n\r\n', 400),
             (b'GET / HTTP/1.1\r\nHost: x\r\n' + b'A: b\r\n' * 300 + b'\r\n', 400),
             (b'\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n', 403)]
    for head, status in heads:
        r = outcome(lambda: raw(v.port, head, 'GET'))
        check(getattr(r, 'status', r) == status, repr(head[:60]), getattr(r, 'status', r))
    r = outcome(lambda: raw(v.port, b'GET /bkt/%2 HTTP/1.1\r\nHost: x\r\n\r\n', 'GET'))
    check(r.status in (400, 403, 405), 'bad escape in the path', r.status)
    for auth in ('AWS4-HMAC-SHA256', 'AWS4-HMAC-SHA256 ', 'AWS4-HMAC-SHA256 Credential=',
                 'AWS4-HMAC-SHA256 Credential=a/b/c/d/e,SignedHeaders=,Signature=',
                 'AWS4-HMAC-SHA256 Credential=////,SignedHeaders=a,Signature=b', '', 'Basic x',
                 'AWS4-HMAC-SHA256 ' + ',' * 5000):
        r = raw(v.port, 'GET /bkt HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n' % auth)
        check(r.status in (400, 403), 'authorization %r' % auth[:40], r.status)
    import random
    rnd = random.Random(7)
    good = s.build('PUT', '/bkt/fuzz?x=%41', (), [('Content-MD5', b64(digest('md5', b'abc')))],
                   b'abc') + b'abc'
    for i in range(300):
        b = bytearray(good)
        for _ in range(rnd.randrange(1, 6)):
            b[rnd.randrange(len(b))] = rnd.randrange(256)
        c = Conn(v.port)
        c.s.sendall(bytes(b[:rnd.randrange(1, len(b) + 1)]))
        c.s.shutdown(socket.SHUT_WR)
        r = outcome(lambda: c.reply('PUT'))
        check(not hasattr(r, 'status') or r.status in (200, 400, 403, 404, 405, 411, 501),
              'fuzz %d' % i, getattr(r, 'status', r))
        c.close()
    xml = (b'<CompleteMultipartUpload><!-- c --><Part><PartNumber>1</PartNumber><ETag>&quot;x&quot;'
           b'</ETag></Part></CompleteMultipartUpload>')
    uid = s.create('fz')
    for i in range(300):
        b = bytearray(xml)
        for _ in range(rnd.randrange(1, 6)):
            b[rnd.randrange(len(b))] = rnd.choice(b'<>/&;"x1\0\xff !')
        r = s.complete('fz', uid, [], raw=bytes(b[:rnd.randrange(1, len(b) + 1)]))
        check(r.status == 400, 'fuzzed XML', r.status)
    same(s.complete('fz', uid, [], raw=b'<a>' * 100000).status, 400, 'deep XML')
    same(s.get('none').status, 404, 'still alive')


# ---- main ----------------------------------------------------------------------------------

def main():
    global current, failed
    for name in list(os.environ):
        if name.startswith(('AWS_', 'SSL_CERT')) or name.lower().endswith('_proxy'):
            del os.environ[name]
    only = sys.argv[2:]
    for t in TESTS:
        if only and not any(o in t.__name__ for o in only):
            continue
        current, t0 = t.__name__, time.time()
        print('  %-24s' % current, flush=True)
        try:
            t()
        except Exception:
            failed += 1
            print('FAIL %s: exception' % current)
            traceback.print_exc(file=sys.stdout)
        if time.time() - t0 > 3:
            print('     (%.1f s)' % (time.time() - t0))
    if shared:
        current = 'shared server'
        same(shared.stop(), 0, 'exit code')
    print('%d passed, %d failed' % (passed, failed))
    return 1 if failed else 0


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    S3D = os.path.abspath(sys.argv[1])
    sys.exit(main())
