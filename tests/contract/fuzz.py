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
from pathlib import Path

SEED = "20260501"
# Streams do not end, so a request for one does not either.
EXCLUDED = ["stream_queue_status", "stream_seats"]
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


def customer(base, password):
    """Signs a customer in, waits for admission, buys two seats and holds two more. Gives headers and parameters."""
    status, session = call(base, "POST", "/v1/sign-in", body={"login": "fan00001@example.com", "password": password})
    assert status == 200, session
    headers = {"Authorization": f"Bearer {session['token']}"}
    status, sales = call(base, "GET", "/v1/sales")
    sale = sales["sales"][0]
    performance = sale["performances"][0]["id"]
    prefix = f"/v1/sales/{sale['id']}"
    status, entry = call(base, "POST", f"{prefix}/queue", headers)
    assert status in (200, 201), entry
    headers["Queue-Token"] = entry["token"]
    for _ in range(120):
        status, admission = call(base, "POST", f"{prefix}/admission", headers)
        if status == 200:
            break
        time.sleep(0.5)
    assert status == 200, admission
    headers["Admission-Pass"] = admission["pass"]

    def hold():
        wanted = {"best_available": {"quantity": 2}}
        status, held = call(base, "POST", f"{prefix}/performances/{performance}/holds", headers, wanted)
        assert status == 201, held
        return held["id"]

    payment = {"hold": hold(), "payment": {"method": "card", "token": "tok_ok"}}
    status, order = call(base, "POST", "/v1/orders", {**headers, "Idempotency-Key": "contract"}, payment)
    assert status in (201, 202), order
    _, tickets = call(base, "GET", f"/v1/orders/{order['id']}/tickets", headers)
    parameters = {"sale": sale["id"], "performance": performance, "hold": hold(), "order": order["id"]}
    if tickets["tickets"]:
        parameters["ticket"] = tickets["tickets"][0]["id"] + ".svg"
    return headers, parameters


def run(args, name, headers, parameters, seconds):
    """Runs schemathesis once; gives whether nothing was found."""
    config = "".join(f'"{key}" = {json.dumps(value)}\n' for key, value in parameters.items())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "schemathesis.toml"
        path.write_text(f"[parameters]\n{config}" if config else "")
        command = [args.schemathesis, "--config-file", str(path), "run", args.document, "--url", args.base]
        command += ["--seed", SEED, "--max-time", str(seconds), "--checks", ",".join(CHECKS)]
        command += ["--phases", "examples,coverage,fuzzing", "--mode", "all", "--workers", "2"]
        command += ["--request-timeout", "20", "--continue-on-failure", "--no-shrink", "--warnings", "off"]
        # Redirects lead to pages, which the document does not describe.
        command += ["--max-redirects", "0", "--suppress-health-check", "all"]
        for operation in EXCLUDED:
            command += ["--exclude-operation-id", operation]
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
    args = parser.parse_args()
    half = max(args.seconds // 2, 1)
    if args.operator:
        sale = call(args.base, "GET", "/openapi.json") and {"sale": "demo"}
        runs = [
            ("anonymous", {}, {}),
            ("operator", {"Authorization": f"Bearer {args.operator}"}, sale),
        ]
    else:
        headers, parameters = customer(args.base, args.password)
        runs = [("anonymous visitor", {}, {}), ("admitted customer", headers, parameters)]
    results = [run(args, name, headers, parameters, half) for name, headers, parameters in runs]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
