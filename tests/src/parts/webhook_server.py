"""A webhook that verifies signatures as Standard Webhooks 1.0 says, and prints each request as a line of JSON.

Usage: webhook_server.py PORT KEY
"""

import base64
import hashlib
import hmac
import http.server
import json
import sys
import threading

port, key = int(sys.argv[1]), sys.argv[2]
key = base64.b64decode(key.removeprefix("whsec_")) if key.startswith("whsec_") else key.encode()


def is_signed(headers, body):
    signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(expected, signature) for signature in given)


# Each request has a thread, and lines must not mix.
printing = threading.Lock()


class Webhook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = {
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "signed": is_signed(self.headers, body),
            "body": json.loads(body),
        }
        with printing:
            print(json.dumps(request), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Webhook)
print("serving", flush=True)
server.serve_forever()
