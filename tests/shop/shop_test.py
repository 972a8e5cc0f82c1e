"""What the tests of shops share: processes, the service's configuration, and a customer who buys a ticket."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "hero-lim"
PLAN = ROOT / "config/venues/theatre-500.json"

passed = failed = 0
running = []


def check(name, ok, detail=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(f"{'ok      ' if ok else 'FAILED  '}{name}" + (f"\n{detail}" if detail and not ok else ""), flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(args, log, **more):
    process = subprocess.Popen(args, stdout=open(log, "ab"), stderr=subprocess.STDOUT, **more)
    running.append(process)
    return process


def stop_all():
    for process in reversed(running):
        if process.poll() is None:
            process.send_signal(signal.SIGINT if "postgres" in process.args[0] else signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(what, answers, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = answers()
            if found:
                return found
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.1)
    raise SystemExit(f"{what}: no answer within {seconds} s")


def configuration(scratch, query_file, database_url, more, environment):
    """The configuration of one sale for the shop of a file of config/shops, and the environment with its secrets."""
    port, admin_port = free_port(), free_port()
    now = datetime.now(timezone.utc).replace(microsecond=0)
    at = lambda seconds: (now + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    shop = tomllib.loads(query_file.read_text())["shop"]
    queries = "\n".join(f"{key} = {json.dumps(value)}" for key, value in shop.items())
    file = scratch / "stagedoor.toml"
    file.write_text(
        f"""
[server]
listen = "127.0.0.1:{port}"
admin_listen = "127.0.0.1:{admin_port}"
public_base = "http://127.0.0.1:{port}"
connections_max = 500
[data]
dir = "{scratch}/data"
[shop]
{queries}
{more}
[[sales]]
id = "hero"
title = {{ en = "Hero-Lim" }}
artist = "Hero-Lim"
prequeue_starts_at = "{at(-10)}"
on_sale_starts_at = "{at(-5)}"
closes_at = "{at(7200)}"
admission_rate_per_minute = 6000
active_visits_max = 100
[[sales.performances]]
id = "day"
title = {{ en = "Evening" }}
starts_at = "{at(86400 * 30)}"
venue = "Theatre"
time_zone = "Asia/Seoul"
plan = "{PLAN}"
prices = {{ VIP = 190000, R = 150000, S = 120000, A = 90000 }}
"""
    )
    return f"http://127.0.0.1:{port}", file, {
        **os.environ,
        **environment,
        "STAGEDOOR__KEYS__MASTER": secrets.token_urlsafe(32),
        "STAGEDOOR__GATEWAY__WEBHOOK_SECRET": secrets.token_urlsafe(32),
        "STAGEDOOR__SHOP__DATABASE_URL": database_url,
    }


def call(base, method, path, body=None, headers=None):
    data = json.dumps(body).encode() if body is not None else (b"" if method == "POST" else None)
    request = urllib.request.Request(base + path, data, {"Content-Type": "application/json", **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text.startswith(b"{") else {}


def sign_in(base, login):
    return call(base, "POST", "/v1/sign-in", {"login": login, "password": PASSWORD})


def buy(base, session):
    """One ticket, from the queue to the order."""
    headers = {"Authorization": f"Bearer {session}"}
    status, entry = call(base, "POST", "/v1/sales/hero/queue", headers=headers)
    assert status in (200, 201), (status, entry)
    headers["Queue-Token"] = entry["token"]

    def admitted():
        status, answer = call(base, "POST", "/v1/sales/hero/admission", headers=headers)
        return answer.get("pass") if status == 200 else None

    headers["Admission-Pass"] = wait_for("admission", admitted)
    wanted = {"best_available": {"quantity": 1, "zone": "R", "section": None, "accessible": 0}}
    status, hold = call(base, "POST", "/v1/sales/hero/performances/day/holds", wanted, headers)
    assert status in (200, 201), (status, hold)
    payment = {"hold": hold["id"], "payment": {"method": "card", "token": "tok_ok"}}
    status, order = call(base, "POST", "/v1/orders", payment, {**headers, "Idempotency-Key": str(uuid.uuid4())})
    return status, order


def summary():
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def administrators_statements(query_file):
    """The statements that the file tells an administrator of the shop to run."""
    lines = [line[4:] for line in query_file.read_text().splitlines() if line.startswith("#   ")]
    return [line.replace("CONCURRENTLY ", "").replace("'...'", "'of-the-test'") for line in lines]


def preflight(binary, file, environment):
    """The report's lines, after checking that none has failed."""
    command = [binary, "preflight", "--config", str(file), "--json"]
    ran = subprocess.run(command, env=environment, text=True, capture_output=True)
    check("preflight passes", ran.returncode == 0, ran.stdout + ran.stderr)
    return json.loads(ran.stdout)["checks"]


def serve(binary, base, file, environment, scratch):
    start([binary, "serve", "--config", str(file)], scratch / "service.log", env=environment)
    wait_for("the service", lambda: call(base, "GET", "/v1/sales")[0] == 200)


def binary_of(arguments):
    return str(Path(arguments[1] if len(arguments) > 1 else ROOT / "target/debug/stagedoor").resolve())
