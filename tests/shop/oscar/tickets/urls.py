"""The shop's URLs, and two more."""

from django.urls import include, path

from tickets import views

urlpatterns = [
    path("tickets/sign-in", views.sign_in),
    path("tickets/events", views.events),
    path("", include("fresh.urls")),
]
