#!/usr/bin/env python3
"""Checks that a receiver got exactly the events that ledger and journal tell, in order per order.

It shares no code with the relay and does not read the outbox: what should have been sent follows from the order
journal, the tickets and the queue's journal.

    check_events.py --received FILE --ledger LOCATION --journal LOCATION

FILE has one accepted event a line (JSON), in the order in which they were accepted. LOCATION is a SQLite file or a
postgres:// URL (then psql is needed). Prints every difference; the exit status is 1 when there is one.
"""

import argparse
import collections
import hashlib
import json
import pathlib
import shutil
import sqlite3
import subprocess
import sys

SHORT = {
    "stagedoor.order.booked.v1": "booked",
    "stagedoor.order.paid.v1": "paid",
    "stagedoor.order.canceled.v1": "canceled",
    "stagedoor.order.refunded.v1": "refunded",
    "stagedoor.ticket.voided.v1": "voided",
    "stagedoor.sale.opened.v1": "opened",
    "stagedoor.sale.sold_out.v1": "sold out",
    "stagedoor.sale.closed.v1": "closed",
    "stagedoor.visitor.called.v1": "called",
}


class Database:
    """Read-only queries, on a SQLite file or through psql."""

    def __init__(self, location, schema):
        self.schema = f"{schema}." if location.startswith("postgres") else ""
        self.location = location

    def rows(self, columns, rest):
        """Rows of the columns; `{schema}` in `rest` stands for the schema of the tables."""
        rest = rest.format(schema=self.schema)
        if not self.schema:
            with sqlite3.connect(f"file:{self.location}?mode=ro", uri=True, timeout=10) as db:
                return db.execute(f"SELECT {', '.join(columns)} {rest}").fetchall()
        query = f"SELECT json_build_array({', '.join(columns)})::text {rest}"
        done = subprocess.run(
            [psql(), self.location, "-XAtqc", query], check=True, capture_output=True, text=True, timeout=60
        )
        return [tuple(json.loads(line)) for line in done.stdout.splitlines()]

    def text(self, column):
        """A column of bytes as text."""
        return f"convert_from({column}, 'UTF8')" if self.schema else f"CAST({column} AS TEXT)"


def psql():
    """Debian keeps it where not every user's PATH looks."""
    found = shutil.which("psql") or next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))), None)
    if found is None:
        sys.exit("psql is needed to read a PostgreSQL ledger: install postgresql-client")
    return str(found)


def expected_of_orders(ledger):
    """The events of each order: kinds in order, and what their data must say."""
    changes = collections.defaultdict(list)
    order_by = "id" if ledger.schema else "sequence"
    for order, change in ledger.rows(["order_id", "change"], f"FROM {{schema}}order_journal ORDER BY {order_by}"):
        changes[order].append(change)
    voided = collections.defaultdict(set)
    for order, ticket in ledger.rows(["order_id", "id"], "FROM {schema}ticket WHERE voided_at IS NOT NULL"):
        voided[order].add(ticket)
    seats = collections.defaultdict(set)
    for order, seat in ledger.rows(["order_id", "seat"], "FROM {schema}order_seat"):
        seats[order].add(seat)
    amounts = {order: (sale, amount) for order, sale, amount in ledger.rows(["id", "sale", "amount"], "FROM {schema}orders")}
    expected = {}
    for order, journal in changes.items():
        kinds = kinds_of(journal, len(voided[order]))
        if kinds:
            expected[order] = {"kinds": kinds, "tickets": voided[order], "seats": seats[order], "order": amounts[order]}
    return expected


def kinds_of(journal, voided):
    """An order that ended without tickets tells nothing, unless money came late and went back."""
    kinds, booked, saga = [], False, ""
    for change in journal:
        if change.startswith("saga "):
            saga = change.removeprefix("saga ")
            booked = booked and saga != "late_money"
        elif change == "booked":
            kinds.append("booked")
            booked = True
        elif change == "captured":
            kinds.append("paid")
        elif change in ("canceled", "refunded") and (booked or saga == "late_money"):
            kinds += ["voided"] * voided
            voided = 0
            kinds.append(change if booked else "refunded")
            booked = False
    return kinds


def journal_events(journal):
    """The events of the journal, without joins, each with its sale."""
    for sale, body in journal.rows(["sale", journal.text("body")], "FROM {schema}journal WHERE kind <> 'joins'"):
        try:
            yield sale, json.loads(body)[1]
        except (ValueError, LookupError, TypeError):
            continue


def expected_of_sales(journal):
    """The events of each sale. A sale that called visitors has opened."""
    expected = collections.defaultdict(set)
    for sale, event in journal_events(journal):
        if event.get("kind") in ("called", "admitted"):
            expected[sale].add("opened")
        if event.get("kind") == "stock" and event.get("sold_out"):
            expected[sale].add("sold out")
    return expected


def received_streams(file, problems):
    """The events of each stream as they were first accepted."""
    streams, bodies = collections.defaultdict(list), {}
    for number, line in enumerate(pathlib.Path(file).read_text().splitlines(), 1):
        event = json.loads(line)
        known = bodies.setdefault(event["id"], event)
        if known is not event:
            if known != event:
                problems.append(f"line {number}: {event['id']} came twice, with different content")
            continue
        for attribute in ("specversion", "source", "type", "time", "sequence", "data"):
            if attribute not in event:
                problems.append(f"line {number}: {event['id']} lacks {attribute}")
        streams[event["id"].rsplit(":", 1)[0]].append(event)
    return streams


def possible_calls(journal):
    """Streams of the calls that can have been told: of entries of a sale without a draw that were called."""
    called = collections.defaultdict(int)
    for sale, event in journal_events(journal):
        if event.get("kind") == "called":
            called[sale] = max(called[sale], event["last"])
    digest = lambda entry: hashlib.sha256(entry.encode()).hexdigest()[:32]
    return {f"call-{digest(f'call of {n} in {sale}')}" for sale, last in called.items() for n in range(1, last + 1)}


def compare_order(order, events, expected, problems):
    sequences = [int(event["sequence"]) for event in events]
    if sequences != list(range(1, len(sequences) + 1)):
        problems.append(f"{order}: accepted in the order {sequences}")
    kinds = [SHORT.get(event["type"], event["type"]) for event in events]
    if kinds != expected["kinds"]:
        problems.append(f"{order}: received {kinds}, the ledger tells {expected['kinds']}")
    sale, amount = expected["order"]
    for event in events:
        data = event["data"]
        if event.get("subject") != order or data["order"] != order or not event["source"].endswith(f"/{sale}"):
            problems.append(f"{event['id']}: is about another order or sale")
        if SHORT[event["type"]] != "voided":
            if {seat["guid"] for seat in data["seats"]} != expected["seats"] or data["total"]["amount"] != amount:
                problems.append(f"{event['id']}: seats or total differ from the ledger")
    tickets = {event["data"]["ticket"] for event in events if SHORT[event["type"]] == "voided"}
    if tickets != expected["tickets"]:
        problems.append(f"{order}: voided tickets {sorted(tickets)}, the ledger tells {sorted(expected['tickets'])}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--received", required=True)
    parser.add_argument("--ledger", required=True)
    parser.add_argument("--journal", required=True)
    given = parser.parse_args()
    problems = []
    streams = received_streams(given.received, problems)
    orders = expected_of_orders(Database(given.ledger, "stagedoor_ledger"))
    sales = expected_of_sales(Database(given.journal, "stagedoor_queue"))
    for order, expected in sorted(orders.items()):
        compare_order(order, streams.pop(order, []), expected, problems)
    for sale, expected in sorted(sales.items()):
        events = streams.pop(sale, [])
        kinds = [SHORT.get(event["type"], event["type"]) for event in events]
        # Closing follows from the configuration's time as well, which no journal tells.
        if not expected <= set(kinds) <= expected | {"closed"}:
            problems.append(f"{sale}: received {kinds}, the journal tells {sorted(expected)}")
        sequences = [int(event["sequence"]) for event in events]
        if sequences != sorted(sequences):
            problems.append(f"{sale}: accepted in the order {sequences}")
    calls = possible_calls(Database(given.journal, "stagedoor_queue"))
    for stream in [stream for stream in streams if stream in calls]:
        if [SHORT.get(event["type"]) for event in streams.pop(stream)] != ["called"]:
            problems.append(f"{stream}: one call is one event")
    problems += [f"{stream}: received, but neither ledger nor journal tells it" for stream in sorted(streams)]
    for problem in problems:
        print(problem)
    count = sum(len(expected["kinds"]) for expected in orders.values()) + sum(map(len, sales.values()))
    print(f"{len(orders)} orders and {len(sales)} sales, {count} events expected, {len(problems)} differences")
    if count == 0:
        sys.exit("nothing was expected: is this the right ledger?")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
