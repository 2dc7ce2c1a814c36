"""Carries out a plan: sends the request, relays the answer, knows what went wrong."""
