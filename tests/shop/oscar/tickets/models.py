"""What the shop keeps of the events that it received."""

from django.db import models


class Event(models.Model):
    """One event. Its id makes a repeated delivery harmless."""

    id = models.CharField(primary_key=True, max_length=128)
    order = models.CharField(max_length=64)
    sequence = models.CharField(max_length=32)
    type = models.CharField(max_length=64)
    customer = models.CharField(max_length=128, null=True)
    body = models.JSONField()
