"""What an operator sets: one frozen struct a kind, stored as its JSON document; see `kinds`."""
