#!/usr/bin/env python3
"""A shop's receiver, with the public library of Standard Webhooks for Python.

    RECEIVER_SECRET=whsec_... receiver.py FILE

Prints its address, verifies every request with the library, answers 500 to every second one, and appends each event that
it accepts to FILE. No event fails more than twice, or the pauses would grow to minutes. A request whose signature is wrong is answered 401 and ends the receiver with status 1.
"""

import collections
import http.server
import json
import os
import sys

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    webhook = Webhook(os.environ["RECEIVER_SECRET"])
    file = None
    requests = 0
    failures = collections.Counter()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            event = self.webhook.verify(body, headers)
        except WebhookVerificationError as error:
            self.reply(401)
            print(f"refused: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        if event["id"] != headers["webhook-id"] or headers["content-type"] != "application/cloudevents+json":
            self.reply(400)
            os._exit(1)
        Receiver.requests += 1
        if Receiver.requests % 2 and Receiver.failures[event["id"]] < 2:
            Receiver.failures[event["id"]] += 1
            return self.reply(500)
        self.file.write(json.dumps(event) + "\n")
        self.file.flush()
        self.reply(204)

    def reply(self, status):
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    with open(sys.argv[1], "a", encoding="utf-8") as file:
        Receiver.file = file
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        print(f"http://127.0.0.1:{server.server_port}/events", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
