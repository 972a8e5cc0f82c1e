"""The shop's URLs, and those of the tickets."""

from django.urls import include, path

from tickets import views

urlpatterns = [
    path("tickets/sign-in", views.sign_in),
    path("tickets/events", views.events),
    path("oauth/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("", include("fresh.urls")),
]
