"""What a shop adds to sell tickets: one app, its URLs, and settings; for OpenID Connect a package and its settings."""

import os

from fresh.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "oauth2_provider", "tickets"]  # noqa: F405
ROOT_URLCONF = "tickets.urls"
TICKETS_URL = os.environ.get("TICKETS_URL", "")
TICKETS_ISSUER = "https://shop.example"
TICKETS_HANDOFF_SECRET = os.environ.get("TICKETS_HANDOFF_SECRET", "")
TICKETS_EVENTS_SECRET = os.environ.get("TICKETS_EVENTS_SECRET", "")
OAUTH2_PROVIDER = {
    "OIDC_ENABLED": True,
    "OIDC_RSA_PRIVATE_KEY": os.environ.get("TICKETS_OIDC_KEY", ""),
    "SCOPES": {"openid": "Sign in", "profile": "Name"},
}
