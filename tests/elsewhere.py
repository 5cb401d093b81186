"""Servers on this machine that stand for others: a web server with faults, and S3's API."""

import base64
import contextlib
import http.server
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDFORTESTS", "AWS_SECRET_ACCESS_KEY": "thesecretkey", "AWS_DEFAULT_REGION": "us-east-1"}


class Web:
    """A web server on loopback: `files` by path. What else it does is told by its fields."""

    def __init__(self):
        self.files = {}
        self.ranges = True
        self.version = '"1"'
        self.user = None  # "name:password", which has to be given
        self.faults = []  # of the next answers: a status, "drop" or "change"
        self.redirects = {}
        self.asked = []  # (path, range)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": self}))
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def url(self, path):
        return f"http://{self.host}/{path}"

    def lets_in(self, said):
        return self.user is None or said == "Basic " + base64.b64encode(self.user.encode()).decode()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    web = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0].lstrip("/")
        self.web.asked.append((self.path.lstrip("/"), self.headers.get("Range")))
        fault = self.web.faults.pop(0) if self.web.faults else None
        if fault == "change":
            self.web.version = '"2"'
        if isinstance(fault, int) or (path not in self.web.files and path not in self.web.redirects):
            self._end(fault or 404)
        elif not self.web.lets_in(self.headers.get("Authorization")):
            self._end(401)
        elif path in self.web.redirects:
            self._end(302, Location=self.web.redirects[path])
        else:
            self._send(self.web.files[path], dropped=fault == "drop")

    def _end(self, status, **headers):
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, data, *, dropped):
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if self.web.ranges else None
        part = data[int(asked[1]) : int(asked[2]) + 1] if asked else data
        if asked and not part:
            self._end(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("ETag", self.web.version)
        self.send_header("Content-Length", str(len(part)))
        if asked:
            self.send_header("Content-Range", f"bytes {asked[1]}-{int(asked[1]) + len(part) - 1}/{len(data)}")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(part[: len(part) // 2] if dropped else part)


@contextlib.contextmanager
def s3():
    """Run S3's API as a process of its own: the variables by which programs find it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}/moto-api/")
            yield KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_EC2_METADATA_DISABLED": "true"}
        finally:
            server.kill()


def _wait_for(url):
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


class Objects:
    """The objects of a bucket, by key."""

    def __init__(self, variables, name):
        os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
        import boto3

        self.name, self.env = name, variables
        self._client = boto3.client(
            "s3",
            endpoint_url=variables["AWS_ENDPOINT_URL"],
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_DEFAULT_REGION"],
        )
        self._client.create_bucket(Bucket=name)

    def __setitem__(self, key, data):
        self._client.put_object(Bucket=self.name, Key=key, Body=data)

    def __getitem__(self, key):
        return self._client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def __iter__(self):
        return iter([each["Key"] for each in self._client.list_objects_v2(Bucket=self.name).get("Contents", [])])

    def url(self, key=""):
        return f"s3://{self.name}/{key}"


@contextlib.contextmanager
def closed_s3(status=403, code="AccessDenied", *, read=False):
    """Run what answers as S3 does to all that may not read or write: the variables by which programs find it.

    With `read`, there is one empty bucket that may be read.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = f"<Error><Code>{code}</Code><Message>It is closed.</Message></Error>".encode()
            found = status
            if read and self.command in ("HEAD", "GET"):
                of_bucket = self.path.partition("?")[0].strip("/") == "bucket"
                found, body = (200, b"<ListBucketResult/>") if of_bucket else (404, b"")
            self.send_response(found)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        port = server.server_address[1]
        yield KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_EC2_METADATA_DISABLED": "true"}
    finally:
        server.shutdown()
        server.server_close()
