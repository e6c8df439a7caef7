#!/usr/bin/env python3
"""The extcap program against a small HTTP server that answers as the router does."""

import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.parse

PROGRAM = pathlib.Path(__file__).with_name("weir")
# A section header and what could be packets: more than a FIFO holds.
STREAM = bytes.fromhex("0a0d0d0a1c0000004d3c2b1a01000000ffffffffffffffff1c000000") + bytes(range(256)) * 1000


class Router(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = []

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        Router.seen.append((url.path, query))
        if self.headers["Authorization"] != "Bearer secret":
            return self.problem(401, "a token is needed", "show one")
        if url.path == "/api/v1/interfaces":
            body = [{"name": "wan", "addresses": ["192.0.2.1/24"]}, {"name": "lan", "addresses": []}]
            return self.answer(200, json.dumps(body).encode())
        if "prot" in query.get("filter", ""):
            return self.problem(400, 'column 5: expected "and", "or" or the end, found "prot"', "give another filter")
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(STREAM), 10000):
            piece = STREAM[at:at + 10000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def problem(self, status, detail, cure):
        self.answer(status, json.dumps({"title": "No", "status": status, "detail": detail, "cure": cure, "errors": []}).encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        # A reader that leaves is what some tests are about.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Extcap(unittest.TestCase):
    def setUp(self):
        Router.seen.clear()
        self.server = Server(("127.0.0.1", 0), Router)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True).start()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "token").write_text("secret\n")
        self.router = ["--router", "127.0.0.1:%d" % self.server.server_address[1]]
        self.access = self.router + ["--token-file", str(self.folder / "token")]

    def run_it(self, *words):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
        return subprocess.run([sys.executable, str(PROGRAM), *words], capture_output=True, text=True, timeout=30, env=clean)

    def test_tells_wireshark_what_it_is(self):
        told = self.run_it("--extcap-interfaces", "--extcap-version=4.0").stdout
        self.assertIn("interface {value=weir}{display=Weir router}", told)
        self.assertIn("{number=1}", self.run_it("--extcap-dlts", "--extcap-interface=weir").stdout)
        told = self.run_it("--extcap-config", "--extcap-interface=weir").stdout
        for option in ("router", "token-file", "token", "router-interface", "direction", "snaplen"):
            self.assertIn("{call=--%s}" % option, told)

    def test_lists_the_routers_interfaces(self):
        words = ("--extcap-config", "--extcap-interface=weir", "--extcap-reload-option=router-interface")
        told = self.run_it(*words, *self.access).stdout.splitlines()
        self.assertEqual(told[1], "value {arg=3}{value=wan}{display=wan (192.0.2.1/24)}")
        self.assertEqual(told[2], "value {arg=3}{value=lan}{display=lan}")

    def test_streams_to_the_fifo_what_was_asked_for(self):
        fifo = self.folder / "fifo"
        os.mkfifo(fifo)
        words = ["--capture", "--extcap-interface", "weir", "--fifo", str(fifo), "--extcap-capture-filter", "tcp port 80 && ip[0] & 15 = 5"]
        words += ["--router-interface", "wan", "--direction", "in, drop", "--snaplen", "96", *self.access]
        done = []
        thread = threading.Thread(target=lambda: done.append(self.run_it(*words)))
        thread.start()
        self.assertEqual(fifo.read_bytes(), STREAM)
        thread.join()
        self.assertEqual((done[0].returncode, done[0].stderr), (0, ""))
        query = {"filter": "tcp port 80 && ip[0] & 15 = 5", "interface": "wan", "direction": "in,drop", "snaplen": "96"}
        self.assertEqual(Router.seen, [("/api/v1/capture", query)])

    def test_ends_quietly_when_wireshark_does(self):
        fifo = self.folder / "fifo"
        os.mkfifo(fifo)
        done = []
        words = ["--capture", "--extcap-interface=weir", "--fifo", str(fifo), *self.access]
        thread = threading.Thread(target=lambda: done.append(self.run_it(*words)))
        thread.start()
        with open(fifo, "rb") as reader:
            reader.read(100)
        thread.join()
        self.assertEqual((done[0].returncode, done[0].stderr), (0, ""))

    def test_says_what_is_wrong_with_a_filter(self):
        bad = self.run_it("--extcap-interface=weir", "--extcap-capture-filter=tcp prot 80", *self.access)
        self.assertIn('column 5: expected "and", "or" or the end, found "prot"; give another filter', bad.stdout)
        good = self.run_it("--extcap-interface=weir", "--extcap-capture-filter=tcp port 80", *self.access)
        self.assertEqual((good.returncode, good.stdout, good.stderr), (0, "", ""))

    def test_says_why_it_cannot_capture(self):
        capture = ("--capture", "--extcap-interface=weir", "--fifo", str(self.folder / "none"))
        for words, reason in (
            ((), "no router: give its address"),
            (self.router, "no token: choose a file"),
            ((*self.router, "--token-file", str(self.folder / "nothing")), "No such file"),
            ((*self.router, "--token", "wrong"), "answers 401: a token is needed; show one"),
            (("--router", "127.0.0.1:1", "--token", "secret"), "refused"),
            (("--router", "127.0.0.1:x", "--token", "secret"), "nonnumeric port"),
        ):
            with self.subTest(reason):
                ended = self.run_it(*capture, *words)
                self.assertEqual((ended.returncode, ended.stdout), (1, ""))
                self.assertIn(reason, ended.stderr)
                self.assertEqual(len(ended.stderr.splitlines()), 1)


if __name__ == "__main__":
    unittest.main()
