"""May this principal do this now: the checks in order, the first refusal wins."""
