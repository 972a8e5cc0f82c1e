"""The page that hands a customer over, and the receiver of events."""

import json
import time
import urllib.parse
import urllib.request
import uuid

import jwt
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, HttpResponseRedirect
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from standardwebhooks import Webhook, WebhookVerificationError

from tickets.models import Event


@login_required
def sign_in(request):
    """Deposits who the customer is, and sends the browser back with a code."""
    now = time.time()
    token = jwt.encode(
        {
            "iss": settings.TICKETS_ISSUER,
            "aud": "stagedoor",
            "sub": str(request.user.pk),
            "name": request.user.get_full_name(),
            "iat": now,
            "exp": now + 60,
            "jti": uuid.uuid4().hex,
        },
        settings.TICKETS_HANDOFF_SECRET,
        algorithm="HS256",
    )
    deposit = urllib.request.Request(
        f"{settings.TICKETS_URL}/v1/handoffs",
        json.dumps({"token": token}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(deposit, timeout=5) as answer:
        code = json.load(answer)["code"]
    query = urllib.parse.urlencode({"code": code, "state": request.GET.get("state", "")})
    return HttpResponseRedirect(f"{settings.TICKETS_URL}/v1/sign-in/return?{query}")


@csrf_exempt
@require_POST
def events(request):
    """Keeps each event once."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        event = Webhook(settings.TICKETS_EVENTS_SECRET).verify(request.body, headers)
    except WebhookVerificationError:
        return HttpResponse(status=401)
    Event.objects.get_or_create(
        id=event["id"],
        defaults={
            "order": event.get("subject", ""),
            "sequence": event.get("sequence", ""),
            "type": event["type"],
            "customer": event["data"].get("customer"),
            "body": event,
        },
    )
    return HttpResponse(status=204)
