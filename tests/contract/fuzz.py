"""Sends generated requests to a running server and compares its responses with the OpenAPI document.

The public API is tested as an anonymous visitor and as a customer who is admitted to the sale and owns a hold and an
order; the admin API without a token and as an operator. A fixed seed makes the requests the same each time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

SEED = "20260501"
DEMO_SALE = "hero-lim"
# Streams do not end, so a request for one does not either.
STREAMS = ["stream_queue_status", "stream_seats"]
# Each takes away what the other operations need, so they run last and with another customer.
ENDING = ["sign_out", "leave_queue", "end_visit", "cancel_order", "release_hold"]
# The rest of the checks judge what a service should accept, not whether its document is true.
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]


def call(base, method, path, headers=None, body=None):
    """One JSON request; gives status and JSON body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data=data, method=method, headers=headers or {})
    if data is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            text = response.read()
            return response.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text else None


class Customer:
    """A customer of the demo's sale, with the headers and path parameters of what they own."""

    def __init__(self, base, password, login):
        self.base = base
        _, session = self.expect(200, "POST", "/v1/sign-in", {}, {"login": login, "password": password})
        self.headers = {"Authorization": f"Bearer {session['token']}"}
        _, sales = self.expect(200, "GET", "/v1/sales", {})
        self.sale = sales["sales"][0]
        self.prefix = f"/v1/sales/{self.sale['id']}"
        _, entry = self.expect(201, "POST", f"{self.prefix}/queue", self.headers)
        self.headers["Queue-Token"] = entry["token"]

    def expect(self, wanted, method, path, headers, body=None):
        status, answer = call(self.base, method, path, headers, body)
        assert status == wanted, f"{method} {path}: {status} {answer}"
        return status, answer

    def hold(self, performance):
        body = {"best_available": {"quantity": 2}}
        path = f"{self.prefix}/performances/{performance}/holds"
        return self.expect(201, "POST", path, self.headers, body)[1]["id"]

    def buy(self):
        """Waits for admission, buys two seats and holds two more; gives headers and path parameters."""
        for _ in range(360):
            status, admission = call(self.base, "POST", f"{self.prefix}/admission", self.headers)
            if status == 200:
                break
            time.sleep(0.5)
        assert status == 200, admission
        self.headers["Admission-Pass"] = admission["pass"]
        performance = self.sale["performances"][0]["id"]
        payment = {"hold": self.hold(performance), "payment": {"method": "card", "token": "tok_ok"}}
        key = {"Idempotency-Key": str(uuid.uuid4())}
        _, order = self.expect(201, "POST", "/v1/orders", {**self.headers, **key}, payment)
        _, tickets = self.expect(200, "GET", f"/v1/orders/{order['id']}/tickets", self.headers)
        parameters = {
            "sale": self.sale["id"],
            "performance": performance,
            "hold": self.hold(performance),
            "order": order["id"],
            "ticket": tickets["tickets"][0]["id"] + ".svg",
        }
        return self.headers, parameters


def run(args, name, headers, parameters, filters, seconds):
    """Runs schemathesis once; gives whether nothing was found."""
    config = "".join(f'"{key}" = {json.dumps(value)}\n' for key, value in parameters.items())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "schemathesis.toml"
        path.write_text(f"[parameters]\n{config}" if config else "")
        command = [args.schemathesis, "--config-file", str(path), "run", args.document, "--url", args.base]
        command += ["--seed", SEED, "--max-time", str(seconds), "--checks", ",".join(CHECKS)]
        # One worker: two threads that parse at once break Python 3.11's parser (python/cpython#106905).
        command += ["--phases", "examples,coverage,fuzzing", "--mode", "all", "--workers", "1"]
        command += ["--request-timeout", "20", "--continue-on-failure", "--no-shrink", "--warnings", "off"]
        # Redirects lead to pages, which the document does not describe.
        command += ["--max-redirects", "0", "--suppress-health-check", "all"]
        if args.report:
            command += ["--report", "har", "--report-har-path", f"{args.report}/{name}.har"]
        for option, operations in filters.items():
            for operation in operations:
                command += [f"--{option}-operation-id", operation]
        for header, value in headers.items():
            command += ["-H", f"{header}:{value}"]
        print(f"== {name}", flush=True)
        return subprocess.run(command, cwd=folder, check=False).returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schemathesis", required=True, help="path of the program")
    parser.add_argument("--document", required=True, help="path of the OpenAPI document")
    parser.add_argument("--base", required=True, help="URL of the server")
    parser.add_argument("--password", help="password of the demo's customers")
    parser.add_argument("--operator", help="token of an operator")
    parser.add_argument("--seconds", type=int, default=60, help="for all runs together")
    parser.add_argument("--report", help="existing folder for a HAR file of each run")
    args = parser.parse_args()
    if args.operator:
        headers = {"Authorization": f"Bearer {args.operator}"}
        runs = [("anonymous", {}, {}, {}), ("operator", headers, {"sale": DEMO_SALE}, {})]
    else:
        # Both join before the draw of the demo's sale, which takes a minute.
        logins = ["fan00001@example.com", "fan00002@example.com"]
        admitted, leaving = [Customer(args.base, args.password, login) for login in logins]
        runs = [
            ("anonymous visitor", {}, {"sale": DEMO_SALE}, {"exclude": STREAMS}),
            ("admitted customer", *admitted.buy(), {"exclude": STREAMS + ENDING}),
            ("leaving customer", *leaving.buy(), {"include": ENDING}),
        ]
    share = max(args.seconds // len(runs), 1)
    results = [run(args, *each, share) for each in runs]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
