"""Django Oscar on PostgreSQL with 100,000 customers: the servers of the tests that sell tickets for it."""

import glob
import os
import pwd
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

from shop_test import PASSWORD, ROOT, free_port, start, wait_for

HERE = Path(__file__).resolve().parent
CUSTOMERS = 100_000
QUERY_FILE = ROOT / "config/shops/django-oscar.toml"

def start_postgres(scratch, prefix=(), *options):
    """PostgreSQL refuses to run as root: then the package's account runs it. `prefix` is a command that runs it."""
    programs = max(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
    account = {}
    folder = scratch / "postgres"
    folder.mkdir()
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chmod(scratch, 0o711)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        account = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    initdb = [f"{programs}/initdb", "-D", str(folder / "data"), "-U", "postgres", "--auth=trust", "--encoding=UTF8"]
    subprocess.run([*initdb, "--locale=C.UTF-8"], check=True, stdout=subprocess.DEVNULL, cwd=folder, **account)
    port = free_port()
    start(
        [*prefix, f"{programs}/postgres", "-D", str(folder / "data"), "-p", str(port), "-k", "", "-h", "127.0.0.1", *options],
        scratch / "postgres.log",
        cwd=folder,
        **account,
    )
    wait_for("PostgreSQL", lambda: socket.create_connection(("127.0.0.1", port), 1))
    return programs, port


def sql(programs, port, database, text, user="postgres"):
    command = [f"{programs}/psql", "-h", "127.0.0.1", "-p", str(port), "-U", user, "-d", database, "-qAt"]
    ran = None
    for _ in range(50):
        ran = subprocess.run([*command, "-v", "ON_ERROR_STOP=1"], input=text, text=True, capture_output=True)
        if "starting up" not in ran.stderr:
            break
        time.sleep(0.2)
    if ran.returncode:
        raise SystemExit(f"{text[:200]}: {ran.stderr}")
    return ran.stdout.strip()


def add_customers(python, environment, programs, port):
    """100,000 customers who share one hash of each format, made by Django's own hashers."""
    script = (
        "import django; django.setup()\n"
        "from django.conf import settings\n"
        "from django.contrib.auth.hashers import get_hashers\n"
        f"for hasher in get_hashers(): print(hasher.encode({PASSWORD!r}, hasher.salt()))\n"
    )
    made = subprocess.run([python, "-c", script], env=environment, cwd=HERE, text=True, capture_output=True, check=True)
    hashes = made.stdout.split()
    array = ", ".join("'" + stored.replace("'", "''") + "'" for stored in hashes)
    sql(
        programs,
        port,
        "shop",
        f"""INSERT INTO auth_user (password, is_superuser, username, first_name, last_name, email, is_staff, is_active,
            date_joined)
        SELECT (ARRAY[{array}])[1 + i % {len(hashes)}], false, 'fan' || i, 'Fan', i::text,
            CASE WHEN i % 10 = 0 THEN 'Fan' || i || '@Example.com' ELSE 'fan' || i || '@example.com' END, false, true,
            now() FROM generate_series(1, {CUSTOMERS}) AS i;
        ANALYZE auth_user""",
    )
    return hashes


def install(scratch, *more):
    """A Python with Oscar and `more`, unless OSCAR_PYTHON names one."""
    python = os.environ.get("OSCAR_PYTHON")
    if not python:
        print("installing Oscar", flush=True)
        subprocess.run([sys.executable, "-m", "venv", scratch / "python"], check=True)
        python = str(scratch / "python/bin/python")
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", HERE / "requirements.txt", *more], check=True)
    return python


def shop_environment(database_port, tickets):
    """The environment of the shop's own programs; `tickets` are the settings of its app `tickets`."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tickets.settings",
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SHOP_DATABASE_PORT": str(database_port),
        "SHOP_SECRET_KEY": secrets.token_urlsafe(32),
        **tickets,
    }


def make_shop(python, environment, programs, port, scratch):
    """The shop's tables and customers; returns the stored forms of their password."""
    sql(programs, port, "postgres", "CREATE ROLE shop LOGIN; CREATE DATABASE shop OWNER shop")
    for command in (["migrate", "--run-syncdb", "-v", "0"], ["check"]):
        subprocess.run([python, "-m", "django", *command], env=environment, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
    return add_customers(python, environment, programs, port)
