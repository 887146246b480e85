"""A tiny service for tests of the supervisor: ready at once, and as ill-behaved as its environment says."""

import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

if os.environ.get("FAKE") == "dies at once":
    sys.exit("I die at once.")
if os.environ.get("FAKE") == "ignores SIGTERM":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.endswith("/stream"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for number in range(3):
                self.wfile.write(b"data: %d\n\n" % number)
                self.wfile.flush()
                time.sleep(0.5)
            return
        if self.path.endswith("/shout"):
            for _ in range(17):
                sys.stderr.write("x" * 2**20 + "\n")
        body = f"{os.environ.get('GREETING', 'hello')} from {os.environ['WARDSTREAM_PORT']}".encode()
        self.send_response(503 if os.environ.get("FAKE") == "never ready" and self.path == "/ready" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("127.0.0.1", int(os.environ["WARDSTREAM_PORT"])), Handler).serve_forever()
