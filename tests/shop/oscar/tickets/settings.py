"""What a shop adds to sell tickets: one app, its URLs, and four settings."""

import os

from fresh.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "tickets"]  # noqa: F405
ROOT_URLCONF = "tickets.urls"
TICKETS_URL = os.environ.get("TICKETS_URL", "")
TICKETS_ISSUER = "https://shop.example"
TICKETS_HANDOFF_SECRET = os.environ.get("TICKETS_HANDOFF_SECRET", "")
TICKETS_EVENTS_SECRET = os.environ.get("TICKETS_EVENTS_SECRET", "")
